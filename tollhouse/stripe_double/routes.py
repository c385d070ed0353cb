"""Which request goes where, and the SDK's parameter class that it must fit."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tollhouse.stripe_double import credit_notes, customers, events, invoices, lines, meters
from tollhouse.stripe_double.account import Account, Obj, Params

Handler = Callable[[Account, tuple[str, ...], Params], Obj]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. params: dotted class below stripe.params."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler
    params: str


def _route(method: str, path: str, handler: Handler, params: str) -> Route:
    return Route(method, re.compile(re.sub(r":id", r"([^/]+)", path)), handler, params)


_CLOCKS = "/v1/test_helpers/test_clocks"

ROUTES = (
    _route("POST", "/v1/customers", customers.create, "CustomerCreateParams"),
    _route("GET", "/v1/customers", customers.list_, "CustomerListParams"),
    _route("GET", "/v1/customers/:id", customers.retrieve, "CustomerRetrieveParams"),
    _route("POST", "/v1/customers/:id", customers.update, "CustomerUpdateParams"),
    _route("DELETE", "/v1/customers/:id", customers.delete, "CustomerDeleteParams"),
    _route("POST", "/v1/tax_rates", customers.create_tax_rate, "TaxRateCreateParams"),
    _route("GET", "/v1/tax_rates", customers.list_tax_rates, "TaxRateListParams"),
    _route("POST", _CLOCKS, customers.create_clock, "test_helpers.TestClockCreateParams"),
    _route("GET", f"{_CLOCKS}/:id", customers.retrieve_clock, "test_helpers.TestClockRetrieveParams"),
    _route("POST", f"{_CLOCKS}/:id/advance", customers.advance_clock, "test_helpers.TestClockAdvanceParams"),
    _route("DELETE", f"{_CLOCKS}/:id", customers.delete_clock, "test_helpers.TestClockDeleteParams"),
    _route("POST", "/v1/invoices", invoices.create, "InvoiceCreateParams"),
    _route("GET", "/v1/invoices", invoices.list_, "InvoiceListParams"),
    _route("GET", "/v1/invoices/:id", invoices.retrieve, "InvoiceRetrieveParams"),
    _route("POST", "/v1/invoices/:id", invoices.update, "InvoiceUpdateParams"),
    _route("DELETE", "/v1/invoices/:id", invoices.delete, "InvoiceDeleteParams"),
    _route("GET", "/v1/invoices/:id/lines", lines.list_lines, "InvoiceListLinesParams"),
    _route("POST", "/v1/invoices/:id/add_lines", lines.add_lines, "InvoiceAddLinesParams"),
    _route("POST", "/v1/invoices/:id/remove_lines", lines.remove_lines, "InvoiceRemoveLinesParams"),
    _route("POST", "/v1/invoices/:id/finalize", invoices.finalize, "InvoiceFinalizeInvoiceParams"),
    _route("POST", "/v1/invoices/:id/send", invoices.send, "InvoiceSendInvoiceParams"),
    _route("POST", "/v1/invoices/:id/pay", invoices.pay, "InvoicePayParams"),
    _route("POST", "/v1/invoices/:id/void", invoices.void, "InvoiceVoidInvoiceParams"),
    _route(
        "POST", "/v1/invoices/:id/mark_uncollectible", invoices.mark_uncollectible, "InvoiceMarkUncollectibleParams"
    ),
    _route("POST", "/v1/invoiceitems", lines.create_item, "InvoiceItemCreateParams"),
    _route("GET", "/v1/invoice_payments", invoices.list_payments, "InvoicePaymentListParams"),
    _route("POST", "/v1/credit_notes", credit_notes.create, "CreditNoteCreateParams"),
    _route("GET", "/v1/credit_notes", credit_notes.list_, "CreditNoteListParams"),
    _route("GET", "/v1/credit_notes/:id", credit_notes.retrieve, "CreditNoteRetrieveParams"),
    _route("GET", "/v1/disputes/:id", credit_notes.retrieve_dispute, "DisputeRetrieveParams"),
    _route("GET", "/v1/events", events.list_, "EventListParams"),
    _route("GET", "/v1/events/:id", events.retrieve, "EventRetrieveParams"),
    _route("POST", "/v1/billing/meters", meters.create, "billing.MeterCreateParams"),
    _route("GET", "/v1/billing/meters", meters.list_, "billing.MeterListParams"),
    _route("POST", "/v1/billing/meter_events", meters.record, "billing.MeterEventCreateParams"),
    _route("POST", "/v1/billing/meter_event_adjustments", meters.adjust, "billing.MeterEventAdjustmentCreateParams"),
    _route("GET", "/v1/billing/meters/:id/event_summaries", meters.summaries, "billing.MeterListEventSummariesParams"),
)


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    """The route of a request and the ids in its path."""
    for route in ROUTES:
        match = route.pattern.fullmatch(path) if route.method == method else None
        if match:
            return route, match.groups()
    return None
