"""The Kubernetes manifests are what the API server takes, and say what the processes and the settings are."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from sqlalchemy.engine import make_url

from streams.settings import StreamSettings
from streams.topics import USAGE_EVENTS
from tollhouse import settings
from tollhouse.cli.main import cli

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.34")  # what is run, and what comes; older ones know no different fields of ours
CONTAINERS = ("worker", "api")

# Of KEDA's own resource, which no schema of Kubernetes has: what we use of it, and nothing else.
SCALED_OBJECT = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "spec": {
            "type": "object",
            "required": ["scaleTargetRef", "triggers"],
            "additionalProperties": False,
            "properties": {
                "scaleTargetRef": {"type": "object", "required": ["name"]},
                "minReplicaCount": {"type": "integer", "minimum": 1},
                "maxReplicaCount": {"type": "integer", "minimum": 1},
                "pollingInterval": {"type": "integer"},
                "cooldownPeriod": {"type": "integer"},
                "advanced": {"type": "object"},
                "triggers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["type", "metadata"],
                        "properties": {
                            "type": {"const": "kafka"},
                            "metadata": {
                                "type": "object",
                                "required": ["bootstrapServers", "consumerGroup", "topic", "lagThreshold"],
                                "additionalProperties": {"type": "string"},  # KEDA takes every value as text
                            },
                        },
                    },
                },
            },
        },
    },
}


@cache
def _documents() -> list[tuple[str, dict[str, Any]]]:
    """(file, document) of everything in the folder but the kustomization, which is no resource."""
    return [
        (path.name, document)
        for path in sorted(FOLDER.glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


def _kustomization() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    return document


def _named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [d for _, d in _documents() if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def _pod(name: str) -> dict[str, Any]:
    pod: dict[str, Any] = _named("Deployment" if name == "worker" else "StatefulSet", name)["spec"]["template"]["spec"]
    return pod


def _job(name: str) -> list[dict[str, Any]]:
    """The containers of a CronJob in their order."""
    pod = _named("CronJob", name)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _config() -> dict[str, str]:
    (generator,) = _kustomization()["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generator["literals"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("file", "document"), _documents(), ids=lambda value: value if isinstance(value, str) else value["kind"]
)
def test_the_api_server_takes_each_resource(file: str, document: dict[str, Any], version: str) -> None:
    if document["kind"] == "ScaledObject":
        Draft202012Validator(SCALED_OBJECT).validate(document)
    else:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_validator_notices_what_is_misspelt() -> None:
    broken = yaml.safe_load(yaml.safe_dump(_named("Deployment", "worker")))
    broken["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_kustomize_names_every_file_but_the_example_of_a_secret() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    assert set(_kustomization()["resources"]) == there


def test_each_setting_and_secret_is_one_that_is_read() -> None:
    known = {f"TOLLHOUSE_{field.name.upper()}" for field in fields(settings.Settings)} - {"TOLLHOUSE_ENVIRONMENT"}
    assert set(_config()) <= known
    assert set(_named("Secret", "tollhouse")["stringData"]) <= set(settings.SECRETS)
    read = settings.load(None, environment=_config())
    assert (read.partitions, read.worker_port, read.port) == (12, 9108, 8080)


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_process_is_probed_where_it_answers_and_bounded(name: str) -> None:
    (container,) = _pod(name)["containers"]
    assert container["args"] == [name]
    port = {"worker": "TOLLHOUSE_WORKER_PORT", "api": "TOLLHOUSE_PORT"}[name]
    (opened,) = container["ports"]
    assert str(opened["containerPort"]) == _config()[port]
    for probe, path in (("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert container[probe]["httpGet"] == {"path": path, "port": opened["name"]}
        assert container[probe]["timeoutSeconds"] > 3  # an answer about what hangs takes three seconds
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    assert _pod(name)["terminationGracePeriodSeconds"] >= 15


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_process_runs_without_rights(name: str) -> None:
    (container,), pod = _pod(name)["containers"], _pod(name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    user = re.search(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert user is not None
    assert str(pod["securityContext"]["runAsUser"]) == user[1]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    writable = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert writable == {_config()["TOLLHOUSE_DIR"], "/tmp"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_one_at_a_time_may_be_taken_away_and_all_selectors_meet(name: str) -> None:
    budget = _named("PodDisruptionBudget", name)["spec"]
    assert budget["maxUnavailable"] == 1
    labels = _named("Deployment" if name == "worker" else "StatefulSet", name)["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    assert _named("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_workers_are_scaled_on_the_lag_of_their_own_group_up_to_the_partitions() -> None:
    scaled = _named("ScaledObject", "worker")["spec"]
    (trigger,) = scaled["triggers"]
    default = StreamSettings(broker="", data_dir=Path())
    assert scaled["scaleTargetRef"]["name"] == "worker"
    assert str(scaled["maxReplicaCount"]) == _config()["TOLLHOUSE_PARTITIONS"]
    assert trigger["metadata"]["bootstrapServers"] == _config()["TOLLHOUSE_BROKER"]
    assert trigger["metadata"]["consumerGroup"] == default.app_id
    assert trigger["metadata"]["topic"] == default.topic_prefix + USAGE_EVENTS
    assert trigger["metadata"]["allowIdleConsumers"] == "false"
    assert "replicas" not in _named("Deployment", "worker")["spec"]


JOBS = {
    "retention": ("migration", [["retention", "--apply", "--months", "18"]]),
    "stripe": ("finance", [["stripe", "sync"], ["stripe", "drift"]]),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_nightly_job_signs_in_as_the_role_that_may_do_its_work(name: str) -> None:
    """That the role may, and a worker's may not, is shown in tests/security/test_roles.py."""
    role, commands = JOBS[name]
    assert [container["args"] for container in _job(name)] == commands
    for container in _job(name):
        *_, last = container["envFrom"]  # of two sources of one name Kubernetes takes the later one
        assert last == {"secretRef": {"name": f"tollhouse-{role}"}}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    url = make_url(_named("Secret", f"tollhouse-{role}")["stringData"]["TOLLHOUSE_DATABASE_URL"])
    shared = make_url(_config()["TOLLHOUSE_DATABASE_URL"])
    assert (url.username, url.host, url.database) == (f"tollhouse_{role}_1", shared.host, shared.database)
    spec = _named("CronJob", name)["spec"]
    assert (spec["timeZone"], spec["concurrencyPolicy"]) == ("Etc/UTC", "Forbid")
    assert "TOLLHOUSE_RETENTION_MONTHS" not in _config(), "the workers would try, and may not"


