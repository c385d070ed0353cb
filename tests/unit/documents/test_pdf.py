"""PDF: what a reader finds on it. How it looks was judged by eye; here is what must not get lost."""

import io
import re
from dataclasses import replace
from decimal import Decimal

import pypdf
import pytest

from billing.documents import DocumentError, render, render_credit_note
from billing.documents.view import breakable, invoice_view, line_view, price_text
from billing.documents.wording import date_text, money_text, number_text, percent_text, period_text
from schemas.catalog import Party
from schemas.instants import parse_instant
from schemas.invoice import Invoice, LinePart, TaxSum
from schemas.periods import month_period
from tests.unit.documents import samples


def pages(data: bytes) -> list[str]:
    """Text of each page, with plain blanks and no invisible places to break."""
    texts = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages]
    return [re.sub(r"[ \u00a0]+", " ", text.replace("\u200b", "")) for text in texts]


def printed(invoice: Invoice, paper: str = "a4", timezone: str = samples.ZONE) -> str:
    return "\n".join(pages(render(invoice, "pdf", paper=paper, timezone=timezone)))


def test_an_invoice_says_what_the_law_and_the_payer_ask() -> None:
    text = printed(samples.exclusive())
    for words in (
        "Example Cloud Ltd", "1 Example Street", "Tax ID IE1234567A", "Acme GmbH", "10115 Berlin",
        "Tax ID DE123456789", "INV-2026-000042", "3 November 2026", "17 November 2026", "1 to 31 October 2026",
        "Input tokens, gpt-5-mini", "123,456,789", "0.30 per 1,000,000", "37.04", "for September 2026", "\u22123.10",
        "Subtotal", "145.90", "Credit cr-1", "\u221245.90", "Net amount after credits", "100.00",
        "VAT 19 % on 100.00", "19.00", "Total (USD)", "119.00",
        "Payable within 14 days of the issue date, by 17 November 2026.", "Page 1 of 1",
    ):  # fmt: skip
        assert words in text, words
    assert "DRAFT" not in text


def test_each_price_behind_a_line_is_shown() -> None:
    text = printed(samples.exclusive())
    assert re.search(r"Allowance · gpt-5-mini\s+1,000,000\s+0.00 per 1,000,000\s+0.00", text)
    assert re.search(r"Tier 2 · price from 16 October 2026 · gpt-5\s+2,345,678\s+2.00 per 1,000,000\s+4.691356", text)


def test_tax_within_the_prices_is_named_below_the_total() -> None:
    text = printed(samples.inclusive())
    assert text.index("Total (USD)") < text.index("includes VAT 19 % on net 100.00")
    assert "VAT 19 % on 119" not in text


def test_a_draft_bears_a_watermark_and_asks_for_nothing() -> None:
    text = printed(samples.draft())
    assert "DRAFT" in text
    assert "not a request for payment" in text
    assert "Held: unrated usage: model mystery-1, meter input" in text
    assert "Due date" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "void"}, "This invoice is void."),
        ({"status": "paid"}, "This invoice is paid."),
        ({"total": Decimal(0)}, "Nothing is to be paid on this invoice."),
        ({"days_until_due": 0}, "Payable on receipt, by 3 November 2026."),
        ({"days_until_due": 1}, "Payable within 1 day of the issue date"),
        ({"note": "Reverse charge: the recipient is liable for the tax."}, "Reverse charge: the recipient is liable"),
        ({"carried": Decimal("-7.5")}, "Carried to the next invoice: \u22127.50 USD."),
        ({"revision": 2}, "Revision"),
        ({"lines": ()}, "No charges in this period."),
    ],
)
def test_what_an_invoice_says_of_itself(change: dict[str, object], words: str) -> None:
    assert words in printed(replace(samples.exclusive(), **change))  # type: ignore[arg-type]


def test_a_void_invoice_has_no_due_date_and_a_watermark() -> None:
    text = printed(replace(samples.exclusive(), status="void"))
    assert "VOID" in text
    assert "Due date" not in text


