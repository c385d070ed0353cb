"""The compose file starts what the README promises, in a form that is safe to leave running."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tollhouse import settings

ROOT = Path(__file__).resolve().parents[3]
SERVICES = ("kafka", "postgres", "worker", "api", "prometheus")
OURS = ("worker", "api")


@cache
def _compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return document


def _service(name: str) -> dict[str, Any]:
    service: dict[str, Any] = _compose()["services"][name]
    return service


def _help(*command: str) -> str:
    program = Path(sys.executable).with_name("tollhouse")
    done = subprocess.run([str(program), *command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_parts_are_there() -> None:
    assert set(_compose()["services"]) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_each_part_is_pinned_watched_and_restarted(name: str) -> None:
    service = _service(name)
    tag = service["image"].rpartition(":")[2]
    assert re.search(r"\d+\.\d+", tag), f"{service['image']} names no version"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_each_part_keeps_its_data_in_a_declared_volume(name: str) -> None:
    sources = [volume.partition(":")[0] for volume in _service(name)["volumes"]]
    named = [source for source in sources if not source.startswith(".")]
    assert named, "nothing is kept"
    assert set(named) <= set(_compose()["volumes"])
    assert all((ROOT / source).is_file() for source in sources if source.startswith("."))


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in _service(name).get("ports", []))


@pytest.mark.parametrize("name", OURS)
def test_our_parts_wait_for_healthy_stores_and_run_without_rights(name: str) -> None:
    service = _service(name)
    assert service["depends_on"] == {part: {"condition": "service_healthy"} for part in ("kafka", "postgres")}
    assert service["environment"]["TOLLHOUSE_BROKER"] == "kafka:9092"
    assert service["environment"]["TOLLHOUSE_DATABASE_URL"].startswith("postgresql+psycopg://tollhouse:${")
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True


def test_no_secret_is_written_down() -> None:
    for name in SERVICES:
        for key, value in _service(name).get("environment", {}).items():
            if re.search("PASSWORD|SECRET|_URL", key):
                assert "${" in str(value), f"{name}: {key} is not taken from the environment"


@pytest.mark.parametrize("name", OURS)
def test_each_setting_is_one_that_the_service_reads(name: str) -> None:
    """A misspelt name would be ignored, and the default would send the worker to a broker of its own."""
    known = {f"TOLLHOUSE_{field.name.upper()}" for field in fields(settings.Settings)} | set(settings.SECRETS)
    assert set(_service(name)["environment"]) <= known


@pytest.mark.parametrize("name", OURS)
def test_each_command_and_option_is_real(name: str) -> None:
    command, *options = _service(name)["command"]
    words = _help(command)
    assert command in words
    for option in options:
        if option.startswith("--"):
            assert option in words, f"tollhouse {command} has no {option}"


def test_prometheus_reads_each_worker_where_it_listens_and_has_the_rules() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "tollhouse-worker"]
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["worker"]
    assert _service("worker")["command"] == ["worker", "--port", str(found["port"])]
    mounted = [volume.split(":")[1] for volume in _service("prometheus")["volumes"]]
    assert {f"/etc/prometheus/{name}" for name in config["rule_files"]} <= set(mounted)


def test_prometheus_reads_the_api_where_it_listens() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    targets = [
        target
        for job in config["scrape_configs"]
        for group in job.get("static_configs", [])
        for target in group["targets"]
    ]
    port = _service("api")["environment"]["TOLLHOUSE_PORT"]
    assert f"api:{port}" in targets
    assert f"127.0.0.1:{port}:{port}" in _service("api")["ports"]


def test_the_image_holds_every_room_and_runs_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    for room in ("schemas", "pipeline", "streams", "billing", "tollhouse", "sdk"):
        assert f"COPY {room} {room}" in lines
        assert f"!{room}" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
    assert sum(line.startswith("FROM ") for line in lines) == 2
    assert 'ENTRYPOINT ["tollhouse"]' in lines
    assert any("--require-hashes" in line for line in lines)


def test_the_test_kafka_is_the_deployed_kafka() -> None:
    script = (ROOT / "scripts" / "service_parts" / "kafka.py").read_text(encoding="utf-8")
    version = re.search(r'^KAFKA_VERSION = "([\d.]+)"$', script, re.MULTILINE)
    assert version is not None
    assert _service("kafka")["image"] == f"apache/kafka:{version[1]}"
