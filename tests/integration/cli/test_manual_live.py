"""The blocks of README and manual that need a running installation, typed into one: `tollhouse up` over a directory
with October's usage, a Stripe double, a provider that reports. What runs until it is interrupted is interrupted.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.alerting import Alert
from pipeline.ledger import Ledger
from schemas.instants import parse_instant
from tests.unit.provider_reports.provider import Answer, Asked, Provider
from tests.unit.test_readme import LIVE, PAGES, ROOT, TODAY, Block, blocks_of, installation, name_of
from tollhouse.closing import run_tenant
from tollhouse.ports import free_port
from tollhouse.stripe_double.server import start

LEAK: Final = "leak:acme/openai-pool-1/29892120"
NOT_RUN: Final = {
    "make ": "the demo and the tests have runs of their own",
    "docker compose": "no containers here; tests/unit/deploy checks the file against the commands",
    "tail -F": "needs Envoy and jq; the translation is tested with the client",
    "TOLLHOUSE_TEST_STRIPE_SANDBOX": "needs an account at Stripe",
    ".example": "servers with names of their own; tests/security and tests/integration bring such up and connect",
    "$ADMIN_URL": "roles of a PostgreSQL server; tests/security makes them and tries what each may not do",
}
"""What stands in a block to why it is not typed in here."""
FOREVER: Final = ("tollhouse up", "--watch")
WAIT_S: Final = 240
"""Nothing here is about speed."""
pytestmark = pytest.mark.timeout(600)


def _blocks() -> list[Block]:
    found = []
    for page in PAGES:
        languages = ("bash", "sh", "console") if name_of(page) in LIVE else ("bash", "console")
        found += [block for block in blocks_of(page) if block.language in languages]
    return [block for block in found if not any(text in block.text for text in NOT_RUN)]


@dataclass(frozen=True)
class Live:
    """An installation that runs: where, with which environment, and its process."""

    directory: Path
    environment: dict[str, str]
    base: str
    asked: list[Asked]
    """What the provider was asked for."""


def _report(asked: Asked, _number: int) -> Answer:
    """OpenAI's usage of October as the installation metered it; nothing billed."""
    used = [("gpt-5", "2026-10-05", 2_500_000, 500_000, 1_500_000), ("gpt-5-mini", "2026-10-07", 5_000_000, 0, 800_000),
            ("gpt-5-mini", "2026-10-08", 30_000, 0, 4_000)]  # fmt: skip
    data = []
    for model, day, taken, cached, given in used if asked.path.endswith("completions") else ():
        start_s = parse_instant(f"{day}T09:00:00Z") // 1_000_000
        row = {"api_key_id": "key_openai_1", "model": model, "input_tokens": taken, "input_cached_tokens": cached,
               "output_tokens": given, "num_model_requests": 1}  # fmt: skip
        data.append({"start_time": start_s, "end_time": start_s + 3600, "results": [row]})
    return Answer(200, json.dumps({"object": "page", "data": data, "has_more": False, "next_page": None}))


