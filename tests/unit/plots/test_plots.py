"""Plots: the tables behind them exact, the texts in them true, the bytes the same again."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from billing.plots import (
    DayCount,
    Look,
    Mark,
    Minute,
    PlotError,
    QuotaBar,
    daily_table,
    incident,
    month_over_month,
    month_table,
    quota_bars,
    usage_by_day,
)
from billing.plots.canvas import clipped, short_number
from billing.plots.incidents import with_idle_minutes
from billing.plots.quotas import bar_text
from schemas.instants import MINUTE_US, parse_instant
from schemas.invoice import Invoice, InvoiceLine

START = parse_instant("2026-10-03T10:00:00Z")
SVG = Look(format="svg")
PNG_START = b"\x89PNG\r\n\x1a\n"

COUNTS = [
    DayCount(date(2026, 10, 1), "gpt-5", 2**53 + 1),
    DayCount(date(2026, 10, 1), "gpt-5", 2),
    DayCount(date(2026, 10, 3), "$x^2$ <b>&amp;", 5),
]
MINUTES = [Minute(START + n * MINUTE_US, 100 if n < 30 else 900, 110.0) for n in range(60)]
MARKS = [Mark(START + 33 * MINUTE_US, "page: 8 times its level")]
BARS = [
    QuotaBar("daily", Decimal(40), Decimal(8), Decimal(50), "USD"),
    QuotaBar("monthly", Decimal(51000000), Decimal(0), Decimal(50000000), "tokens"),
    QuotaBar("open", Decimal("5.5"), Decimal(0), None, "requests"),
    QuotaBar("shut", Decimal(0), Decimal(0), Decimal(0), "requests"),
]


def bill(month: str, total: str, **more: str) -> Invoice:
    lines = tuple(
        InvoiceLine(f"{type_}-1", type_, type_, Decimal(amount), 0, 1)
        for type_, amount in more.items()
        if type_ in ("usage", "fee", "credit", "tax")
    )
    money = {"lines": lines, "subtotal": Decimal(0), "tax": Decimal(0), "total": Decimal(total)}
    status, currency = more.get("status", "finalised"), more.get("currency", "USD")
    return Invoice("acme", month, 1, status, currency, 0, 1, **money)  # type: ignore[arg-type]


INVOICES = [bill("2026-08", "100.10", usage="100.10"), bill("2026-10", "50.05", usage="70.05", credit="-20.00")]

PLOTS: dict[str, Callable[[Look], bytes]] = {
    "usage": lambda look: usage_by_day(COUNTS, "Tokens", look=look),
    "months": lambda look: month_over_month(INVOICES, "Invoices", look),
    "incident": lambda look: incident(MINUTES, MARKS, "Incident", timezone="Europe/Berlin", look=look),
    "quotas": lambda look: quota_bars(BARS, "Quotas", look),
    "no usage": lambda look: usage_by_day([], "Tokens", look=look),
    "no months": lambda look: month_over_month([], "Invoices", look),
    "no minutes": lambda look: incident([], [], "Incident", look=look),
    "no quotas": lambda look: quota_bars([], "Quotas", look),
}


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_plot_is_a_picture_and_the_same_again(name: str, theme: str) -> None:
    png, svg = Look(theme=theme, width_in=5, height_in=2.5), Look(format="svg", theme=theme)
    assert PLOTS[name](png).startswith(PNG_START)
    assert PLOTS[name](png) == PLOTS[name](png)
    assert PLOTS[name](svg) == PLOTS[name](svg)
    assert ET.fromstring(PLOTS[name](svg)).tag.endswith("svg")


@pytest.mark.parametrize("name", [name for name in PLOTS if name.startswith("no ")])
def test_nothing_to_show_is_said(name: str) -> None:
    assert any(text.startswith("No ") for text in texts(PLOTS[name](SVG)))


def test_usage_sums_are_exact_and_days_without_usage_have_their_place() -> None:
    table = daily_table(COUNTS)
    assert table["gpt-5"].tolist() == [2**53 + 3, 0, 0]
    assert table.index.tolist() == [date(2026, 10, 1), date(2026, 10, 2), date(2026, 10, 3)]


def test_small_series_are_added_up_so_that_none_is_lost() -> None:
    counts = [DayCount(date(2026, 10, 1), f"m{n}", n) for n in range(1, 11)]
    table = daily_table(counts)
    assert table.columns.tolist() == ["m10", "m9", "m8", "m7", "m6", "m5", "m4", "3 others"]
    assert table.iloc[0].tolist() == [10, 9, 8, 7, 6, 5, 4, 6]


def test_names_are_shown_as_they_are_and_sums_in_full() -> None:
    found = texts(usage_by_day(COUNTS, "Tokens of $a$ & <co>", look=SVG))
    assert "$x^2$ <b>&amp;  (5)" in found
    assert f"gpt-5  ({2**53 + 3:,})" in found
    assert "Tokens of $a$ & <co>" in found
    assert "2026-10-01 to 2026-10-03" in found


def test_months_are_exact_gapless_and_know_their_change() -> None:
    void = bill("2026-11", "1.00", usage="1.00", status="void")
    table = month_table([*INVOICES, bill("2026-10", "0.01", fee="0.01"), void])
    assert table.index.tolist() == ["2026-08", "2026-09", "2026-10"]
    assert table["total"].tolist() == [Decimal("100.10"), Decimal(0), Decimal("50.06")]
    assert table["usage"].tolist() == [Decimal("100.10"), Decimal(0), Decimal("70.05")]
    assert table["credit"].tolist() == [Decimal(0), Decimal(0), Decimal("-20.00")]
    assert table["change"].tolist() == [None, Decimal(-1), None]


def test_month_totals_and_changes_are_written_out() -> None:
    found = " ".join(texts(month_over_month([bill("2026-09", "80.00", usage="80"), INVOICES[1]], "t", SVG)))
    assert "80.00" in found
    assert "50.05" in found
    assert "\u221237 %" in found


def test_currencies_are_not_added_up() -> None:
    with pytest.raises(PlotError, match="EUR, USD have no common sum"):
        month_table([*INVOICES, bill("2026-10", "1", currency="EUR")])


def test_idle_minutes_are_zeros_with_the_level_before_them() -> None:
    sparse = [Minute(START + 3 * MINUTE_US, 7, None), Minute(START, 5, 4.0)]
    assert with_idle_minutes(sparse) == [
        Minute(START, 5, 4.0),
        Minute(START + MINUTE_US, 0, 4.0),
        Minute(START + 2 * MINUTE_US, 0, 4.0),
        Minute(START + 3 * MINUTE_US, 7, None),
    ]
    with pytest.raises(PlotError, match="two counts for one minute"):
        with_idle_minutes([Minute(START, 1), Minute(START, 2)])


def test_an_incident_shows_local_times_the_alert_and_the_level() -> None:
    found = texts(incident(MINUTES, MARKS, "Incident", timezone="Europe/Berlin", look=SVG))
    assert "12:33 page: 8 times its level" in found
    assert "2026-10-03, Europe/Berlin" in found
    assert {"tokens a minute", "expected", "more than expected", "12:10"} <= set(found)


def test_an_incident_over_midnight_dates_its_ticks() -> None:
    late = parse_instant("2026-10-03T21:30:00Z")
    minutes = [Minute(late + n * MINUTE_US, 1) for n in range(120)]
    found = texts(incident(minutes, [], "Incident", timezone="Europe/Berlin", look=SVG))
    assert "10-04 00:00" in found
    assert "expected" not in found


def test_an_incident_of_months_is_refused() -> None:
    with pytest.raises(PlotError, match="31 days at most"):
        incident([Minute(START, 1), Minute(START + 32 * 1440 * MINUTE_US, 1)], [], "Incident")


@pytest.mark.parametrize(
    ("bar", "text"),
    [
        (BARS[0], "40 of 50 USD, 8 reserved (80 %)"),
        (BARS[1], "51,000,000 of 50,000,000 tokens (102 %)"),
        (BARS[2], "5.5 requests, no limit"),
        (BARS[3], "0 of 0 requests"),
        (QuotaBar("q", Decimal("49.999"), Decimal(0), Decimal(50)), "49.999 of 50 (99 %)"),
    ],
)
def test_quota_figures_are_exact_and_never_rounded_up(bar: QuotaBar, text: str) -> None:
    assert bar_text(bar) == text


def test_a_full_quota_is_said_not_only_coloured() -> None:
    found = texts(quota_bars(BARS, "Quotas", SVG))
    assert [text.endswith("\u2014 full") for text in found if " of " in text or "no limit" in text] == [
        False, True, False, True]  # fmt: skip
    held = replace_reserved(BARS[0], Decimal(10))
    assert any(text.endswith("full") for text in texts(quota_bars([held], "Quotas", SVG)))


def replace_reserved(bar: QuotaBar, reserved: Decimal) -> QuotaBar:
    return bar._replace(reserved=reserved)


def test_wrong_looks_are_refused() -> None:
    with pytest.raises(PlotError, match="'gif' is not a plot format: use png, svg"):
        Look(format="gif")
    with pytest.raises(PlotError, match="'blue' is not a theme: use light, dark"):
        replace(SVG, theme="blue")


def test_drawing_from_several_threads_gives_the_same_pictures() -> None:
    expected = {name: PLOTS[name](SVG) for name in ("usage", "quotas")}
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda name: (name, PLOTS[name](SVG)), ["usage", "quotas"] * 8))
    assert all(picture == expected[name] for name, picture in drawn)


def test_axis_figures_and_long_names() -> None:
    assert [short_number(value) for value in (0, 999, 1200000, -2.5e9, 3e15)] == [
        "0", "999", "1.2 M", "\u22122.5 G", "3 P"]  # fmt: skip
    assert clipped("a" * 20 + "b" * 20, 11) == "aaaaa\u2026bbbbb"
    assert clipped("short") == "short"
