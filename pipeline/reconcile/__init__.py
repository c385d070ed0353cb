"""Reconciliation: the provider's own usage report minus what was metered, by key, model and class. Pure."""

from pipeline.reconcile.compare import Line, Outcome, compare
from pipeline.reconcile.costs import CostLine, compare_costs
from pipeline.reconcile.rows import CostRow, MeteredRow, ReportRow

__all__ = ["CostLine", "CostRow", "Line", "MeteredRow", "Outcome", "ReportRow", "compare", "compare_costs"]
