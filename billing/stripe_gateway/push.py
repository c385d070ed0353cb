"""One invoice to Stripe: customer, draft, lines, totals, finalise, send or charge. Each step can be the last of a run
that was killed, and the next run goes on from what exists at Stripe.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import stripe

from billing.stripe_gateway.calls import Caller, Declined, Gone, Refused, metadata_of
from billing.stripe_gateway.customers import Customers
from billing.stripe_gateway.lines import Plan, Row, cut, digest, params_of, plan, reference
from billing.stripe_gateway.result import PushResult, Settings
from schemas.catalog import Tenant
from schemas.invoice import Invoice


@dataclass(slots=True)
class Push:
    """One invoice's push: what it works with, and what is known so far. record: what the store kept of it."""

    client: stripe.StripeClient
    customers: Customers
    settings: Settings
    caller: Caller
    invoice: Invoice
    tenant: Tenant
    blank: PushResult
    record: dict[str, str] = field(init=False)
    rivals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record = dict(self.caller.store.get(f"invoice/{self.ref}") or {})

    @property
    def ref(self) -> str:
        """The invoice's name in the store and at Stripe."""
        return reference(self.invoice)

    def run(self, *, dry_run: bool) -> PushResult:
        """All steps that are left. NoPlan, Refused and Unreachable pass."""
        if self.invoice.status in ("draft", "void"):
            raise Refused(f"is_{self.invoice.status}", f"a {self.invoice.status} invoice is not pushed")
        if not self.invoice.lines:
            return replace(self.blank, outcome="skipped", reason="no_lines")
        rows = plan(self.invoice, self.settings.taxes)
        if self.record.get("state") == "done" and not dry_run:
            return self._result("already", rows, self.record)
        customer = self.customers.find(self.caller, self.tenant, make=not dry_run)
        remote = self.find(customer) if customer else None
        if dry_run:
            return self._dry(rows, customer, remote)
        if remote is None:
            if self.rivals:
                raise Refused("other_revision", f"{', '.join(self.rivals)} bills the same month: push its void first")
            remote = self._create(customer)
        self._belongs(remote, customer)
        if self.record.get("stripe_id") != remote.id:
            self._keep(stripe_id=remote.id, customer=customer)
        if remote.status == "draft":
            remote = self._fill(remote, rows)
            remote = self._finalise(remote.id)
        if remote.total != rows.total_minor:
            raise Refused(
                "total_differs", f"{remote.id} is {remote.status} with {remote.total}, not {rows.total_minor}"
            )
        payment_error = self._collect(remote) if self.settings.send else ""
        if payment_error or remote.status != "paid":
            remote = self._fresh(remote.id) if self._charges() else remote
        self._keep(state="done", status=str(remote.status), url=remote.hosted_invoice_url or "",
                   payment_error=payment_error, notes="\n".join(_notes(remote)))  # fmt: skip
        return self._result("pushed", rows, self.record)

    # -- what exists -------------------------------------------------------------------------------------------------

    def find(self, customer: str) -> stripe.Invoice | None:
        """Our invoice at Stripe: by the id that we kept, else among the customer's. Not by search: that lags."""
        kept = self.record.get("stripe_id")
        if kept:
            try:
                return self._fresh(kept)
            except Gone:
                self._keep(stripe_id="")  # a draft that somebody deleted
        return self._look_up(customer)

    def _look_up(self, customer: str) -> stripe.Invoice | None:
        service = self.client.v1.invoices
        mine: Any = {"customer": customer}
        self.rivals = []
        for found in self.caller.pages(lambda paging, options: service.list(paging | mine, options)):
            if metadata_of(found).get("inv") == self.ref:
                return cast("stripe.Invoice", found)
            if self._rival(found):
                self.rivals.append(found.id)
        return None

    def _rival(self, found: stripe.Invoice) -> bool:
        """Another revision of the same month that the customer still has to pay, or has paid."""
        metadata = metadata_of(found)
        mine = (cut(self.invoice.tenant), self.invoice.month)
        if "inv" not in metadata or (metadata.get("tenant"), metadata.get("month")) != mine:
            return False
        given_back = found.pre_payment_credit_notes_amount + found.post_payment_credit_notes_amount
        return found.status != "void" and (found.status == "draft" or given_back < found.total)

    def _fresh(self, stripe_id: str) -> stripe.Invoice:
        return self.caller.read(lambda options: self.client.v1.invoices.retrieve(stripe_id, None, options))

    def _belongs(self, remote: stripe.Invoice, customer: str) -> None:
        if remote.customer != customer:
            raise Refused("other_customer", f"{remote.id} belongs to {remote.customer}, the tenant is {customer}")
        if remote.currency != self.invoice.currency.lower():
            raise Refused("other_currency", f"{remote.id} is in {remote.currency}")
        if remote.status == "void":
            raise Refused(
                "voided_at_stripe", f"{remote.id} was voided at Stripe: void the invoice here, then run again"
            )

    # -- steps -------------------------------------------------------------------------------------------------------

    def _charges(self) -> bool:
        return self.tenant.billing.collection == "charge_automatically"

    def _create(self, customer: str) -> stripe.Invoice:
        invoice = self.invoice
        params: dict[str, Any] = {
            "customer": customer,
            "auto_advance": False,
            "collection_method": self.tenant.billing.collection,
            "currency": invoice.currency.lower(),
            "description": cut(f"Usage in {invoice.month}"),
            "metadata": {
                "inv": self.ref,
                "tenant": cut(invoice.tenant),
                "month": invoice.month,
                "revision": str(invoice.revision),
            },
            "pending_invoice_items_behavior": "exclude",  # so that nobody else's items come in
        }
        if not self._charges():
            params["days_until_due"] = invoice.days_until_due
        if invoice.number and self.settings.own_numbers:
            params["number"] = invoice.number
        footer = _footer(invoice)
        if footer:
            params["footer"] = footer
        made: Any = params
        try:
            return self.caller.once(
                f"{self.ref}:create",
                lambda: self._look_up(customer),
                lambda options: self.client.v1.invoices.create(made, options),
            )
        except Refused as error:
            if error.reason == "resource_missing":  # the customer was deleted at Stripe since we found it
                self.customers.forget(self.tenant)
            raise

    def _fill(self, remote: stripe.Invoice, rows: Plan) -> stripe.Invoice:
        """Add what is missing, take out what is not ours to keep, and compare the total."""
        have = self._lines(remote) if remote.lines.data or remote.lines.has_more else []
        stale = _stale(have, rows)
        if stale:
            self._remove(remote.id, stale)
        kept = {metadata_of(line)["k"] for line in have if line.id not in stale}
        missing = [row for row in rows.rows if row.key not in kept]
        size = self.settings.lines_per_call
        for start in range(0, len(missing), size):
            remote = self._add(remote.id, missing[start : start + size])
        if stale and not missing:
            remote = self._fresh(remote.id)
        if remote.total != rows.total_minor:
            raise Refused(
                "total_differs", f"the draft {remote.id} adds up to {remote.total}, the invoice to {rows.total_minor}"
            )
        return remote

    def _lines(self, remote: stripe.Invoice) -> list[stripe.InvoiceLineItem]:
        service = self.client.v1.invoices.line_items
        return list(self.caller.pages(lambda paging, options: service.list(remote.id, paging, options)))

    def _add(self, stripe_id: str, rows: list[Row]) -> stripe.Invoice:
        keys = {row.key for row in rows}
        params: Any = {"lines": [params_of(row) for row in rows]}

        def find() -> stripe.Invoice | None:
            remote = self._fresh(stripe_id)
            present = {metadata_of(line).get("k") for line in self._lines(remote)}
            if keys & present and not keys <= present:
                raise Refused("half_added", f"{stripe_id} holds part of one call's lines: run the push again")
            return remote if keys <= present else None

        return self.caller.once(
            f"{self.ref}:lines:{digest(row.key for row in rows)}",
            find,
            lambda options: self.client.v1.invoices.add_lines(stripe_id, params, options),
        )

    def _remove(self, stripe_id: str, line_ids: set[str]) -> None:
        params: Any = {"lines": [{"id": line_id, "behavior": "delete"} for line_id in sorted(line_ids)]}

        def find() -> stripe.Invoice | None:
            remote = self._fresh(stripe_id)
            return None if line_ids & {line.id for line in self._lines(remote)} else remote

        self.caller.once(
            f"{self.ref}:remove:{digest(sorted(line_ids))}",
            find,
            lambda options: self.client.v1.invoices.remove_lines(stripe_id, params, options),
        )

    def _finalise(self, stripe_id: str) -> stripe.Invoice:
        def find() -> stripe.Invoice | None:
            remote = self._fresh(stripe_id)
            return None if remote.status == "draft" else remote

        return self.caller.once(
            f"{self.ref}:finalise",
            find,
            lambda options: self.client.v1.invoices.finalize_invoice(stripe_id, {"auto_advance": False}, options),
        )

    def _collect(self, remote: stripe.Invoice) -> str:
        """Send or charge an open invoice; why the charge was declined, if it was."""
        if remote.status != "open":
            return ""
        service = self.client.v1.invoices
        if not self._charges():
            # Stripe does not show whether an invoice was sent: within a day the key answers, later it is sent again.
            never: Callable[[], stripe.Invoice | None] = lambda: None  # noqa: E731
            self.caller.once(
                f"{self.ref}:send",
                never,
                lambda options: service.send_invoice(remote.id, {}, options),
                can_look=False,
            )
            return ""

        def find() -> stripe.Invoice | None:
            now = self._fresh(remote.id)
            return now if now.status == "paid" else None

        try:
            self.caller.once(f"{self.ref}:pay", find, lambda options: service.pay(remote.id, {}, options))
        except Declined as error:
            return f"{error.reason}: {error}"
        except Refused as error:
            return f"{error.reason}: {error}"  # no payment method, say: the invoice is out, the charge is not
        return ""

    # -- results -----------------------------------------------------------------------------------------------------

    def _keep(self, **fields: str) -> None:
        self.record = {**self.record, **fields}
        self.caller.store.put(f"invoice/{self.ref}", self.record)

    def _result(self, outcome: str, rows: Plan, record: Mapping[str, str]) -> PushResult:
        return replace(
            self.blank,
            outcome=outcome,
            stripe_id=record.get("stripe_id", ""),
            status=record.get("status", ""),
            total_minor=rows.total_minor,
            url=record.get("url", ""),
            payment_error=record.get("payment_error", ""),
            notes=tuple(note for note in record.get("notes", "").split("\n") if note),
            detail_csv=rows.detail,
        )

    def _dry(self, rows: Plan, customer: str, remote: stripe.Invoice | None) -> PushResult:
        """What a push would change, line by line."""
        diff: list[str] = [] if customer else [f"+ customer for {self.tenant.id}"]
        have: dict[str, stripe.InvoiceLineItem] = {}
        if remote is None:
            diff.append(f"+ invoice {self.ref}: {rows.total_minor} {self.invoice.currency}")
        else:
            have = {metadata_of(line).get("k", line.id): line for line in self._lines(remote)}
        for row in rows.rows:
            line = have.pop(row.key, None)
            if line is None:
                diff.append(f"+ {row.key}: {row.amount_minor}")
            elif line.amount != row.amount_minor:
                diff.append(f"~ {row.key}: {line.amount} -> {row.amount_minor}")
        diff += [f"- {key}: {line.amount}" for key, line in have.items()]
        if remote is None or remote.status == "draft":
            diff.append("= finalise, then " + ("charge" if self._charges() else "send"))
        found = {} if remote is None else {"stripe_id": remote.id, "status": str(remote.status)}
        return replace(self._result("planned", rows, found), diff=tuple(diff))


