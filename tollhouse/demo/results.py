"""The demo's result: read back from the ledger, as JSON and as a page of text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from billing.documents import file_name, render
from billing.render import invoice_json
from pipeline.ledger import Connection, Ledger, alerts
from pipeline.ledger.readers import source_sums
from pipeline.ledger.rejected import list_rejected
from schemas.instants import format_instant
from schemas.invoice import Invoice
from schemas.money import exponent
from schemas.tokens import CLASSES, INPUT_SIDE, OUTPUT_SIDE
from tollhouse.cli.shared import print_table
from tollhouse.demo.send import Sent
from tollhouse.demo.traffic import LEAKED, TRACE_SOURCE, Plan
from tollhouse.reports import usage_days
from tollhouse.usage import totals, usage_totals


@dataclass(slots=True)
class Figures:
    """data: what --json prints, but for the seconds. documents: the files that were written."""

    data: dict[str, Any]
    documents: list[Path] = field(default_factory=list)


def gather(
    ledger: Ledger,
    sent: Sent,
    plan: Plan,
    invoices: Sequence[Invoice],
    decisions: list[dict[str, Any]],
    stripe: list[dict[str, Any]],
) -> Figures:
    """Everything the demo shows, from the ledger."""
    found = [
        {
            "at": format_instant(row["first_us"]),
            "kind": row["kind"],
            "severity": row["severity"],
            "subject": row["subject"],
            "detail": row["detail"],
        }
        for row in ledger.read(alerts.list_alerts)
    ]
    whole = next(iter(totals(ledger, ()).values()))
    return Figures(
        {
            "trace": ledger.read(_trace),
            "deliveries": sent.deliveries,
            "rejected": len(ledger.read(list_rejected)),
            "tokens": dict(zip(CLASSES, whole.classes, strict=True)),
            "usage": usage_totals(ledger),
            "invoices": [invoice_json(invoice) for invoice in invoices],
            "alerts": found,
            "leak": _leak(found, plan),
            "decisions": decisions,
            "stripe": stripe,
        }
    )


def _trace(connection: Connection) -> dict[str, int]:
    counted, again, by_class = source_sums(connection, TRACE_SOURCE)
    return {
        "events": counted,
        "duplicates": again,
        "input_side_tokens": sum(by_class[name] for name in INPUT_SIDE),
        "output_side_tokens": sum(by_class[name] for name in OUTPUT_SIDE),
    }


def _leak(found: Sequence[dict[str, Any]], plan: Plan) -> dict[str, Any]:
    subject = f"{LEAKED.tenant}/{LEAKED.key}"
    started = format_instant(plan.leak_us)
    caught = [a["at"] for a in found if a["kind"] == "leak" and a["subject"] == subject and a["at"] >= started[:16]]
    return {
        "key": LEAKED.key,
        "tenant": LEAKED.tenant,
        "subject": subject,
        "started": started,
        "alerted": min(caught) if caught else None,
    }


def write_documents(ledger: Ledger, invoices: Sequence[Invoice], directory: Path) -> list[Path]:
    """CSV and PDF of every invoice."""
    directory.mkdir(parents=True, exist_ok=True)
    catalog = ledger.context().catalog
    written = []
    for invoice in invoices:
        zone = catalog.tenants[invoice.tenant].timezone
        days = usage_days(ledger, invoice.tenant, invoice.month)
        for form in ("csv", "pdf"):
            path = directory / file_name(invoice, form)
            path.write_bytes(render(invoice, form, days, timezone=zone))
            written.append(path)
    return written


def print_summary(data: dict[str, Any], documents: Sequence[Path]) -> None:
    """The result for people."""
    trace = data["trace"]
    click.echo(
        f"\nTrace: {trace['events']:,} calls counted once, {trace['duplicates']:,} duplicates set apart; "
        f"{trace['input_side_tokens']:,} tokens in, {trace['output_side_tokens']:,} out. Rejected: {data['rejected']}."
    )
    click.echo("\nUsage by tenant and key")
    rows: dict[tuple[str, str], list[int]] = {}
    for row in data["usage"]:
        total = rows.setdefault((row["tenant"], row["key"]), [0, 0])
        total[0] += row["requests"]
        total[1] += sum(row["tokens"][name] for name in (*INPUT_SIDE, *OUTPUT_SIDE))
    print_table(
        ("tenant", "key", "requests", "tokens"), [(t, k, f"{n:,}", f"{m:,}") for (t, k), (n, m) in sorted(rows.items())]
    )
    click.echo("\nAdmission")
    print_table(
        ("tenant", "allowed", "reason", "quota", "key", "retry after (s)"),
        [
            (d["tenant"], "yes" if d["allowed"] else "no", d["reason"], d["quota"], d["key"], d["retry_after_s"])
            for d in data["decisions"]
        ],
    )
    click.echo("\nAlerts")
    print_table(
        ("at", "kind", "severity", "subject", "what"),
        [(a["at"], a["kind"], a["severity"], a["subject"], a["detail"][:90]) for a in data["alerts"]],
    )
    leak = data["leak"]
    click.echo(f"\nLeak of {leak['subject']}: began {leak['started']}, alert {leak['alerted'] or 'none'}")
    click.echo("\nInvoices, and what Stripe has")
    by_tenant = {row["tenant"]: row for row in data["stripe"]}
    print_table(
        ("number", "tenant", "month", "subtotal", "tax", "total", "currency", "Stripe total", "Stripe status"),
        [
            (
                i["number"],
                i["tenant"],
                i["month"],
                i["subtotal"],
                i["tax"],
                i["total"],
                i["currency"],
                _major(by_tenant[i["tenant"]]["total_minor"], i["currency"]),
                by_tenant[i["tenant"]]["status"],
            )
            for i in data["invoices"]
        ],
    )
    click.echo(
        f"\n{len(documents)} documents in {documents[0].parent if documents else '-'}; {data['seconds']} s in all."
    )


def _major(minor: int, currency: str) -> str:
    places = exponent(currency)
    if not places:
        return str(minor)
    whole, rest = divmod(minor, 10**places)
    return f"{whole}.{rest:0{places}d}"
