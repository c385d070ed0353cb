"""LiteLLM's own proxy as a process of its own, between a client and `upstream`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.sdk.fakes import read_topic
from tollhouse.ports import free_port

MASTER_KEY = "sk-local-test"
START_TIMEOUT_S = 150.0
"""LiteLLM imports for 6 s on a quiet machine, ten times that on a busy one."""


@dataclass
class Proxy:
    address: str
    bootstrap: str
    topic: str
    log: Path

    def chat(self, model: str, text: str = "hello", **more: Any) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        answer = httpx.post(f"{self.address}/v1/chat/completions", json=body, headers=self.headers(), timeout=30)
        return answer.raise_for_status().json()  # type: ignore[no-any-return]

    def stream(self, model: str, text: str = "hello", *, chunks_max: int = 10_000, **more: Any) -> list[dict[str, Any]]:
        """The chunks of a streamed answer; the connection is cut after `chunks_max`."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **more}
        found: list[dict[str, Any]] = []
        url = f"{self.address}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=self.headers(), timeout=30) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    found.append(json.loads(line[6:]))
                if len(found) >= chunks_max:
                    break
        return found

    def post(self, path: str, body: dict[str, Any]) -> str:
        """Any endpoint; the whole answer, streamed or not, as text."""
        answer = httpx.post(self.address + path, json=body, headers=self.headers(), timeout=30)
        return answer.raise_for_status().text

    @staticmethod
    def headers() -> dict[str, str]:
        return {"authorization": f"Bearer {MASTER_KEY}", "user-agent": "test-agent/1"}

    def events(self, number: int) -> list[dict[str, Any]]:
        """All events so far, when there are so many; they must not become more."""
        deadline_s = time.monotonic() + 20
        while True:
            found = [event for _, batch in read_topic(self.bootstrap, self.topic) for event in batch]
            if len(found) >= number or time.monotonic() > deadline_s:
                break
        time.sleep(1.0)
        found = [event for _, batch in read_topic(self.bootstrap, self.topic) for event in batch]
        assert len(found) == number, self.log.read_text()[-3000:]
        return found


@contextmanager
def litellm_proxy(
    directory: Path, configuration: Mapping[str, Any], bootstrap: str, topic: str, **environment: str
) -> Iterator[Proxy]:
    """The proxy with this configuration, publishing to the topic; its directory is for its files."""
    (directory / "config.yaml").write_text(yaml.safe_dump(dict(configuration)))
    port, log = free_port(), directory / "litellm.log"
    values = os.environ | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "TOLLHOUSE_BROKER": bootstrap,
        "TOLLHOUSE_TOPIC": topic,
        "TOLLHOUSE_SPOOL_DIR": str(directory / "spool"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [str(Path(sys.executable).with_name("litellm")), "--config", "config.yaml", "--port", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--telemetry", "False"],
            cwd=directory,
            env=values | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_ready(f"http://127.0.0.1:{port}", server, log)
        yield Proxy(f"http://127.0.0.1:{port}", bootstrap, topic, log)
    finally:
        server.terminate()
        server.wait(20)


def _wait_ready(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(f"{address}/health/liveliness", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"LiteLLM did not start: {log.read_text()[-3000:]}")