def _prepared(directory: Path) -> None:
    """October closed, a leak told, and the files that the pages take as given."""
    installation(directory)
    now_us = parse_instant(TODAY)
    ledger = Ledger(f"sqlite:///{directory / 'data' / 'tollhouse.db'}")
    for tenant in ledger.context().catalog.tenants:
        assert run_tenant(ledger, tenant, "2026-10", now_us, finalise=True).refused is None
    facts: dict[str, Any] = {"rule": "rate", "since_us": now_us}
    ledger.raise_alerts([Alert(LEAK, now_us, "leak", "page", "acme/openai-pool-1", "a leak", facts)])
    ledger.close()
    (directory / "tollhouse-demo").symlink_to(directory / "data")
    (directory / ".venv").symlink_to(Path(sys.executable).parents[1])
    event = {"specversion": "1.0", "source": "proxy/eu-1", "type": "com.tollhouse.usage.v1", "subject": "acme",
             "time": "2026-11-05T11:00:00Z", "data": {"key": "openai-pool-1", "provider": "openai", "api": "responses",
             "model": "gpt-5-mini", "usage": {"input_tokens": 1200, "output_tokens": 300}}}  # fmt: skip
    (directory / "event.json").write_text(json.dumps({**event, "id": "one"}))
    (directory / "events.ndjson").write_text(json.dumps({**event, "id": "two"}) + "\n")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    directory = tmp_path_factory.mktemp("live")
    _prepared(directory)
    keep = ("HOME", "LANG", "LC_ALL", "TMPDIR")
    port = free_port()
    with start() as stripe, Provider(_report) as provider:
        environment = {name: os.environ[name] for name in keep if name in os.environ} | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk")]),
            "TOLLHOUSE_CLOCK_OFFSET_S": str(parse_instant(TODAY) // 1_000_000 - int(time.time())),
            "TOLLHOUSE_DATABASE_URL": f"sqlite:///{directory / 'data' / 'tollhouse.db'}",
            "TOLLHOUSE_STRIPE_API_BASE": stripe.url,
            "STRIPE_SECRET_KEY": "sk_test_" + "e5" * 12,
            "OPENAI_ADMIN_KEY": "admin",
            "TOLLHOUSE_OPENAI_REPORTS_URL": provider.base,
            "TOLLHOUSE_PORT": str(port),
        }  # fmt: skip
        block = next(b for b in blocks_of(ROOT / "README.md") if "tollhouse up" in b.text)
        with _running(block.text, directory, environment, directory / "up.log"):
            base = f"http://127.0.0.1:{port}"
            _until(lambda: _ready(base), directory / "up.log")
            runtime = dict(
                re.findall(r'^(\w+) = "?([^"\n]*)', (directory / "data" / "runtime.toml").read_text(), re.MULTILINE)
            )
            environment["TOLLHOUSE_BROKER"] = runtime["broker"]
            for name, kind in (("proxy.token", "--proxy"), ("acme.token", "--tenant")):
                made = _typed(f"tollhouse token issue {kind} acme --dir ./data > {name}", directory, environment)
                assert made.returncode == 0, made.stderr
            environment["PROXY_TOKEN"] = (directory / "proxy.token").read_text().strip()
            yield Live(directory, environment, base, provider.asked)


@contextmanager
def _running(text: str, directory: Path, environment: dict[str, str], log: Path) -> Iterator[None]:
    """What goes on until Ctrl-C; in the end it gets one, and must end by it."""
    with log.open("ab") as out, subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", f"exec 2>&1; {text.replace('tollhouse up', 'exec tollhouse up')}"],
        cwd=directory, env=environment, stdout=out, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                assert process.wait(WAIT_S) in (0, 130, -signal.SIGINT), log.read_text()
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def _ready(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/readyz", timeout=5) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def _until(what: Any, log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def _typed(text: str, directory: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("block", _blocks(), ids=lambda block: f"{name_of(block.page)}:{block.line}")
def test_every_block_that_needs_a_server_does_its_work_on_one(block: Block, live: Live) -> None:
    text = block.text.replace("http://127.0.0.1:8080", live.base).replace("curl ", "curl --silent --show-error --fail ")
    if "tollhouse up" in text:
        assert _ready(live.base), "this is what runs"
        return
    if any(part in text for part in FOREVER):
        log = live.directory / "forever.log"
        with _running(f"exec {text}", live.directory, live.environment, log):
            before = len(live.asked)
            _until(lambda: len(live.asked) > before, log)
        assert "Traceback" not in log.read_text()
        return
    done = _typed(text, live.directory, live.environment)
    assert done.returncode == 0, f"{name_of(block.page)}:{block.line}\n{text}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


def test_what_is_left_out_is_said_with_its_reason() -> None:
    texts = [b.text for page in PAGES for b in blocks_of(page) if b.language in ("bash", "console")]
    for part in NOT_RUN:
        assert any(part in text for text in texts), f"{part!r} stands nowhere any more"
    languages = {
        b.language for page in PAGES for b in blocks_of(page) if re.search(r"^\$? ?tollhouse ", b.text, re.MULTILINE)
    }
    assert languages <= {"sh", "bash", "text"}, "a block of commands says that it is one"