def test_a_credit_note_is_positive_and_names_its_invoice() -> None:
    data = render_credit_note(samples.credit_note(), samples.exclusive(), "pdf", timezone=samples.ZONE)
    (text,) = pages(data)
    text = " ".join(text.split())
    for words in (
        "Credit note", "CN-2026-000007", "Credit on invoice INV-2026-000042 of October 2026: voided", "For invoice",
        "Net amount", "100.00", "VAT 19 %", "19.00", "Total credited (USD)", "119.00", "5 November 2026",
    ):  # fmt: skip
        assert words in text, words
    assert "\u2212" not in text


def test_a_long_invoice_repeats_its_head_and_counts_its_pages() -> None:
    found = pages(render(samples.long(), "pdf", timezone=samples.ZONE))
    assert len(found) > 5
    for number, text in enumerate(found, start=1):
        assert f"Page {number} of {len(found)}" in text
        assert "Unit price" in text
        assert number == 1 or "Invoice INV-2026-000042" in text
    assert "Total (USD)" in found[-1]
    together = "\n".join(found)
    assert all(f"model-{n:03d}" in together for n in range(300) if n % 7)


def test_a_line_stays_on_one_page_with_its_prices() -> None:
    for text in pages(render(samples.long(), "pdf", timezone=samples.ZONE)):
        for number in re.findall(r"model-(\d\d3)\n", text):
            assert re.search(rf"model-{number}\s[^m]*Tier 1.*?Tier 2.*?Tier 3", text, re.DOTALL), number


@pytest.mark.parametrize(("paper", "size"), [("a4", (595, 842)), ("letter", (612, 792))])
def test_papers(paper: str, size: tuple[int, int]) -> None:
    box = pypdf.PdfReader(io.BytesIO(render(samples.exclusive(), "pdf", paper=paper))).pages[0].mediabox
    assert (round(box.width), round(box.height)) == size


def test_data_is_shown_and_never_evaluated() -> None:
    texts = ['#read("/etc/passwd")', "$x^2$", "*bold* _it_ `raw`", "<R&D> @ref", "#{1+1}", "\\u{41} //c", "]#lorem(9)["]
    lines = tuple(samples.line(f"u{n}", "usage", text, "1.00") for n, text in enumerate(texts))
    buyer = Party("#panic()", "$1$\n*x*", "DE", "#tax", "=mail")
    text = printed(replace(samples.exclusive(), lines=lines, buyer=buyer))
    for words in (*texts, "#panic()", "$1$", "*x*", "Tax ID #tax", "=mail"):
        assert words in text, words


def test_a_fee_says_its_days_and_cuts_endless_decimals_with_an_ellipsis() -> None:
    third = Decimal(49) * 20 / 31
    part = LinePart(Decimal(20), Decimal("49.00"), 31, third, "team", note="20 of 31 days")
    line = samples.line("f", "fee", "Monthly fee, plan team", "31.61", parts=(part,))
    text = printed(replace(samples.exclusive(), lines=(line,)))
    assert re.search(r"20 of 31 days\s+49.00\s+31.61290322\u2026", text)
    whole = replace(line, parts=(replace(part, quantity=Decimal(31), amount=Decimal(49)),))
    view = line_view(whole, samples.exclusive(), samples.ZONE)
    assert (view["price"], view["parts"]) == ("49.00", [])


def test_model_names_are_never_written_otherwise() -> None:
    parts = tuple(LinePart(Decimal(n), Decimal(1), 1, Decimal(n), "team", models=("gpt-5",)) for n in (1, 2))
    line = samples.line("u", "usage", "Input tokens", "3.00", meter="input", parts=parts, quantity=Decimal(3))
    text = printed(replace(samples.exclusive(), lines=(line,)))
    assert "gpt-5" in text
    assert "Gpt-5" not in text


def test_lines_name_their_plan_where_there_are_several() -> None:
    lines = tuple(samples.line(f"u{plan}", "usage", "Tokens", "1.00", plan=plan) for plan in ("team", "scale"))
    both = printed(replace(samples.exclusive(), lines=lines))
    assert "plan team" in both
    assert "plan scale" in both
    assert "plan team" not in printed(replace(samples.exclusive(), lines=lines[:1]))


