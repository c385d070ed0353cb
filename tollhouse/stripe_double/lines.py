"""The lines of a draft and the sums over them, taxes included (https://docs.stripe.com/invoicing)."""

from decimal import ROUND_HALF_UP, Decimal

from tollhouse.stripe_double.account import Account, Obj, Params, merge_metadata, page
from tollhouse.stripe_double.currencies import problem
from tollhouse.stripe_double.errors import invalid

LINES_MAX = 250
LINES_SHOWN = 10
_SHARED = ("amount", "currency", "description", "invoice", "livemode", "metadata", "period")


def draft(account: Account, invoice_id: str) -> Obj:
    """The invoice, if it can still change."""
    invoice = account.get("invoice", invoice_id)
    if invoice["status"] != "draft":
        raise invalid("This invoice is no longer editable", code="invoice_not_editable")
    return invoice


def total(account: Account, invoice: Obj) -> None:
    """Recompute the sums of a draft from its lines, and show the first lines in it."""
    lines = account.lines[invoice["id"]]
    for line in lines:
        line["taxes"] = _line_taxes(account, invoice, line)
    subtotal = sum(line["amount"] for line in lines)
    taxes = [tax for line in lines for tax in line["taxes"]]
    exclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
    inclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    invoice["subtotal"] = subtotal
    invoice["total"] = subtotal + exclusive
    invoice["total_taxes"] = taxes
    invoice["total_excluding_tax"] = subtotal - inclusive
    invoice["subtotal_excluding_tax"] = subtotal - inclusive
    due = max(0, invoice["total"] + (invoice["starting_balance"] if invoice["status"] != "draft" else 0))
    invoice["amount_due"] = due
    invoice["amount_remaining"] = due
    show_lines(account, invoice)


def show_lines(account: Account, invoice: Obj) -> None:
    """The first lines as a list within the invoice; the rest is behind its url."""
    url = f"/v1/invoices/{invoice['id']}/lines"
    invoice["lines"] = page(account.lines[invoice["id"]], {"limit": LINES_SHOWN}, url)


def _line_taxes(account: Account, invoice: Obj, line: Obj) -> list[Obj]:
    if line["_tax_amounts"]:
        return [
            {
                "amount": tax["amount"],
                "tax_behavior": "inclusive" if tax["tax_rate_data"]["inclusive"] else "exclusive",
                "taxable_amount": tax["taxable_amount"],
                "taxability_reason": "not_available",
                "type": "tax_rate_details",
            }
            for tax in line["_tax_amounts"]
        ]
    taxes = []
    for rate_id in line["_tax_rates"] or invoice["default_tax_rates"]:
        rate = account.get("tax_rate", rate_id)
        share = rate["percentage"] / (100 + (rate["percentage"] if rate["inclusive"] else 0))
        amount = int((Decimal(line["amount"]) * share).quantize(Decimal(1), rounding=ROUND_HALF_UP))
        behaviour = "inclusive" if rate["inclusive"] else "exclusive"
        taxes.append({
            "amount": amount,
            "tax_behavior": behaviour,
            "tax_rate_details": {"tax_rate": rate_id},
            "taxability_reason": "not_available",
            "taxable_amount": line["amount"],
            "type": "tax_rate_details",
        })  # fmt: skip
    return taxes


def new_line(account: Account, invoice: Obj, params: Params, item_id: str) -> Obj:
    """A line of a draft from the parameters of an invoice item or of a bulk row."""
    currency = invoice["currency"]
    if "currency" in params and params["currency"].lower() != currency:
        raise invalid("The item's currency differs from the invoice's.", param="currency")
    amount = params.get("amount")
    if amount is None and "unit_amount_decimal" in params:
        exact = params["unit_amount_decimal"] * params.get("quantity_decimal", params.get("quantity", 1))
        amount = int(Decimal(exact).quantize(Decimal(1), rounding=ROUND_HALF_UP))
    if amount is None:
        raise invalid("A line needs an amount or a price.", param="amount")
    wrong = problem(amount, currency)
    if wrong:
        raise invalid(wrong, param="amount")
    period = params.get("period") or {"start": invoice["created"], "end": invoice["created"]}
    if period["end"] < period["start"]:
        raise invalid("The period ends before it starts.", param="period[end]")
    return {
        "id": account.new_id("il"),
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": params.get("description"),
        "discount_amounts": [],
        "discountable": params.get("discountable", amount >= 0),
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "parent": {"type": "invoice_item_details", "invoice_item_details": {"invoice_item": item_id}},
        "period": dict(period),
        "quantity": params.get("quantity", 1),
        "subtotal": amount,
        "taxes": [],
        "_tax_amounts": params.get("tax_amounts") or [],
        "_tax_rates": params.get("tax_rates") or [],
    }


def attach(account: Account, invoice: Obj, rows: list[Params]) -> list[Obj]:
    """Add lines all or none; 250 an invoice (https://docs.stripe.com/changelog/2016-02-22/no-more-than-250-invoice-items)."""
    lines = account.lines[invoice["id"]]
    if len(lines) + len(rows) > LINES_MAX:
        raise invalid(f"An invoice can have at most {LINES_MAX} items.", param="lines")
    new = [new_line(account, invoice, row, account.new_id("ii")) for row in rows]
    lines.extend(new)
    total(account, invoice)
    account.emit("invoice.updated", invoice)
    return new


def create_item(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/invoiceitems: bound to a draft; free-floating items are not modelled."""
    if "invoice" not in params:
        raise invalid("The double binds each item to an invoice.", param="invoice")
    invoice = draft(account, params["invoice"])
    if params.get("customer", invoice["customer"]) != invoice["customer"]:
        raise invalid("The invoice belongs to another customer.", param="customer")
    (line,) = attach(account, invoice, [params])
    item = {
        "id": line["parent"]["invoice_item_details"]["invoice_item"],
        "object": "invoiceitem",
        "customer": invoice["customer"],
        "date": invoice["created"],
        **{key: line[key] for key in _SHARED},
    }
    return account.add("invoiceitem", item)


def add_lines(account: Account, ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/invoices/:id/add_lines (https://docs.stripe.com/invoicing/bulk-update-line-item)."""
    invoice = draft(account, ids[0])
    invoice["metadata"] = merge_metadata(invoice["metadata"], params.get("invoice_metadata"))
    attach(account, invoice, params["lines"])
    return invoice


def remove_lines(account: Account, ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/invoices/:id/remove_lines"""
    invoice = draft(account, ids[0])
    gone = {row["id"] for row in params["lines"]}
    lines = account.lines[invoice["id"]]
    if gone - {line["id"] for line in lines}:
        raise invalid("No such line item.", code="resource_missing", param="lines")
    account.lines[invoice["id"]] = [line for line in lines if line["id"] not in gone]
    total(account, invoice)
    account.emit("invoice.updated", invoice)
    return invoice


def list_lines(account: Account, ids: tuple[str, ...], params: Params) -> Obj:
    """GET /v1/invoices/:id/lines"""
    account.get("invoice", ids[0])
    return page(account.lines[ids[0]], params, f"/v1/invoices/{ids[0]}/lines")
