"""Laws of money: what must hold for any usage, any split and any order of it."""

import json
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.explain import check_sums, explain
from billing.lines import fee_lines
from billing.periods import plan_days
from billing.taxes import spread
from pipeline.prices import ProviderPrices
from pipeline.rating import rate_usage
from pipeline.rating.ndjson import RateStream
from pipeline.rating.pricing import Segment, price_segments
from schemas.catalog import Charge, Tier
from schemas.instants import DAY_US, MINUTE_US, QUARTER_US
from schemas.invoice import Invoice
from schemas.money import EXACT
from schemas.periods import days_in_month, month_period
from schemas.tokens import CLASSES
from schemas.usage import UsageRow
from tests.unit.billing.office import Office, at
from tests.unit.rating.catalogs import catalog_of, markup, per_unit, price, tiered
from tests.unit.rating.usage_memory import MemoryUsage, event

JULY = month_period("2026-07", "UTC")
MODELS = ("m-a", "m-b", "x")
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

prices_text = st.decimals(min_value=0, max_value=5, places=4).map(str)
counts = st.dictionaries(st.sampled_from(CLASSES), st.integers(0, 60), max_size=4)
events = st.lists(
    st.builds(
        lambda time_us, model, pooled, requests, units: event(
            time_us, model=model, pooled=pooled, key="k1" if pooled else "own", requests=requests, **units
        ),
        # some fall into the same quarter of an hour, so that allowances end inside one
        st.one_of(
            st.integers(JULY.start_us, JULY.end_us - 1),
            st.integers(at("2026-07-14T23:55:00Z"), at("2026-07-15T00:20:00Z")),
        ),
        st.sampled_from(MODELS),
        st.sampled_from((True, True, True, False)),
        st.integers(0, 2),
        counts,
    ),
    max_size=14,
)