def test_started_packages_are_told_from_the_quantity() -> None:
    part = LinePart(Decimal(2), Decimal("1.00"), 1, Decimal("2.00"), "team", note="started packages of 1000")
    line = samples.line("p", "usage", "Requests", "2.00", meter="requests", parts=(part,), quantity=Decimal(1500))
    assert re.search(
        r"Started packages of 1000\s+2\s+1.00\s+2.00", printed(replace(samples.exclusive(), lines=(line,)))
    )


def test_credits_given_back_are_named_on_the_credit_note() -> None:
    note = replace(samples.credit_note(), credits=(("cr-1", Decimal(5)),))
    (text,) = pages(render_credit_note(note, samples.exclusive(), "pdf"))
    assert "Given back to credit cr-1: 5.00 USD." in text


def test_two_taxes_within_the_prices_share_one_net_amount() -> None:
    taxes = tuple(TaxSum(name, Decimal("0.1"), True, Decimal(120), Decimal(10)) for name in ("VAT", "Levy"))
    text = printed(replace(samples.inclusive(), taxes=taxes))
    assert "includes VAT 10 % on net 100.00" in text
    assert "includes Levy 10 % on net 100.00" in text


def test_long_names_get_places_to_break() -> None:
    assert breakable("x" * 50) == "x" * 22 + "\u200b" + "x" * 22 + "\u200b" + "x" * 6
    assert breakable("short words stay as they are") == "short words stay as they are"
    text = printed(replace(samples.exclusive(), buyer=Party("N" * 120, "A" * 120)))
    assert "N" * 120 in text.replace("\n", "")


def test_dates_are_those_of_the_tenants_zone() -> None:
    invoice = replace(samples.exclusive(), finalised_at_us=parse_instant("2026-11-03T04:30:00Z"))
    october = month_period("2026-10", "America/New_York")
    invoice = replace(invoice, period_start_us=october.start_us, period_end_us=october.end_us)
    text = printed(invoice, timezone="America/New_York")
    assert "2 November 2026" in text
    assert "1 to 31 October 2026" in text


def test_the_fonts_are_inside_and_the_date_is_the_invoices() -> None:
    reader = pypdf.PdfReader(io.BytesIO(render(samples.exclusive(), "pdf", timezone=samples.ZONE)))
    fonts = [font.get_object() for font in reader.pages[0]["/Resources"]["/Font"].values()]  # type: ignore[index]
    assert fonts
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
        assert {"/FontFile", "/FontFile2", "/FontFile3"} & set(descriptor)
    assert reader.metadata is not None
    assert str(reader.metadata["/CreationDate"]).startswith("D:20261103")
    assert reader.metadata.title == "Invoice INV-2026-000042"


def test_greek_and_cyrillic_names_are_set_and_a_letter_without_a_font_is_refused() -> None:
    assert "Ελλάς Ж" in printed(replace(samples.exclusive(), buyer=Party("Ελλάς Ж")))
    with pytest.raises(DocumentError, match=r"no font on this machine has '\\U000f0000' \(U\+F0000\)"):
        render(replace(samples.exclusive(), buyer=Party("\U000f0000")), "pdf")


def test_tax_lines_without_a_sum_by_rate_are_still_shown() -> None:
    rows = invoice_view(replace(samples.exclusive(), taxes=()), "a4", samples.ZONE)["totals"]
    assert {"text": "VAT 19 %", "amount": "19.00", "kind": ""} in rows


def test_wording() -> None:
    assert money_text(Decimal("-1234567.5"), "USD") == "\u22121,234,567.50"
    assert money_text(Decimal("0.00012"), "USD") == "0.00012"
    assert money_text(Decimal(1234), "JPY") == "1,234"
    assert number_text(Decimal("1234567.250")) == "1,234,567.25"
    assert percent_text(Decimal("0.077")) == "7.7 %"
    assert price_text(Decimal("0.3"), 1, "USD") == "0.30"
    assert price_text(Decimal("2.4000"), 1000, "USD") == "2.40 per 1,000"
    assert date_text(samples.usage()[0].date) == "2 October 2026"
    september = month_period("2026-09", "UTC")
    october = month_period("2026-10", "UTC")
    assert period_text(september.start_us, october.end_us, "UTC") == "1 September 2026 to 31 October 2026"
    assert period_text(october.start_us, october.start_us + 1, "UTC") == "1 October 2026"
