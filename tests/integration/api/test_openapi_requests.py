"""Requests made from the OpenAPI description, right and wrong, by every kind of caller: none is a fault of ours.

TOLLHOUSE_TEST_OPENAPI_EXAMPLES makes more of them for each operation.
"""

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.alerting import Alert
from pipeline.ledger import Ledger
from tests.integration.api.kit import NOW_US, House
from tollhouse.api.app import make_app
from tollhouse.settings import Settings

EXAMPLES = int(os.environ.get("TOLLHOUSE_TEST_OPENAPI_EXAMPLES", "6"))
CALLERS = ("proxy", "operator", "tenant", "nobody")


class Front:
    """An application whose inside is put in later: the operations are listed before there is a database."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


FRONT = Front(make_app(Settings(), Ledger("sqlite://"), lambda: NOW_US))
operations = schemathesis.openapi.from_asgi("/openapi.json", FRONT).include(path_regex="^/v1/")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("openapi")
    secrets = {"STRIPE_SECRET_KEY": "sk_test_" + "b2" * 12, "STRIPE_WEBHOOK_SECRET": "whsec_1"}
    made = House(f"sqlite:///{directory}/openapi.db", directory, environment=secrets)
    made.count(made.event("e1"))
    made.ledger.raise_alerts([Alert("a:1", NOW_US, "leak", "page", "acme/openai-pool-1", "a leak", {})])
    made.client.post("/v1/invoices/run", json={"month": "2026-11"}, headers=made.operator("finance"))
    FRONT.app = made.app
    yield made
    made.close()


@operations.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_that_is_described_is_a_fault_of_the_service(case: schemathesis.Case, house: House) -> None:
    """Each operation by its own description: paths, queries, bodies and media types as they are published."""
    for who in CALLERS:
        headers = {
            "proxy": house.proxy,
            "operator": lambda: house.operator("admin"),
            "tenant": lambda: house.tenant("acme"),
            "nobody": dict,
        }[who]()
        answer = case.call(headers=headers)
        assert answer.status_code < 500, (who, case.as_curl_command(headers), answer.text)
        if answer.status_code >= 400 and "application/problem+json" in answer.headers.get("content-type", [""])[0]:
            assert answer.json()["status"] == answer.status_code
            assert answer.json()["detail"]


def test_every_operation_is_among_them() -> None:
    names = {operation.ok().path for operation in operations.get_all_operations()}
    assert {"/v1/authorize", "/v1/events", "/v1/invoices/run"} <= names
    assert len(names) >= 20