def _stale(have: list[stripe.InvoiceLineItem], rows: Plan) -> set[str]:
    """Ids of lines in the draft that must go: of other amounts or tax, of unknown or doubled keys. Refused: lines not
    ours."""
    wanted = {row.key: (row.amount_minor, row.tax[0] if row.tax else 0) for row in rows.rows}
    stale: set[str] = set()
    seen: set[str] = set()
    for line in have:
        key = metadata_of(line).get("k")
        if key is None:
            raise Refused("foreign_line", f"the draft holds a line that is not ours: {line.id} {line.description!r}")
        if wanted.get(key) != (line.amount, sum(tax.amount for tax in line.taxes or [])) or key in seen:
            stale.add(line.id)
        seen.add(key)
    return stale


def _footer(invoice: Invoice) -> str:
    """What must be said below the lines: taxes within the prices, and our note (reverse charge, say)."""
    parts = [f"Includes {tax.name}: {tax.amount} {invoice.currency}" for tax in invoice.taxes if tax.inclusive]
    return cut("\n".join([*parts, *([invoice.note] if invoice.note else [])]))


def _notes(remote: stripe.Invoice) -> list[str]:
    """Where Stripe's "paid" is not cash, and where a balance took part."""
    notes = []
    if remote.status == "paid" and remote.total > 0 and remote.amount_paid == 0:
        notes.append("settled through the customer balance, no cash: the amount may be below the minimum charge")
    elif remote.starting_balance:
        notes.append(f"a customer balance of {remote.starting_balance} was applied: {remote.amount_due} is due")
    return notes
