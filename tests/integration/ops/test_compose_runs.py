"""The very commands of docker-compose.yml, run: each service starts with its command and environment, and is healthy.

Only what a container would give is put in: addresses of this machine in the place of the services' names, free ports,
folders that can be written. There is no engine for containers where the tests run.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.catalog import parse_yaml
from pipeline.ledger import Ledger
from service_parts import kafka as kafka_part
from service_parts import postgresql as postgresql_part
from service_parts.base import listens
from streams.topics import topic_specs
from streams.topics_admin import ensure_topics
from tests import services
from tests.simulation.driver import CATALOG
from tollhouse.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
READY_S = 90.0


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of a test; ended by SIGTERM."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(what: Callable[[], bool], log: Path) -> None:
    deadline_s = time.monotonic() + READY_S
    while not what():
        assert time.monotonic() < deadline_s, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)


def put_in(text: str, places: dict[str, str]) -> str:
    for name, here in places.items():
        text = text.replace(name, here)
    return text


def ours(name: str, places: dict[str, str], directory: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of one of our services, as compose would start it."""
    service = COMPOSE[name]
    directory.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TOLLHOUSE_", "STRIPE_"))}
    for key, value in service["environment"].items():
        if "{" in str(value) and str(value).endswith("}"):  # ${NAME:-}: not set on the host
            continue
        kept[key] = put_in(str(value), places | {"/var/lib/tollhouse": str(directory), "0.0.0.0": "127.0.0.1"})
    kept["PYTHONPATH"] = os.pathsep.join(str(path) for path in (ROOT, ROOT / "sdk"))
    program = str(Path(sys.executable).with_name("tollhouse"))  # the image's ENTRYPOINT
    return [program, *(put_in(word, places) for word in service["command"])], kept


def healthy(name: str, places: dict[str, str]) -> bool:
    """Whether the service's own health check passes."""
    kind, program, *words = COMPOSE[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    command = [sys.executable, *(put_in(word, places) for word in words)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def ask(base: str, path: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{base}{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
        return json.loads(answer.read())["data"]


def watched(ports: dict[str, int]) -> str:
    """Prometheus's configuration, each job with its target here, and in a hurry."""
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = dict.fromkeys(config["global"], "2s")
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)  # there are no names to look up here
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    return yaml.safe_dump(config)


@pytest.mark.timeout(300)
def test_worker_api_and_prometheus_start_as_compose_says_and_see_one_another(
    kafka: str, postgresql_url: str, tmp_path: Path, topic_prefix: str
) -> None:
    api_port, worker_port, own_port = free_port(), free_port(), free_port()
    written = COMPOSE["worker"]["environment"]["TOLLHOUSE_DATABASE_URL"]
    places = {written: postgresql_url, "kafka:9092": kafka, "8080": str(api_port), "9108": str(worker_port)}
    ledger = Ledger(postgresql_url)
    ledger.create()
    ledger.apply(parse_yaml(CATALOG), 0, "test")
    ledger.close()
    with ExitStack() as stack:
        for name in ("worker", "api"):
            command, environment = ours(name, places, tmp_path / name)
            # One broker serves all tests: topics and group of our own.
            environment |= {"TOLLHOUSE_TOPIC_PREFIX": topic_prefix, "TOLLHOUSE_APP_ID": f"{topic_prefix}app"}
            stack.enter_context(running(command, environment, tmp_path / f"{name}.log"))
        targets = {"tollhouse-api": api_port, "tollhouse-worker": worker_port, "prometheus": own_port}
        (tmp_path / "prometheus.yml").write_text(watched(targets))
        (tmp_path / "rules.yml").write_text((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
        program = str(Path(services.require(services.PROMETHEUS)) / "prometheus")
        here = {"/etc/prometheus/": f"{tmp_path}/", "=/prometheus": f"={tmp_path}/data"}
        words = [put_in(word, here) for word in COMPOSE["prometheus"]["command"]]
        log = tmp_path / "prometheus.log"
        command = [program, *words, f"--web.listen-address=127.0.0.1:{own_port}"]
        stack.enter_context(running(command, dict(os.environ), log))
        for name in ("worker", "api"):
            until(lambda name=name: healthy(name, places), tmp_path / f"{name}.log")  # type: ignore[misc]
        base = f"http://127.0.0.1:{own_port}"

        def scraped() -> bool:
            try:
                found = ask(base, "/api/v1/query", query='up{job=~"tollhouse-.*"}')["result"]
            except OSError:
                return False
            return {one["metric"]["job"]: one["value"][1] for one in found} == {
                "tollhouse-api": "1",
                "tollhouse-worker": "1",
            }

        until(scraped, log)
        rules = [rule for group in ask(base, "/api/v1/rules")["groups"] for rule in group["rules"]]
        assert len(rules) > 20
        assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule.get("lastError")} == {}
        for panel in json.loads((ROOT / "deploy" / "grafana" / "tollhouse.json").read_text())["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"].replace("$__rate_interval", "1m")
                assert "result" in ask(base, "/api/v1/query", query=expression), panel["title"]
        lag = ask(base, "/api/v1/query", query="sum(max by (partition) (tollhouse_lag_messages))")["result"]
        assert [one["value"][1] for one in lag] == ["0"]


def test_kafka_starts_with_the_settings_that_compose_gives_it(kafka: str, tmp_path: Path) -> None:
    """The image turns KAFKA_A_B into the setting a.b; the same is done here, with this machine's ports and folders."""
    port, controller = free_port(), free_port()
    here = {"/var/lib/kafka/data": str(tmp_path / "data")}
    for name in ("0.0.0.0", "kafka"):
        here |= {f"{name}:9092": f"127.0.0.1:{port}", f"{name}:9093": f"127.0.0.1:{controller}"}
    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): put_in(str(value), here)
        for name, value in COMPOSE["kafka"]["environment"].items()
        if name != "KAFKA_HEAP_OPTS"
    }
    config, log = tmp_path / "server.properties", tmp_path / "kafka.log"
    config.write_text("\n".join(f"{name}={value}" for name, value in settings.items()) + "\n")
    java = kafka_part._java()
    format_ = kafka_part._command(
        java, "kafka.tools.StorageTool", "format", "-t", uuid.uuid4().hex[:22], "-c", str(config)
    )
    done = subprocess.run(format_, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with running(kafka_part._command(java, "kafka.Kafka", str(config)), dict(os.environ), log):
        until(lambda: listens(port), log)
        made = asyncio.run(ensure_topics(f"127.0.0.1:{port}", topic_specs(4, "")))
    assert "usage.events" in made


def test_the_health_check_of_postgresql_passes_on_one_that_is_up(postgresql_url: str) -> None:
    kind, line = COMPOSE["postgres"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    place = urllib.parse.urlsplit(postgresql_url)
    programs = postgresql_part._programs()
    assert programs is not None
    command = [str(programs / shlex.split(line)[0]), *shlex.split(line)[1:]]
    at = {"PGHOST": str(place.hostname), "PGPORT": str(place.port)}
    assert subprocess.run(command, env=os.environ | at, capture_output=True, timeout=60, check=False).returncode == 0
    away = at | {"PGPORT": str(free_port())}
    assert subprocess.run(command, env=os.environ | away, capture_output=True, timeout=60, check=False).returncode != 0
