"""Events go to Kafka by TLS and SASL from end to end, and nobody gets in who should not."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka.errors import KafkaError

from pipeline.catalog import parse_yaml
from pipeline.ledger import Ledger
from pipeline.ledger.tables import events
from streams.offsets import end_offsets
from streams.topics_admin import TopicsError, ensure_topics
from streams.transport import MECHANISMS, PROTOCOLS, BrokerSecurity
from tests.security.certificates import Authority
from tests.security.secure_kafka import PASSWORD, PROXY, PROXY_PASSWORD, USER, SecureKafka, secure_kafka
from tests.services import ROOT
from tests.simulation.driver import CATALOG
from tollhouse import settings
from tollhouse_client.events import usage_event
from tollhouse_client.producer import KafkaPythonProducer

WAYS = ("ssl", "SCRAM-SHA-512", "PLAIN")


@dataclass
class Place:
    """The broker, and the files of a client that may come in."""

    node: SecureKafka
    authority: Authority
    client: Any
    stranger: Authority

    def security(self, way: str, **other: Any) -> BrokerSecurity:
        pair = self.client
        if way == "ssl":
            made = BrokerSecurity("ssl", self.authority.file, pair.certificate, pair.key)
        else:
            made = BrokerSecurity("sasl_ssl", self.authority.file, mechanism=way, user=USER, password=PASSWORD)
        return dataclasses.replace(made, **other)

    def bootstrap(self, way: str) -> str:
        return self.node.mutual if way == "ssl" else self.node.sasl

    def environment(self, way: str) -> dict[str, str]:
        """What an operator would set."""
        common = {"TOLLHOUSE_BROKER": self.bootstrap(way), "TOLLHOUSE_BROKER_CA_FILE": str(self.authority.file)}
        if way == "ssl":
            return common | {
                "TOLLHOUSE_BROKER_SECURITY": "ssl",
                "TOLLHOUSE_BROKER_CERT_FILE": str(self.client.certificate),
                "TOLLHOUSE_BROKER_KEY_FILE": str(self.client.key),
            }
        return common | {
            "TOLLHOUSE_BROKER_SECURITY": "sasl_ssl",
            "TOLLHOUSE_BROKER_SASL": way,
            "TOLLHOUSE_BROKER_USER": USER,
            "TOLLHOUSE_BROKER_PASSWORD": PASSWORD,
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("secure")
    authority = Authority(home / "ca")
    with secure_kafka(home / "kafka", authority) as node:
        yield Place(node, authority, authority.pair("client"), Authority(home / "stranger", "Another CA"))


def run(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tollhouse", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", ["ssl", "SCRAM-SHA-512"])
def test_events_are_published_counted_and_found_well(way: str, place: Place, tmp_path: Path) -> None:
    """`publish`, `worker` and `doctor` as their operator starts them: every client of the service goes this way."""
    prefix = f"t{secrets.token_hex(4)}."
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(url)
    ledger.create()
    ledger.apply(parse_yaml(CATALOG), 0, "test")
    known = {name: value for name, value in os.environ.items() if not name.startswith("TOLLHOUSE_")}
    environment = known | place.environment(way) | {
        "TOLLHOUSE_DATABASE_URL": url, "TOLLHOUSE_DIR": str(tmp_path), "TOLLHOUSE_TOPIC_PREFIX": prefix,
        "TOLLHOUSE_APP_ID": f"{prefix}app", "TOLLHOUSE_PARTITIONS": "1", "TOLLHOUSE_LOG_LEVEL": "debug",
        "PYTHONPATH": os.pathsep.join(str(path) for path in (ROOT, ROOT / "sdk")),
    }  # fmt: skip
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tollhouse", "worker"], env=environment, stdout=output, stderr=output
        )
    try:
        lines = [
            usage_event(source="proxy/tls", tenant="alpha", key="openai-pool", provider="openai", model="gpt-5",
                        tokens={"input": 1})
            for _ in range(30)
        ]  # fmt: skip
        file = tmp_path / "events.ndjson"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        _wait_for(lambda: b"worker.starting" in log.read_bytes(), log)
        done = run(["publish", str(file), "--json", "--wait", "60"], environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["published"] == 30
        _wait_for(lambda: len(ledger.rows(events)) == 30, log)
        found = run(["doctor"], environment)
        said = {"ssl": "by TLS", "SCRAM-SHA-512": f"by TLS as {USER}"}[way]
        assert f"broker: {place.bootstrap(way)} answers, {said}" in found.stdout, found.stdout + found.stderr
        assert "the ledger has every message" in found.stdout
    finally:
        worker.terminate()
        worker.wait(30)
        ledger.close()
    assert PASSWORD not in log.read_text(errors="replace") + done.stderr + done.stdout + found.stdout + found.stderr


def _wait_for(happened: Any, log: Path, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_may_come_in_does(way: str, place: Place) -> None:
    topic = f"t{secrets.token_hex(4)}"
    made = asyncio.run(ensure_topics(place.bootstrap(way), {topic: (1, {})}, security=place.security(way)))
    assert made == [topic]
    results: list[BaseException | None] = []
    producer = KafkaPythonProducer(place.bootstrap(way), topic, "test", place.security(way).client())
    producer.send(b"k", b"[]", results.append)
    producer.close(10)
    assert results == [None]


REFUSED = {
    "in the clear": ("ssl", lambda _: BrokerSecurity(), "listens, but not to Kafka in the clear"),
    "no certificate": ("ssl", lambda p: p.security("ssl", cert_file=None, key_file=None), "refused this client"),
    "a broker that we do not trust": (
        "ssl", lambda p: p.security("ssl", ca_file=p.stranger.file), "is not trusted"),
    "a wrong password": ("PLAIN", lambda p: p.security("PLAIN", password="guess"), "refused the sign-in of"),
    "a wrong password by SCRAM": (
        "SCRAM-SHA-512", lambda p: p.security("SCRAM-SHA-512", password="guess"), "refused the sign-in of"),
    "TLS without a user": ("PLAIN", lambda p: p.security("ssl"), "refused this client"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_nobody_else_comes_in_and_the_reason_is_one_line(name: str, place: Place) -> None:
    way, make, said = REFUSED[name]
    with pytest.raises(TopicsError) as refused:
        asyncio.run(ensure_topics(place.bootstrap(way), {"never": (1, {})}, security=make(place)))
    text = str(refused.value)
    assert said in text
    assert "\n" not in text
    assert "guess" not in text


def test_a_proxys_user_writes_its_events_and_nothing_else(place: Place) -> None:
    """With one right (write to the events' topic) the client publishes; it reads no event, and writes no state."""
    topic, other = f"t{secrets.token_hex(4)}", f"t{secrets.token_hex(4)}"
    bootstrap, operator = place.node.sasl, place.security("PLAIN")
    asyncio.run(ensure_topics(bootstrap, {topic: (1, {}), other: (1, {})}, security=operator))
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, **operator.client())
    pattern = ResourcePattern(ResourceType.TOPIC, topic)
    right = ACL(f"User:{PROXY}", "*", ACLOperation.WRITE, ACLPermissionType.ALLOW, pattern)
    assert admin.create_acls([right])["failed"] == []
    admin.close()
    proxy = place.security("PLAIN", user=PROXY, password=PROXY_PASSWORD)
    results: list[BaseException | None] = []
    producer = KafkaPythonProducer(bootstrap, topic, "test", proxy.client())
    producer.send(b"k", b"[]", results.append)
    producer.close(10)
    assert results == [None]
    with pytest.raises(TopicAuthorizationFailedError):
        asyncio.run(_read_one(bootstrap, topic, proxy))
    assert asyncio.run(_read_one(bootstrap, topic, operator)) == b"[]"
    stranger = KafkaPythonProducer(bootstrap, other, "test", proxy.client() | {"max_block_ms": 5_000})
    refused: list[BaseException | None] = []
    with contextlib.suppress(KafkaError):
        stranger.send(b"k", b"[]", refused.append)
    stranger.close(10)
    assert None not in refused
    assert asyncio.run(end_offsets(bootstrap, other, client=operator.client())) == {0: 0}


async def _read_one(bootstrap: str, topic: str, security: BrokerSecurity) -> bytes | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", **security.client())
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        async with asyncio.timeout(60):
            found: bytes | None = (await consumer.getone()).value
            return found
    finally:
        await consumer.stop()


def test_a_certificate_for_another_name_is_refused(place: Place) -> None:
    elsewhere = place.bootstrap("ssl").replace("127.0.0.1", "localhost")
    with pytest.raises(TopicsError, match=r"is not trusted .*localhost"):
        asyncio.run(ensure_topics(elsewhere, {"never": (1, {})}, security=place.security("ssl")))


def test_the_settings_offer_what_the_transport_knows() -> None:
    assert settings._WORDS["broker_security"] == PROTOCOLS
    assert set(settings._WORDS["broker_sasl"]) == set(MECHANISMS)


def test_a_password_is_not_shown_with_the_rest() -> None:
    assert "planted" not in repr(BrokerSecurity("sasl_ssl", user="u", password="planted"))
