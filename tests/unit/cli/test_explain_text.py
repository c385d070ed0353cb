"""How `explain` writes exact decimals for people."""

from tollhouse.cli.invoices import _short


def test_an_endless_decimal_is_cut_with_an_ellipsis_and_a_short_one_is_whole() -> None:
    assert _short("23.7096774193548387096774") == "23.709677419354…"
    assert _short("34.244023") == "34.244023"
    assert _short("26") == "26"
