"""Health, figures and signing keys: for load balancers, Prometheus and whoever checks tokens. No sign-in."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from prometheus_client.registry import CollectorRegistry

from pipeline.ledger import LedgerUnavailable
from pipeline.ledger.catalogs import NoCatalog
from pipeline.ledger.figures import figures
from pipeline.ledger.generations import newest
from pipeline.ledger.tables import intake
from streams.offsets import end_offsets
from streams.topics import USAGE_EVENTS
from tollhouse.api.readiness import KEEP_S, OK, Late, Timely, words_of
from tollhouse.api.state import Api, api_of
from tollhouse_client import UsagePublisher

T = TypeVar("T")

router = APIRouter(tags=["operations"])
CONNECT_S: Final = 1.0
FIGURES_S: Final = 5.0
LAG_S: Final = 10.0
"""Where a topic ends is asked by a connection of its own, so not with every scrape of every process."""
SPOOLED_S: Final = 60.0
"""Four times what the client takes to find another broker."""


@router.get("/healthz", summary="The process answers")
async def healthz() -> dict[str, str]:
    """Nothing else is checked: a restart mends no database."""
    return {"status": "ok"}


@router.get("/readyz", summary="The process can do its work", responses={503: {"description": "Not now; says why."}})
def readyz(request: Request) -> JSONResponse:
    """Database, catalog, broker, and room in the spool; within a few seconds, whoever does not answer."""
    checks = checks_of(api_of(request))
    ready = all(word == OK for word in checks.values())
    return JSONResponse({"status": "ready" if ready else "not ready", "checks": checks}, 200 if ready else 503)


def checks_of(api: Api) -> dict[str, str]:
    """Each check by name: ok, or what is wrong; within WAIT_S."""
    return words_of({name: question(api, name, ask) for name, ask in _CHECKS.items()}) | {"spool": _spool(api)}


def question(api: Api, name: str, ask: Callable[[Api], T], keep_s: float = KEEP_S) -> Timely[T]:
    """The process's one question of that name."""
    asked: Timely[T] = api.questions.setdefault(name, Timely(name, lambda: ask(api), keep_s))
    return asked


def _database(api: Api) -> str:
    try:
        api.ledger.rows(intake)
    except LedgerUnavailable as error:
        return f"the database does not answer: {error}"
    return OK


def _catalog(api: Api) -> str:
    try:
        api.ledger.context()
    except (NoCatalog, LedgerUnavailable) as error:
        return str(error)
    return OK


def _broker(api: Api) -> str:
    bootstrap = api.settings.broker
    return OK if broker_answers(bootstrap) else f"no broker answers at {bootstrap}"


_CHECKS: Final[dict[str, Callable[[Api], str]]] = {"database": _database, "catalog": _catalog, "broker": _broker}


def _spool(api: Api) -> str:
    """A spool in which events lie for long means that the broker does not take them, whatever its port says."""
    if isinstance(api.publisher, UsagePublisher):
        stats = api.publisher.stats()
        if stats.oldest_unsent_age_s > SPOOLED_S:
            return f"{stats.pending} events wait for the broker, the oldest for {stats.oldest_unsent_age_s:.0f} s"
    return OK


def broker_answers(bootstrap: str) -> bool:
    """Whether one of the brokers takes connections."""
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S):
                return True
        except (OSError, ValueError, OverflowError):
            continue
    return False


@router.get("/.well-known/jwks.json", summary="Public keys that tokens are checked with")
def jwks(request: Request) -> JSONResponse:
    """A JWK set (RFC 7517); to be kept for five minutes at most, so that a rotation is seen."""
    api = api_of(request)
    headers = {"Cache-Control": "public, max-age=300"}
    return JSONResponse(api.checker.jwks(api.now_us()), headers=headers, media_type="application/jwk-set+json")


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
def metrics(request: Request) -> Response:
    """This process's requests, and the ledger's state. No tenant is named."""
    api = api_of(request)
    return Response(api.metrics.text() + generate_latest(state_of(api)), media_type=CONTENT_TYPE_LATEST)


def state_of(api: Api) -> CollectorRegistry:
    """What is asked for when Prometheus asks: readiness, the ledger's figures, how far it is behind, the spool."""
    registry = CollectorRegistry()
    checks = checks_of(api)
    ready = all(word == OK for word in checks.values())
    Gauge("tollhouse_ready", "Whether /readyz says so.", registry=registry).set(ready)
    each = Gauge("tollhouse_check", "Each check of /readyz: 1 is ok.", ("check",), registry=registry)
    for name, word in checks.items():
        each.labels(name).set(word == OK)
    Gauge("tollhouse_database_up", "Whether the database answers.", registry=registry).set(checks["database"] == OK)
    Gauge("tollhouse_broker_up", "Whether the broker answers.", registry=registry).set(checks["broker"] == OK)
    _add_ledger(api, registry, up=checks["database"] == OK)
    _add_lag(api, registry, up=checks["database"] == checks["broker"] == OK)
    _add_spool(api, registry)
    stripe = any(api.settings.environment.get(name) for name in ("STRIPE_SECRET_KEY", "STRIPE_SECRET_KEY_FILE"))
    Gauge("tollhouse_stripe_configured", "Whether a Stripe key is set.", registry=registry).set(stripe)
    return registry


def _add_ledger(api: Api, registry: CollectorRegistry, *, up: bool) -> None:
    if not up:
        return
    try:
        found = question(api, "ledger", lambda a: a.ledger.read(lambda c: figures(c, a.now_us())), FIGURES_S).get()
    except (Late, LedgerUnavailable):
        return  # figures that are not there are noticed; old ones would pass for new
    for figure in found:
        gauge = Gauge(f"tollhouse_{figure.name}", figure.text, figure.labels, registry=registry)
        for labels, value in figure.values.items():
            (gauge.labels(*labels) if labels else gauge).set(value)


def _add_lag(api: Api, registry: CollectorRegistry, *, up: bool) -> None:
    lag = Gauge("tollhouse_lag_messages", "Messages that the ledger has not taken.", ("partition",), registry=registry)
    if not up:
        return
    try:
        behind = question(api, "lag", _lag, LAG_S).get()
    except Exception:  # noqa: BLE001 - a broker in trouble is the broker's check to say
        return
    for partition, messages in behind.items():
        lag.labels(str(partition)).set(messages)


def _lag(api: Api) -> dict[int, int]:
    topic = api.settings.topic_prefix + USAGE_EVENTS
    known = api.ledger.read(lambda c: newest(c, topic)).name
    taken = {row["partition"]: row["next_offset"] for row in api.ledger.rows(intake, intake.c.topic == known)}
    ends = asyncio.run(end_offsets(api.settings.broker, topic, client=api.security.client()))
    return {partition: max(0, end - taken.get(partition, 0)) for partition, end in ends.items()}


def _add_spool(api: Api, registry: CollectorRegistry) -> None:
    stats = api.publisher.stats() if isinstance(api.publisher, UsagePublisher) else None
    for name, words, value in (
        ("spool_pending_events", "Accepted, not yet with the broker.", stats.pending if stats else 0),
        ("spool_oldest_seconds", "Age of the oldest of them.", stats.oldest_unsent_age_s if stats else 0),
        ("spool_bytes", "Bytes in the spool.", stats.spooled_bytes if stats else 0),
        ("spool_reconnects", "Times the broker had to be found again.", stats.reconnects if stats else 0),
        ("spool_undeliverable_events", "Larger than the broker takes; kept.", stats.undeliverable if stats else 0),
    ):
        Gauge(f"tollhouse_{name}", words, registry=registry).set(value)
