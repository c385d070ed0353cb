"""A month of many tenants pushed to the double over HTTP: requests a tenant, seconds, and resuming in the middle.

    python bench/stripe_push.py [--tenants 1000] [--lines 20] [--rate 90]

The double limits to --rate requests a second, as an account of live mode does
to 100 (https://docs.stripe.com/rate-limits).
"""

import argparse
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from billing.stripe_gateway import FileStore, MonthSummary, PushResult, Settings, StripeGateway, drift, make_client
from billing.stripe_gateway import push_month as push
from schemas.catalog import Tenant
from schemas.instants import parse_instant
from schemas.invoice import Invoice, InvoiceLine
from tollhouse.stripe_double import StripeDouble, start

START_US, END_US = parse_instant("2026-10-01T00:00:00Z"), parse_instant("2026-11-01T00:00:00Z")


class Interrupted(Exception):
    """The run is stopped in the middle."""


def invoice(tenant: str, lines: int) -> Invoice:
    """An invoice of that many lines of one dollar and more."""
    made = tuple(
        InvoiceLine(f"usage:{n}", "usage", f"Input of model {n}", Decimal(n) + Decimal("1.25"), START_US, END_US)
        for n in range(lines)
    )
    total = sum((line.amount for line in made), Decimal(0))
    return Invoice(
        tenant, "2026-10", 1, "finalised", "USD", START_US, END_US, made, total, Decimal(0), total, number=f"{tenant}-1"
    )


def run(
    url: str, store: Path, pairs: list[tuple[Invoice, Tenant]], args: argparse.Namespace, stop: int
) -> MonthSummary:
    """Push all, or until `stop` are done, then as if interrupted."""
    settings = Settings(requests_per_s=args.rate, workers=args.workers)
    gateway = StripeGateway(make_client("sk_test_bench", api_base=url), FileStore(store), settings)

    def progress(done: int, of: int, _result: PushResult) -> None:
        sys.stderr.write(f"\r{done}/{of} ")
        if done == stop:
            raise Interrupted

    return push(gateway, pairs, progress=progress)


def main() -> None:
    """Print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--lines", type=int, default=20)
    parser.add_argument("--rate", type=int, default=90, help="requests a second")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    names = [f"tenant-{number:04d}" for number in range(args.tenants)]
    pairs = [(invoice(name, args.lines), Tenant(name, name, "standard", ())) for name in names]
    double = StripeDouble(rate_per_s=args.rate + 10)
    with start(double=double) as handle, tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "push.jsonl"
        began = time.monotonic()
        try:
            run(handle.url, store, pairs, args, stop=args.tenants // 2)
        except Interrupted:
            print(f"interrupted after {args.tenants // 2} tenants: {len(double.requests)} requests")
        summary = run(handle.url, store, pairs, args, stop=-1)
        seconds = time.monotonic() - began
        requests = len(double.requests)
        refused = sum(seen.status == 429 for seen in double.requests)
        gateway = StripeGateway(make_client("sk_test_bench", api_base=handle.url), FileStore(store))
        left = drift(gateway, [pair[0] for pair in pairs])
        print(
            f"\n{args.tenants} tenants x {args.lines} lines: {summary.outcomes}, {len(double.invoices())} invoices,"
            f" {requests} requests ({requests / args.tenants:.2f} a tenant), {refused} answered 429,"
            f" {seconds:.1f} s ({requests / seconds:.0f} requests/s), drift {len(left)}"
        )
        if left or len(double.invoices()) != args.tenants or not summary.clean:
            sys.exit(1)


if __name__ == "__main__":
    main()
