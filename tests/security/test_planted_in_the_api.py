"""Secrets that callers send to the API by mistake, and its own: none is found in its logs, figures, answers, spool,
database. What a worker writes is looked through by tests/integration/streams/test_planted_secrets.py."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest

from streams.topics import topic_specs
from streams.topics_admin import ensure_topics
from tests.integration.api.kit import House
from tests.integration.streams.test_planted_secrets import everything_in, planted
from tests.unit.pipeline.test_redact import KINDS
from tollhouse.ports import free_port

OWN = {
    "STRIPE_SECRET_KEY": "sk_test_" + "Planted4Own" * 3,
    "STRIPE_WEBHOOK_SECRET": "whsec_" + "Planted5Own" * 3,
    "TOLLHOUSE_WEBHOOK_SECRET": "whsec_" + "UGxhbnRlZDZPd24x" * 3,
    "TOLLHOUSE_DATABASE_PASSWORD": "Planted7Own-database",
}


def ask(port: int, path: str, token: str, body: bytes | None = None, kind: str = "application/json") -> str:
    """The answer's text, whatever its status; a fault of the service fails the test."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        text = str(error.read().decode())
        if error.code >= 500:
            pytest.fail(f"{path}: {error.code} {text}")
        return text


def found_in(text: str) -> list[str]:
    """The names of the planted secrets that the text holds."""
    held = {kind: body for kind, (_, body) in KINDS.items()} | {
        name: value.removeprefix("whsec_") for name, value in OWN.items()
    }
    return [name for name, body in held.items() if body in text or json.dumps(body)[1:-1] in text]


@pytest.mark.timeout(240)
def test_no_planted_secret_is_found_anywhere(embedded_broker: str, topic_prefix: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    house = House(url, tmp_path)
    house.now_us = time.time_ns() // 1000
    proxy, admin = house.token("proxy", "eu-1"), house.token("operator", "ada", role="admin")
    house.close()
    asyncio.run(ensure_topics(embedded_broker, topic_specs(1, topic_prefix)))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOLLHOUSE_")}
    port = free_port()
    environment = kept | OWN | {
        "TOLLHOUSE_DATABASE_URL": url, "TOLLHOUSE_BROKER": embedded_broker, "TOLLHOUSE_TOPIC_PREFIX": topic_prefix,
        "TOLLHOUSE_PARTITIONS": "1", "TOLLHOUSE_LOG_LEVEL": "debug", "TOLLHOUSE_PORT": str(port),
    }  # fmt: skip
    log = tmp_path / "log"
    words = [sys.executable, "-m", "tollhouse", "api", "--dir", str(tmp_path)]
    answers = []
    with log.open("wb") as output, subprocess.Popen(words, env=environment, stdout=output, stderr=output) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    ask(port, "/healthz", "")
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.1)
            events = planted()
            for event in events:
                if event.get("subject") == "alpha":
                    event["subject"] = "acme"
                if isinstance(event["data"], dict) and event["data"].get("key") == "openai-pool":
                    event["data"]["key"] = "openai-pool-1"
            for start in range(0, len(events), 200):
                batch = json.dumps(events[start : start + 200]).encode()
                answers.append(ask(port, "/v1/events", proxy, batch, "application/cloudevents-batch+json"))
            for secret, _ in KINDS.values():
                body = {"token": secret, "model": "gpt-5-mini", "id": secret[:200]}
                answers.append(ask(port, "/v1/authorize", proxy, json.dumps(body).encode()))
            for secret, _ in list(KINDS.values())[::5]:
                ask(port, f"/v1/tenants/{quote(secret[:200], safe='')}/usage", admin)
                ask(port, "/v1/keys", secret.splitlines()[0])
            metrics = ask(port, "/metrics", "")
        finally:
            process.terminate()
            process.wait(60)
    said = log.read_text(errors="replace")
    spools = b"".join(path.read_bytes() for path in (tmp_path / "spool-api").rglob("*") if path.is_file())
    places = {
        "metrics": metrics, "logs": said, "spool": spools.decode("utf-8", "replace"), "answers": "\n".join(answers),
        "database": everything_in(url),
    }  # fmt: skip
    assert "tollhouse_http_requests" in metrics
    assert "accepted" in places["answers"]
    assert "secret_in_event" in places["database"]
    for place, text in places.items():
        assert found_in(text) == [], place
    assert process.returncode == 0, said
