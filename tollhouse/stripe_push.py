"""Stripe and the ledger: where pushes are remembered, which invoices go, what comes back."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from billing.lifecycle import Refused, transition
from billing.stripe_gateway import (
    BookSummary,
    Drift,
    MeterResult,
    PushResult,
    StatusUpdate,
    StripeGateway,
    hourly_readings,
    make_client,
    push_book,
    push_meter_events,
)
from billing.stripe_gateway import Settings as GatewaySettings
from billing.stripe_gateway.store import Record
from pipeline.ledger import Connection, Ledger, books
from pipeline.ledger.figures import DRIFT, DRIFT_WHOLE, STRIPE
from pipeline.ledger.readers import rollup_records
from schemas.instants import SECOND_US
from schemas.invoice import Invoice
from schemas.tokens import TOKEN_CLASSES
from tollhouse.closing import load_book, save_invoice
from tollhouse.errors import UserError
from tollhouse.settings import Settings


class LedgerStore:
    """The gateway's memory in the ledger: each record is committed when `put` returns."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def get(self, key: str) -> Record | None:
        """The record, or None."""
        text = self._ledger.read(lambda connection: books.get(connection, STRIPE, key))
        return json.loads(text) if text is not None else None

    def put(self, key: str, record: Record) -> None:
        """Replace the record whole."""
        text = json.dumps(dict(record), sort_keys=True)
        self._ledger.write(lambda connection: books.put(connection, STRIPE, key, text))

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys with the prefix."""
        found = self._ledger.read(lambda connection: books.get_all(connection, STRIPE))
        return iter([key for key in found if key.startswith(prefix)])


def gateway_of(settings: Settings, ledger: Ledger, *, live: bool = False) -> StripeGateway:
    """The gateway by the settings; UserError for a key that is missing or of live mode without `live`."""
    try:
        client = make_client(
            settings.secret("STRIPE_SECRET_KEY"), api_base=settings.stripe_api_base or None, allow_live=live
        )
    except ValueError as error:
        raise UserError(f"STRIPE_SECRET_KEY: {error}") from None
    return StripeGateway(client, LedgerStore(ledger), GatewaySettings(taxes=settings.stripe_tax))


def push(
    gateway: StripeGateway,
    ledger: Ledger,
    month: str,
    now_us: int,
    *,
    dry_run: bool = False,
    tenants: Collection[str] | None = None,
    progress: Callable[[int, int, PushResult], None] = lambda _done, _of, _result: None,
) -> BookSummary:
    """Bring the month to Stripe, of all tenants or of some: voids, closed invoices, credit notes; drafts stay here.

    Each invoice that arrives gets the status pushed.
    """
    catalog = ledger.context().catalog
    book = ledger.read(lambda connection: load_book(connection, month=month))
    known = [
        (invoice, catalog.tenants[invoice.tenant])
        for invoice in sorted(book.invoices, key=lambda i: (i.tenant, i.revision))
        if invoice.status != "draft"
        and invoice.tenant in catalog.tenants
        and (tenants is None or invoice.tenant in tenants)
    ]
    live = {invoice.tenant: invoice for invoice, _ in known if invoice.status != "void"}

    def note(done: int, total: int, result: PushResult) -> None:
        invoice = live[result.tenant]
        if not dry_run and result.outcome in ("pushed", "already", "skipped") and invoice.status == "finalised":
            save_invoice(ledger, transition(invoice, "pushed"), now_us)
        progress(done, total, result)

    notes = [n for n in book.credit_notes if tenants is None or n.tenant in tenants]
    return push_book(gateway, known, notes, dry_run=dry_run, progress=note)


def push_meters(
    gateway: StripeGateway, ledger: Ledger, meter: str, event_name: str, now_us: int, since_us: int
) -> list[MeterResult]:
    """Hourly sums of a meter from the rollups, as Stripe meter events; hours that are not over yet wait."""
    tenants = ledger.context().catalog.tenants
    caller = gateway.caller()
    customers = {name: gateway.customers.find(caller, tenant, make=True) for name, tenant in tenants.items()}

    def rows(connection: Connection) -> list[tuple[str, int, int]]:
        found = rollup_records(connection, None, since_us, None)
        return [(row["tenant"], row["quarter_us"], _units(row, meter)) for row in found if row["pooled"]]

    readings = hourly_readings(ledger.read(rows), {t: c for t, c in customers.items() if c}, event_name, now_us)
    return push_meter_events(gateway, readings, now_us // SECOND_US)


def note_drift(
    ledger: Ledger, found: Collection[Drift], compared: Collection[Invoice], month: str | None, now_us: int
) -> None:
    """Keep by month how many of the compared invoices differ from Stripe's, for the figures that an alert rule reads.

    month: the one that was compared; None: all, so that months without an invoice of ours any more are settled too.
    """
    months = Counter({invoice.month: 0 for invoice in compared} if month is None else {month: 0})
    months.update(one.month for one in found)

    def work(connection: Connection) -> None:
        known = [name.removeprefix(DRIFT) for name in books.get_all(connection, STRIPE) if name.startswith(DRIFT)]
        for one in months if month is not None else {*months, *known}:
            kinds = Counter(row.kind for row in found if row.month == one)
            record = {"at_us": now_us, "kinds": dict(sorted(kinds.items()))}
            books.put(connection, STRIPE, f"{DRIFT}{one}", json.dumps(record, sort_keys=True))
        if month is None:
            books.put(connection, STRIPE, DRIFT_WHOLE, json.dumps({"at_us": now_us}))

    ledger.write(work)


def _units(row: Mapping[str, Any], meter: str) -> int:
    return sum(row[name] for name in TOKEN_CLASSES) if meter == "tokens" else int(row[meter])


def apply_update(ledger: Ledger, update: StatusUpdate, now_us: int) -> Invoice | None:
    """Bring an invoice to the status that Stripe reports; the invoice if that changed it, None if it did not."""

    def find(connection: Connection) -> Invoice | None:
        book = load_book(connection, update.tenant, update.month)
        return next((i for i in book.revisions(update.tenant, update.month) if i.revision == update.revision), None)

    invoice = ledger.read(find)
    if invoice is None or invoice.status == update.status or invoice.status in ("draft", "void"):
        return None
    try:
        moved = transition(invoice, update.status)
    except Refused:
        # Void and paid happen at Stripe without us; what ours cannot follow shows in the drift report.
        return None
    save_invoice(ledger, moved, now_us)
    return moved