@pytest.mark.parametrize("name", JOBS)
def test_a_nightly_jobs_commands_are_ours(name: str) -> None:
    for container in _job(name):
        context = None
        command: click.Command = cli
        words = list(container["args"])
        while isinstance(command, click.Group):
            word = words.pop(0)
            context = click.Context(command, parent=context, info_name=word)
            found = command.get_command(context, word)
            assert found is not None, container["args"]
            command = found
        command.make_context(command.name, words)  # refuses an option that there is not


@pytest.mark.parametrize("name", CONTAINERS)
def test_worker_and_api_take_a_user_of_their_own_where_there_is_one(name: str) -> None:
    (container,) = _pod(name)["containers"]
    assert container["envFrom"][-1] == {"secretRef": {"name": f"tollhouse-{name}", "optional": True}}
    assert f"//tollhouse_{name}_1@" in _named("Secret", f"tollhouse-{name}")["stringData"]["TOLLHOUSE_DATABASE_URL"]


def test_no_secret_is_written_down() -> None:
    for file, secret in _documents():
        if secret["kind"] == "Secret":
            assert file == "secret.example.yaml"
            values = {n: v for n, v in secret["stringData"].items() if n != "TOLLHOUSE_DATABASE_URL"}
            assert set(values) <= set(settings.SECRETS)
            assert set(values.values()) == {"change-me"}
    assert "@" in _config()["TOLLHOUSE_DATABASE_URL"]
    assert ":" not in _config()["TOLLHOUSE_DATABASE_URL"].split("//")[1].split("@")[0]
