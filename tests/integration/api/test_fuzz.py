"""Whatever is sent to any address, by anybody: an answer below 500, and errors are problem details.

TOLLHOUSE_TEST_FUZZ_TIMES makes so many times as many requests.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.alerting import Alert
from tests import services
from tests.integration.api.kit import NOW_US, House

TIMES = int(os.environ.get("TOLLHOUSE_TEST_FUZZ_TIMES", "1"))
pytestmark = pytest.mark.timeout(120 * TIMES)
ODD = [
    "",
    " ",
    "\0",
    "\ud800",
    "é",
    "../..",
    "a" * 300,
    "null",
    "-1",
    "9" * 40,
    "1e400",
    "%00",
    "'; --",
    "{}",
    "2026-11",
]
KNOWN = [
    "acme",
    "globex",
    "openai-pool-1",
    "a:1",
    "1",
    "2026-11",
    "2026-11.pdf",
    "finalise",
    "suspend",
    "ack",
    "call-1",
]
TEXTS = st.one_of(st.sampled_from(ODD + KNOWN), st.text(max_size=12))
NUMBERS = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.sampled_from([0, -1, 2**63, 2**64, 10**30, 600, 86400])
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
MEMBERS = ["token", "model", "estimate", "ttl_s", "id", "tenant", "month", "finalise", "reason", "feedback", "for_s"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("fuzz")
    if request.param == "sqlite":
        yield from _house(f"sqlite:///{directory}/fuzz.db", directory)
    else:
        with services.fresh_postgresql() as url:
            yield from _house(url, directory)


def _house(url: str, directory: Path) -> Iterator[House]:
    secrets = {"STRIPE_SECRET_KEY": "sk_test_" + "b2" * 12, "STRIPE_WEBHOOK_SECRET": "whsec_1"}
    made = House(url, directory, environment=secrets)
    made.count(made.event("e1"))
    made.ledger.raise_alerts([Alert("a:1", NOW_US, "leak", "page", "acme/openai-pool-1", "a leak", {})])
    made.client.post("/v1/invoices/run", json={"month": "2026-11"}, headers=made.operator("finance"))
    yield made
    made.close()


def operations(house: House) -> list[tuple[str, str]]:
    paths = house.client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in sorted(paths.items()) for method in sorted(methods)]


def judge(answer: Any, what: object) -> None:
    assert answer.status_code < 500, (what, answer.text)
    if answer.status_code >= 400 and answer.headers["content-type"] != "application/json":
        assert answer.headers["content-type"] == "application/problem+json", what
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["detail"]


@settings(max_examples=400 * TIMES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_request_is_a_fault_of_the_service(house: House, data: st.DataObject) -> None:
    method, path = data.draw(st.sampled_from([o for o in operations(house) if o[1].startswith("/v1/")]))
    address = re.sub(r"\{[^}]+\}", lambda _: quote(data.draw(TEXTS).encode("utf-8", "surrogatepass"), safe=""), path)
    names = ["by", "from", "to", "tenant", "month", "status", "state", "kind", "limit", "revision", "paper", "reason"]
    query = data.draw(st.dictionaries(st.sampled_from(names), TEXTS, max_size=3))
    if query:
        pairs = ((name, quote(value.encode("utf-8", "surrogatepass"), safe="")) for name, value in query.items())
        address += "?" + "&".join(f"{name}={value}" for name, value in pairs)
    body = data.draw(st.one_of(JSON, st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=4)))
    raw = data.draw(st.one_of(st.just(json.dumps(body).encode()), st.binary(max_size=30)))
    who = data.draw(st.sampled_from(["proxy", "operator", "tenant", "nobody"]))
    admin, acme = house.operator("admin"), house.tenant("acme")
    headers = {"proxy": house.proxy(), "operator": admin, "tenant": acme, "nobody": {}}[who]
    types = ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "text/plain", ""]
    headers["Content-Type"] = data.draw(st.sampled_from(types))
    judge(house.client.request(method, address, content=raw, headers=headers), (method, address, raw, who))


@settings(max_examples=150 * TIMES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.fixed_dictionaries(
        {"token": st.just("T"), "model": TEXTS},
        optional={
            "estimate": st.dictionaries(
                st.sampled_from(["tokens", "cost", "requests", "input", "odd"]), JSON, max_size=3
            ),
            "ttl_s": st.one_of(NUMBERS, st.just(600)),
            "id": st.one_of(TEXTS, st.just("call-1")),
        },
    )
)
def test_no_ask_of_a_good_tenant_is_a_fault_of_the_service(house: House, body: dict[str, Any]) -> None:
    raw = json.dumps(body | {"token": house.token("tenant", "acme")}).encode()
    headers = house.proxy() | {"Content-Type": "application/json"}
    judge(house.client.post("/v1/authorize", content=raw, headers=headers), body)


@settings(max_examples=150 * TIMES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    change=st.dictionaries(
        st.sampled_from(["specversion", "id", "source", "type", "time", "subject", "data"]), JSON, max_size=2
    ),
    inside=st.dictionaries(
        st.sampled_from(
            ["key", "provider", "api", "model", "usage", "tokens", "status", "replaces", "labels", "voids"]
        ),
        JSON,
        max_size=3,
    ),
)
def test_any_event_is_accepted_or_rejected(house: House, change: dict[str, Any], inside: dict[str, Any]) -> None:
    event = house.event()
    raw = json.dumps({**event, "data": {**event["data"], **inside}, **change}).encode()
    headers = house.proxy() | {"Content-Type": "application/cloudevents+json"}
    answer = house.client.post("/v1/events", content=raw, headers=headers)
    judge(answer, raw)
    assert answer.status_code == 202
    assert answer.json()["results"][0]["status"] in ("accepted", "rejected")


@settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=TEXTS, header=st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60), name=TEXTS)
def test_no_page_is_a_fault_of_the_service(house: House, path: str, header: str, name: str) -> None:
    odd = quote(path.encode("utf-8", "surrogatepass"), safe="/")
    for address in (
        f"/{odd}",
        f"/invoices/{odd}/2026-11",
        f"/plots/usage.svg?theme={quote(name.encode('utf-8', 'surrogatepass'))}",
    ):
        answer = house.client.get(address, headers={"Cookie": f"tollhouse_session={header}"})
        assert answer.status_code < 500, address


def test_the_file_is_about_every_operation(house: House, tmp_path: Path) -> None:
    assert len(operations(house)) >= 25
