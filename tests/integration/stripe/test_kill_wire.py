"""Killed over a real connection: at every boundary for a few tenants, and as a process by SIGKILL at any moment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import stripe

from billing.stripe_gateway import FileStore, Settings, StripeGateway, drift, make_client, push_month
from tests.integration.stripe.kit import (
    NOW_S,
    Killed,
    Switch,
    SwitchedStore,
    assert_month,
    make_invoice,
    make_tenant,
    no_wait_pace,
)
from tollhouse.stripe_double import StripeDouble, start

pytestmark = pytest.mark.timeout(600)  # thousands of requests: a busy machine takes its time

PAIRS = [
    (make_invoice("charged"), make_tenant("charged", collection="charge_automatically")),
    (make_invoice("sent", lines=120), make_tenant("sent")),
]
INVOICES = [invoice for invoice, _ in PAIRS]


class SwitchedClient(stripe.RequestsClient):
    """The SDK's own HTTP client, with a boundary before each request is sent and after each answer."""

    def __init__(self, switch: Switch) -> None:
        super().__init__(timeout=5)
        self.switch = switch

    def request(self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None) -> Any:
        self.switch.boundary(f"before {method} {url}")
        answer = super().request(method, url, headers, post_data)
        self.switch.boundary(f"after {method} {url}")
        return answer


def run(url: str, path: Path, switch: Switch) -> None:
    store = FileStore(path)
    client = make_client("sk_test_double", api_base=url, http_client=SwitchedClient(switch))
    gateway = StripeGateway(client, SwitchedStore(store, switch), Settings(lines_per_call=50), no_wait_pace())
    try:
        push_month(gateway, PAIRS)
    finally:
        store.close()


def test_killed_at_every_boundary_over_http_with_the_store_in_a_file(tmp_path: Path) -> None:
    at = 0
    with start() as handle:
        while True:
            at += 1
            double = StripeDouble(lambda: NOW_S)
            handle._server.double = double  # a new account at the same address, without a new server for each
            path = tmp_path / f"{at}.jsonl"
            try:
                run(handle.url, path, Switch(at))
            except Killed:
                run(handle.url, path, Switch())
                assert_month(double, INVOICES)
            else:
                assert_month(double, INVOICES)
                break
    assert at > 50


PROGRAM = """
import sys
from pathlib import Path
from billing.stripe_gateway import FileStore, Pace, Settings, StripeGateway, make_client, push_month
from tests.integration.stripe.kit import make_invoice, make_tenant
names = [f"t{n:02d}" for n in range(12)]
gateway = StripeGateway(
    make_client("sk_test_double", api_base=sys.argv[1]), FileStore(Path(sys.argv[2])), Settings(), Pace(per_s=100)
)
print("ready", flush=True)
summary = push_month(gateway, [(make_invoice(name), make_tenant(name)) for name in names])
sys.exit(0 if summary.clean else 1)
"""


@pytest.mark.parametrize("lost", [False, True], ids=["file kept", "file lost"])
def test_a_process_killed_again_and_again_ends_with_one_invoice_each(tmp_path: Path, lost: bool) -> None:
    path = tmp_path / "push.jsonl"
    with start() as handle:
        for round_ in range(12):
            command = [sys.executable, "-c", PROGRAM, handle.url, str(path)]
            root = Path(__file__).resolve().parents[3]
            child = subprocess.Popen(
                command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            if round_ < 4:
                time.sleep(0.12 + 0.07 * round_)
                child.send_signal(signal.SIGKILL)
            code = child.wait(timeout=60)
            child.stdout.close()
            if code == 0:
                break
            if lost:
                path.unlink()
        assert code == 0
        invoices = [make_invoice(f"t{n:02d}") for n in range(12)]
        assert_month(handle.double, invoices)
        client = make_client("sk_test_double", api_base=handle.url)
        assert drift(StripeGateway(client, FileStore(tmp_path / "other")), invoices, lines=True) == []
