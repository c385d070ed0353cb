"""Credit notes on open and paid invoices (https://docs.stripe.com/billing/invoices/credit-notes), and disputes."""

from tollhouse.stripe_double.account import Account, Obj, Params, page
from tollhouse.stripe_double.errors import invalid
from tollhouse.stripe_double.invoices import mark_paid


def create(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/credit_notes by amount: first it lowers what remains to be paid, the rest must be split whole."""
    invoice = account.get("invoice", params["invoice"])
    if invoice["status"] not in ("open", "paid", "uncollectible"):
        raise invalid(f"A {invoice['status']} invoice takes no credit note.", param="invoice")
    if "amount" not in params:
        raise invalid("The double makes credit notes by amount only.", param="amount")
    amount = params["amount"]
    given = sum(note["amount"] for note in account.all("credit_note") if _of(note, invoice))
    if amount <= 0 or given + amount > invoice["total"]:
        raise invalid("The credit notes would exceed the invoice.", param="amount")
    before = min(amount, invoice["amount_remaining"])
    after = amount - before
    split = sum(params.get(name, 0) for name in ("refund_amount", "credit_amount", "out_of_band_amount"))
    if split != after:
        raise invalid(f"The split adds up to {split}, not to the {after} after payment.", param="credit_amount")
    note = {
        "id": account.new_id("cn"),
        "object": "credit_note",
        "amount": amount,
        "created": account.now_s(),
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "invoice": invoice["id"],
        "livemode": False,
        "memo": params.get("memo"),
        "metadata": params.get("metadata") or {},
        "number": f"{invoice['number']}-CN-{given + 1:02d}",
        "out_of_band_amount": params.get("out_of_band_amount"),
        "post_payment_amount": after,
        "pre_payment_amount": before,
        "reason": params.get("reason"),
        "status": "issued",
        "subtotal": amount,
        "total": amount,
        "type": "mixed" if before and after else "pre_payment" if before else "post_payment",
        "voided_at": None,
    }
    account.get("customer", invoice["customer"])["balance"] -= params.get("credit_amount", 0)
    invoice["amount_remaining"] -= before
    invoice["amount_due"] -= before
    invoice["pre_payment_credit_notes_amount"] += before
    invoice["post_payment_credit_notes_amount"] += after
    account.add("credit_note", note)
    account.emit("credit_note.created", note)
    if invoice["status"] == "open" and invoice["amount_remaining"] == 0:
        mark_paid(account, invoice, account.now_s())
    return note


def _of(note: Obj, invoice: Obj) -> bool:
    return bool(note["invoice"] == invoice["id"] and note["status"] == "issued")


def retrieve(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """GET /v1/credit_notes/:id"""
    return account.get("credit_note", ids[0])


def list_(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """GET /v1/credit_notes by invoice or customer"""
    names = ("invoice", "customer")
    rows = [r for r in account.all("credit_note") if all(r[name] == params[name] for name in names if name in params)]
    return page(rows, params, "/v1/credit_notes")


def dispute(account: Account, invoice_id: str) -> Obj:
    """A bank disputes the payment of the invoice (from outside: no API call makes one)."""
    payment = next((p for p in account.all("invoice_payment") if p["invoice"] == invoice_id), None)
    if payment is None:
        raise invalid(f"Invoice {invoice_id} has no payment to dispute.")
    row = {
        "id": account.new_id("du"),
        "object": "dispute",
        "amount": payment["amount_paid"],
        "charge": account.new_id("ch"),
        "created": account.now_s(),
        "currency": payment["currency"],
        "livemode": False,
        "metadata": {},
        "payment_intent": payment["payment"]["payment_intent"],
        "reason": "general",
        "status": "needs_response",
    }
    account.add("dispute", row)
    account.emit("charge.dispute.created", row)
    return row


def retrieve_dispute(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """GET /v1/disputes/:id"""
    return account.get("dispute", ids[0])
