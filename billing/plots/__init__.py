"""Plots where people would rather look: PNG and SVG, light and dark, the same bytes for the same data."""

from billing.plots.canvas import FORMATS, THEMES, Look, PlotError
from billing.plots.incidents import Mark, Minute, incident
from billing.plots.months import month_over_month, month_table
from billing.plots.quotas import QuotaBar, quota_bars
from billing.plots.scores import HourScore, leak_scores
from billing.plots.usage import DayCount, daily_table, usage_by_day

__all__ = [
    "FORMATS",
    "THEMES",
    "DayCount",
    "HourScore",
    "Look",
    "Mark",
    "Minute",
    "PlotError",
    "QuotaBar",
    "daily_table",
    "incident",
    "leak_scores",
    "month_over_month",
    "month_table",
    "quota_bars",
    "usage_by_day",
]
