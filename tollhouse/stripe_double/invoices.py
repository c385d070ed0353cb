"""Invoices: draft, open, paid, void, uncollectible, with Stripe's arithmetic (https://docs.stripe.com/invoicing)."""

from typing import Any

from tollhouse.stripe_double import customers
from tollhouse.stripe_double.account import DAY_S, Account, Obj, Params, created_within, merge_metadata, page
from tollhouse.stripe_double.currencies import MINIMUM_CHARGE, problem
from tollhouse.stripe_double.errors import ApiError, invalid
from tollhouse.stripe_double.lines import draft, total

_EDITABLE = (
    "description", "footer", "days_until_due", "collection_method", "auto_advance", "number", "default_tax_rates",
)  # fmt: skip


def create(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/invoices: always a draft; pending items stay out unless asked for, which is not modelled."""
    if "customer" not in params:
        raise invalid("You must pass a customer.", param="customer", code="parameter_missing", stored=False)
    customer = customers.live(account, params["customer"])
    method = params.get("collection_method", "charge_automatically")
    _due_allowed(method, params)
    if method == "send_invoice" and "days_until_due" not in params and "due_date" not in params:
        raise invalid("An invoice to send needs days_until_due or due_date.", param="days_until_due")
    if params.get("pending_invoice_items_behavior", "exclude") != "exclude":
        raise invalid("The double has no pending items: use exclude.", param="pending_invoice_items_behavior")
    _number_free(account, params.get("number"))
    now_s = account.now_s(customer)
    invoice: dict[str, Any] = {
        "id": account.new_id("in"),
        "object": "invoice",
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": params.get("auto_advance", False),
        "billing_reason": "manual",
        "collection_method": method,
        "created": now_s,
        "currency": str(params.get("currency") or customer.get("currency") or "usd").lower(),
        "customer": customer["id"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "days_until_due": params.get("days_until_due"),
        "default_tax_rates": params.get("default_tax_rates") or [],
        "description": params.get("description"),
        "due_date": params.get("due_date"),
        "ending_balance": None,
        "footer": params.get("footer"),
        "hosted_invoice_url": None,
        "last_finalization_error": None,
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "number": params.get("number"),
        "parent": None,
        "period_end": now_s,
        "period_start": now_s,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": "draft",
        "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        "amount_paid": 0,
        "amount_overpaid": 0,
        "amount_shipping": 0,
    }
    account.add("invoice", invoice)
    account.lines[invoice["id"]] = []
    total(account, invoice)
    account.emit("invoice.created", invoice)
    return invoice


def _due_allowed(method: str, params: Params) -> None:
    if method != "send_invoice" and ("days_until_due" in params or "due_date" in params):
        raise invalid("Only an invoice to send has a due date.", param="days_until_due")


def _number_free(account: Account, number: str | None, but: str = "") -> None:
    if number and any(row["number"] == number and row["id"] != but for row in account.all("invoice")):
        raise invalid(f"The invoice number {number} is taken.", param="number")


def retrieve(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """GET /v1/invoices/:id"""
    return account.get("invoice", ids[0])


def list_(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """GET /v1/invoices: filters on customer, status, collection method and created; none on metadata."""
    names = ("customer", "status", "collection_method")
    rows = [r for r in account.all("invoice") if all(r[name] == params[name] for name in names if name in params)]
    return page(created_within(rows, params.get("created")), params, "/v1/invoices")


def update(account: Account, ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/invoices/:id: a finalised one takes only metadata and auto_advance."""
    invoice = account.get("invoice", ids[0])
    fixed = set(params) - {"metadata", "auto_advance", "expand"}
    if invoice["status"] != "draft" and fixed:
        raise invalid(f"Finalized invoices can't be updated in this way: {', '.join(sorted(fixed))}")
    _number_free(account, params.get("number"), invoice["id"])
    invoice["metadata"] = merge_metadata(invoice["metadata"], params.get("metadata"))
    invoice.update({key: params[key] for key in _EDITABLE if key in params})
    if invoice["status"] == "draft":
        total(account, invoice)
    account.emit("invoice.updated", invoice)
    return invoice


def delete(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """DELETE /v1/invoices/:id: drafts only."""
    invoice = draft(account, ids[0])
    del account.objects["invoice"][invoice["id"]]
    account.emit("invoice.deleted", invoice)
    return {"id": invoice["id"], "object": "invoice", "deleted": True}


def finalize(account: Account, ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/invoices/:id/finalize: number, customer balance, and the minimum charge rule."""
    invoice = account.get("invoice", ids[0])
    if invoice["status"] != "draft":
        raise invalid("This invoice is already finalized", code="invoice_not_editable")
    if not account.lines[invoice["id"]]:
        raise invalid("The invoice has no line items.", code="invoice_no_customer_line_items")
    wrong = problem(invoice["total"], invoice["currency"])
    if wrong:
        raise invalid(wrong, param="amount")
    customer = account.get("customer", invoice["customer"])
    now_s = account.now_s(customer)
    invoice["auto_advance"] = params.get("auto_advance", invoice["auto_advance"])
    invoice["number"] = invoice["number"] or f"DOUBLE-{account.counter:06d}"
    if invoice["collection_method"] == "send_invoice" and invoice["due_date"] is None:
        invoice["due_date"] = now_s + invoice["days_until_due"] * DAY_S
    invoice["hosted_invoice_url"] = f"https://invoice.example/{invoice['id']}"
    invoice["status_transitions"]["finalized_at"] = now_s
    invoice["starting_balance"] = customer["balance"]
    invoice["status"] = "open"
    total(account, invoice)
    _settle_balance(invoice, customer)
    account.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        mark_paid(account, invoice, now_s)
    return invoice


def _settle_balance(invoice: Obj, customer: Obj) -> None:
    """What the balance pays or takes over. Below the minimum charge the whole amount goes to the balance, and the
    invoice counts as paid though no cash came (the SDK's docstring of Invoice)."""
    owed = invoice["total"] + invoice["starting_balance"]
    minimum = MINIMUM_CHARGE.get(invoice["currency"], 0)
    customer["currency"] = customer["currency"] or invoice["currency"]
    if 0 < owed < minimum:
        customer["balance"] = owed
        invoice["amount_due"] = invoice["amount_remaining"] = 0
    else:
        customer["balance"] = min(0, owed)
    invoice["ending_balance"] = customer["balance"]


def mark_paid(account: Account, invoice: Obj, now_s: int) -> None:
    """Open to paid, with its events."""
    invoice["amount_paid"] += invoice["amount_remaining"]
    invoice["amount_remaining"] = 0
    invoice["status"] = "paid"
    invoice["status_transitions"]["paid_at"] = now_s
    account.emit("invoice.paid", invoice)
    account.emit("invoice.payment_succeeded", invoice)


def send(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """POST /v1/invoices/:id/send: a draft is finalised first; only for send_invoice."""
    invoice = account.get("invoice", ids[0])
    if invoice["collection_method"] != "send_invoice":
        raise invalid("You can only send an invoice whose collection method is send_invoice.")
    if invoice["status"] == "draft":
        finalize(account, ids, {})
    if invoice["status"] in ("void", "uncollectible"):
        raise invalid(f"A {invoice['status']} invoice is not sent.")
    account.emit("invoice.sent", invoice)
    return invoice


def pay(account: Account, ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/invoices/:id/pay with the customer's payment method; one named …Declined is declined."""
    invoice = account.get("invoice", ids[0])
    if invoice["status"] == "draft":
        finalize(account, ids, {})
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] not in ("open", "uncollectible"):
        raise invalid(f"A {invoice['status']} invoice cannot be paid.")
    customer = account.get("customer", invoice["customer"])
    now_s = account.now_s(customer)
    if params.get("paid_out_of_band"):
        mark_paid(account, invoice, now_s)
        return invoice
    method = params.get("payment_method") or customer["invoice_settings"]["default_payment_method"]
    invoice["attempted"] = True
    if not method:
        raise invalid("The customer has no default payment method.", code="resource_missing", param="payment_method")
    invoice["attempt_count"] += 1
    if "declined" in method.lower():
        account.emit("invoice.payment_failed", invoice)
        raise ApiError(402, "card_error", "Your card was declined.", code="card_declined")
    payment = {
        "id": account.new_id("inpay"),
        "object": "invoice_payment",
        "amount_paid": invoice["amount_remaining"],
        "amount_requested": invoice["amount_remaining"],
        "created": now_s,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"type": "payment_intent", "payment_intent": account.new_id("pi")},
        "status": "paid",
        "status_transitions": {"canceled_at": None, "paid_at": now_s},
    }
    account.add("invoice_payment", payment)
    mark_paid(account, invoice, now_s)
    return invoice


def void(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """POST /v1/invoices/:id/void: open or uncollectible only; what the balance paid goes back to it."""
    invoice = account.get("invoice", ids[0])
    if invoice["status"] not in ("open", "uncollectible"):
        raise invalid(f"You can only void open or uncollectible invoices, not {invoice['status']} ones.")
    customer = account.get("customer", invoice["customer"])
    customer["balance"] += min(0, invoice["starting_balance"]) - min(0, invoice["ending_balance"] or 0)
    invoice["status"] = "void"
    invoice["amount_remaining"] = invoice["amount_due"]
    invoice["status_transitions"]["voided_at"] = account.now_s(customer)
    account.emit("invoice.voided", invoice)
    return invoice


def mark_uncollectible(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """POST /v1/invoices/:id/mark_uncollectible: open only."""
    invoice = account.get("invoice", ids[0])
    if invoice["status"] != "open":
        raise invalid("Only an open invoice can be marked uncollectible.")
    invoice["status"] = "uncollectible"
    invoice["status_transitions"]["marked_uncollectible_at"] = account.now_s()
    account.emit("invoice.marked_uncollectible", invoice)
    return invoice


def list_payments(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """GET /v1/invoice_payments by invoice or by payment intent."""
    rows = account.all("invoice_payment")
    if "invoice" in params:
        rows = [row for row in rows if row["invoice"] == params["invoice"]]
    wanted = (params.get("payment") or {}).get("payment_intent")
    if wanted:
        rows = [row for row in rows if row["payment"]["payment_intent"] == wanted]
    return page(rows, params, "/v1/invoice_payments")