@st.composite
def charges(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A rate card that covers everything, by some mixture of meters and models."""
    made = []
    for _ in range(draw(st.integers(0, 4))):
        meter = draw(st.sampled_from((*CLASSES, "tokens", "requests")))
        models = draw(st.sampled_from(("*", "m-*", "x")))
        kind = draw(st.sampled_from(("per_unit", "graduated", "volume", "package", "flat")))
        if kind == "per_unit":
            made.append(per_unit(meter, draw(prices_text), models, draw(st.sampled_from((1, 1000)))))
        elif kind == "package":
            size = draw(st.integers(1, 50))
            made.append({"meter": meter, "models": models, "model": kind, "size": size, "price": draw(prices_text)})
        elif kind == "flat":
            made.append({"meter": meter, "models": models, "model": kind, "price": draw(prices_text)})
        else:
            bounds = sorted(draw(st.sets(st.integers(1, 200), max_size=2)))
            tiers = [(bound, draw(prices_text)) for bound in [*bounds, None]]
            made.append(tiered(kind, meter, *tiers, models=models))
    return [*made, markup("0.25")]


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Plan p with one or two versions."""
    allowance = st.fixed_dictionaries(
        {
            "meter": st.sampled_from(("tokens", "input", "output", "requests", "web_searches")),
            "models": st.sampled_from(("*", "m-*", "m-a")),
            "amount": st.integers(0, 150),
        }
    )
    versions = [
        {
            "from": start,
            "fee": {"amount": draw(st.sampled_from(("0.00", "49.00", "31.01")))},
            "minimum": draw(st.sampled_from(("0.00", "100.00"))),
            "allowances": draw(st.lists(allowance, max_size=2)),
            "charges": draw(charges()),
        }
        for start in ("2026-01-01", "2026-07-15")[: draw(st.integers(1, 2))]
    ]
    return {"p": versions}


PRICES = [price(model, **dict.fromkeys(CLASSES, "0.013")) for model in MODELS]


class SingleEvents(MemoryUsage):
    """The same usage, never summed: every event is its own row."""

    def rows(self, tenant: str, start_us: int, end_us: int, span_max_us: int = QUARTER_US) -> list[UsageRow]:
        return self.events(tenant, start_us, end_us)


@QUICK
@given(plans(), events)
def test_sums_by_quarter_rate_as_their_events_do(terms: dict[str, Any], rows: list[UsageRow]) -> None:
    catalog = catalog_of(terms, provider_prices=PRICES)
    prices = ProviderPrices(catalog.provider_prices, seed=None)
    summed, single = (
        rate_usage(catalog, prices, "acme", JULY, source(rows), rates_at_us=JULY.end_us)
        for source in (MemoryUsage, SingleEvents)
    )
    assert summed == single


@QUICK
@given(plans(), events, st.randoms(use_true_random=False))
def test_arrival_order_changes_nothing(terms: dict[str, Any], rows: list[UsageRow], shuffled: Any) -> None:
    distinct = list({row.time_us: row for row in rows}.values())
    mixed = list(distinct)
    shuffled.shuffle(mixed)
    invoices = []
    for arrival in (distinct, mixed):
        office = Office(terms, provider_prices=PRICES)
        for row in arrival:
            office.usage.add(row)
        invoices.append(office.bill("2026-07"))
    assert invoices[0] == invoices[1]


@QUICK
@given(plans(), events)
def test_every_metered_unit_is_in_one_line(terms: dict[str, Any], rows: list[UsageRow]) -> None:
    terms = {"p": [{**v, "charges": [c for c in v["charges"] if c["meter"] != "cost"]} for v in terms["p"]]}
    for version in terms["p"]:
        version["charges"] += [per_unit("tokens", "1"), per_unit("web_searches", "1"), per_unit("requests", "1")]
    office = Office(terms)
    for row in rows:
        office.usage.add(row)
    invoice = office.bill("2026-07")
    metered = sum((line.quantity or 0 for line in invoice.lines if line.type == "usage"), Decimal(0))
    assert metered == sum(sum(row.classes) + row.requests for row in rows if row.pooled)


def amount(charge: Charge, *quantities: int) -> Decimal:
    """All segments of one charge, in one run."""
    with localcontext(EXACT):
        segments = price_segments([Segment(charge, quantity) for quantity in quantities])
        return sum((part.amount for parts in segments for part in parts), Decimal(0))


tier_lists = st.lists(st.tuples(st.integers(1, 400), prices_text), max_size=3, unique_by=lambda t: t[0]).map(
    lambda found: (*(Tier(up_to, Decimal(text)) for up_to, text in sorted(found)), Tier(None, Decimal("0.1")))
)


@given(st.sampled_from(("graduated", "volume")), tier_lists, st.lists(st.integers(0, 300), min_size=1, max_size=5))
def test_a_month_in_several_runs_is_the_month_in_one(model: str, tiers: tuple[Tier, ...], parts: list[int]) -> None:
    charge = Charge("input", "*", model, per=1000, tiers=tiers)
    assert amount(charge, *parts) == amount(charge, sum(parts))


@given(st.integers(1, 50), st.lists(st.integers(0, 300), min_size=1, max_size=5))
def test_packages_and_flat_prices_do_not_depend_on_the_split(size: int, parts: list[int]) -> None:
    package = Charge("input", "*", "package", price=Decimal("0.7"), size=size)
    assert amount(package, *parts) == amount(package, sum(parts)) == Decimal("0.7") * -(-sum(parts) // size)
    flat = Charge("input", "*", "flat", price=Decimal("0.7"))
    assert amount(flat, *parts) == (Decimal("0.7") if sum(parts) else 0)


@given(tier_lists, st.integers(0, 1000))
def test_volume_and_graduated_agree_in_the_first_tier(tiers: tuple[Tier, ...], units: int) -> None:
    first = tiers[0].up_to
    units = units if first is None else min(units, first)
    volume, graduated = (amount(Charge("input", "*", kind, tiers=tiers), units) for kind in ("volume", "graduated"))
    assert volume == graduated == units * tiers[0].price


@given(tier_lists, st.integers(0, 1000))
def test_graduated_is_the_sum_of_its_units_one_by_one(tiers: tuple[Tier, ...], units: int) -> None:
    charge = Charge("input", "*", "graduated", tiers=tiers)
    one_by_one = sum(
        (next(t.price for t in tiers if t.up_to is None or number <= t.up_to) for number in range(1, units + 1)),
        Decimal(0),
    )
    assert amount(charge, units) == one_by_one


credits_given = st.lists(
    st.fixed_dictionaries(
        {
            "amount": st.decimals(min_value=Decimal("0.01"), max_value=400, places=2).map(str),
            "priority": st.integers(1, 2),
            "from": st.sampled_from(("2026-01-01", "2026-07-05", "2026-07-15T12:00:00Z", "2026-08-01")),
            "expires": st.sampled_from(
                ("2026-07-10", "2026-07-15T12:00:01Z", "2026-07-31", "2026-09-15", "2027-01-01")
            ),
        }
    ).filter(lambda credit: credit["from"] < credit["expires"]),
    max_size=4,
)


def office_with(terms: dict[str, Any], granted: list[dict[str, Any]], *, inclusive: bool, adjust: str) -> Office:
    return Office(
        terms,
        tenant={"billing": {"country": "DE"}},
        provider_prices=PRICES,
        credits=[{"id": f"c{i}", "tenant": "acme", **credit} for i, credit in enumerate(granted)],
        taxes=[{"country": "DE", "rate": "0.19", "name": "VAT", "inclusive": inclusive}],
        invoicing={"grace": "48h", "adjust": adjust},
    )


def check(invoice: Invoice, office: Office) -> None:
    """What holds for every invoice."""
    check_sums(invoice)
    assert invoice.total >= 0
    assert invoice.tax >= 0
    credit = sum((line.amount for line in invoice.lines if line.type == "credit"), Decimal(0))
    on_top = sum((tax.amount for tax in invoice.taxes if not tax.inclusive), Decimal(0))
    assert invoice.total == invoice.subtotal + credit + on_top
    assert len({line.id for line in invoice.lines}) == len(invoice.lines)
    for line in invoice.lines:
        assert line.amount == line.amount.quantize(Decimal("0.01"))
        assert line.type not in ("usage", "fee") or line.amount >= 0
        assert line.type != "credit" or line.amount < 0
        assert line.unrounded is None or line.type == "true_up" or abs(line.amount - line.unrounded) <= Decimal("0.005")
    for line in invoice.lines:
        if invoice.month == "2026-08":
            explain(invoice, line.id, office.usage, office.terms)


@QUICK
@given(
    plans(), events, events, credits_given, st.booleans(), st.sampled_from(("next_invoice", "credit_note")), st.data()
)
def test_books_balance_through_late_usage_voids_and_runs(
    terms: dict[str, Any],
    rows: list[UsageRow],
    late: list[UsageRow],
    granted: list[dict[str, Any]],
    inclusive: bool,
    adjust: str,
    data: st.DataObject,
) -> None:
    office = office_with(terms, granted, inclusive=inclusive, adjust=adjust)
    for row in rows:
        office.usage.add(row)
    check(office.bill("2026-07"), office)
    for row in late:
        office.usage.add(row)
    if rows and data.draw(st.booleans()):
        office.usage.remove(data.draw(st.sampled_from(rows)))
    for row in data.draw(events):
        office.usage.add(row._replace(time_us=row.time_us + 31 * DAY_US - MINUTE_US))
    check(office.bill("2026-08"), office)
    if data.draw(st.booleans()):
        office.void("2026-07")
        check(office.bill("2026-07"), office)
    for month in ("2026-09", "2026-10"):
        check(office.bill(month), office)
    for balance in office.credits().values():
        assert balance.granted == balance.used + balance.remaining + balance.expired
        assert min(balance.used, balance.remaining, balance.expired) >= 0
    assert len({invoice.number for invoice in office.book.invoices}) == len(office.book.invoices)
    settled = office.book.of_tenant("acme")
    again = [office.bill(invoice.month) for invoice in settled]
    assert again == settled
    _tenant_paid_for_its_usage(office, settled)


def _tenant_paid_for_its_usage(office: Office, settled: list[Invoice]) -> None:
    """All invoices and notes together come to the charges of the usage as it is now, plus what is carried on."""
    fresh = replace(office.book, invoices=(), credit_notes=(), sequences={})
    kept, office.book = office.book, fresh
    owed = sum((office.bill(invoice.month).subtotal for invoice in settled), Decimal(0))
    office.book = kept
    billed = sum((invoice.subtotal for invoice in settled), Decimal(0))
    noted = sum((note.net for invoice in settled for note in kept.notes_on(invoice)), Decimal(0))
    carried = max(settled, key=lambda invoice: invoice.month).carried
    assert billed - noted + carried == owed


@given(
    st.decimals(min_value=0, max_value=1000, places=2),
    st.lists(st.decimals(min_value=0, max_value=50, places=2), min_size=1, max_size=8),
)
def test_tax_over_the_lines_adds_up_and_is_near_each_share(tax: Decimal, weights: list[Decimal]) -> None:
    parts = spread(tax, weights, "USD")
    whole = sum(weights, Decimal(0))
    assert sum(parts, Decimal(0)) == (tax if whole else 0)
    for part, weight in zip(parts, weights, strict=True):
        assert not whole or abs(part - tax * weight / whole) < Decimal("0.01")


months = st.sampled_from(("2026-02", "2026-03", "2026-07", "2026-10", "2028-02"))
zones = st.sampled_from(
    ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Cairo")
)


@given(
    months, zones, st.lists(st.tuples(st.integers(1, 31), st.sampled_from("abc")), max_size=4, unique_by=lambda t: t[0])
)
def test_each_day_of_a_month_belongs_to_one_plan(month: str, zone: str, changes: list[tuple[int, str]]) -> None:
    length = days_in_month(month)
    dated = [
        {"plan": plan, "from": f"{month}-{min(day, length):02d}"} for day, plan in sorted(changes) if day <= length
    ]
    assignments = [{"plan": "a", "from": "2026-01-01"}, *dated]
    catalog = catalog_of({name: {"charges": []} for name in "abc"}, tenant={"plan": assignments, "timezone": zone})
    found = plan_days(catalog.tenants["acme"], catalog.plans, month)
    assert sum(part.days() for part in found) == length
    assert [part.at_end for part in found].count(True) == 1


@QUICK
@given(plans(), st.lists(st.tuples(st.sampled_from(MODELS), counts, st.integers(0, 3)), max_size=5))
def test_the_rate_stream_agrees_with_the_invoice(
    terms: dict[str, Any], calls: list[tuple[str, dict[str, int], int]]
) -> None:
    catalog = catalog_of(terms, provider_prices=PRICES)
    prices = ProviderPrices(catalog.provider_prices, seed=None)
    start = at("2026-07-20")
    rows = [
        event(start + i, model=model, requests=requests, **units) for i, (model, units, requests) in enumerate(calls)
    ]
    rated = rate_usage(catalog, prices, "acme", JULY, SingleEvents(rows), rates_at_us=JULY.end_us)
    usage = [
        {"model": model, "provider": "openai", "tokens": units, "requests": requests}
        for model, units, requests in calls
    ]
    line = {"id": 1, "plan": "p", "at": "2026-07-20T00:00:00Z", "usage": usage}
    answer = json.loads(RateStream(catalog, lambda _: prices).answer(json.dumps(line).encode()))
    shown = [
        (found["meter"], found["models"], Decimal(found["quantity"]), Decimal(found["unrounded"]))
        for found in answer["lines"]
    ]
    assert sorted(shown) == sorted((c.meter, c.models, c.quantity, c.amount) for c in rated.charges)
    assert [(u["model"], u["meter"]) for u in answer.get("unrated", [])] == list(rated.unrated)


@QUICK
@given(plans(), events, events)
def test_usage_within_a_tier_adds_up_over_any_split(
    terms: dict[str, Any], rows: list[UsageRow], others: list[UsageRow]
) -> None:
    """Where nothing but prices a unit is charged, two parts of a month's usage come to what the whole comes to."""
    linear = {"p": [{**v, "allowances": [], "charges": _linear(v["charges"])} for v in terms["p"]]}
    catalog = catalog_of(linear, provider_prices=PRICES)
    prices = ProviderPrices(catalog.provider_prices, seed=None)

    def amount_of(used: list[UsageRow]) -> Decimal:
        rated = rate_usage(catalog, prices, "acme", JULY, MemoryUsage(used), rates_at_us=JULY.end_us)
        return sum((charge.amount for charge in rated.charges), Decimal(0))

    assert amount_of(rows) + amount_of(others) == amount_of([*rows, *others])


def _linear(charges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The charges, tiered ones with all usage in their first tier, those by package or period left out."""
    kept = []
    for charge in charges:
        if charge["model"] in ("graduated", "volume"):
            first = charge["tiers"][0]["price"]
            kept.append({**charge, "tiers": [{"up_to": 10**9, "price": first}, {"price": "77"}]})
        elif charge["model"] not in ("package", "flat"):
            kept.append(charge)
    return kept


@QUICK
@given(
    months,
    zones,
    st.lists(st.integers(2, 28), max_size=3, unique=True),
    st.decimals(min_value=1, max_value=500, places=2),
)
def test_prorated_parts_sum_to_the_whole_fee(month: str, zone: str, changes: list[int], fee: Decimal) -> None:
    """The same fee on every plan: however often the tenant changes, the exact parts come to one month's fee."""
    terms = {name: {"fee": {"amount": str(fee)}, "charges": []} for name in "abcd"}
    dated = [{"plan": name, "from": f"{month}-{day:02d}"} for name, day in zip("bcd", sorted(changes), strict=False)]
    catalog = catalog_of(terms, tenant={"plan": [{"plan": "a", "from": "2026-01-01"}, *dated], "timezone": zone})
    days = plan_days(catalog.tenants["acme"], catalog.plans, month)
    lines = fee_lines(days, days_in_month(month), month_period(month, zone), "USD")
    with localcontext(EXACT):
        assert abs(sum((line.unrounded or 0 for line in lines), Decimal(0)) - fee) < Decimal("1e-50")
    assert abs(sum((line.amount for line in lines), Decimal(0)) - fee) <= Decimal("0.005") * len(lines)
    assert sum((part.quantity for line in lines for part in line.parts), Decimal(0)) == days_in_month(month)
