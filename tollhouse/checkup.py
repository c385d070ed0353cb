"""The checks of `tollhouse doctor`."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pipeline.ledger import Ledger, LedgerUnavailable
from pipeline.ledger.catalogs import NoCatalog
from pipeline.ledger.generations import newest
from pipeline.ledger.schema import SchemaError
from pipeline.ledger.tables import intake
from schemas.instants import format_instant
from streams.generation import NoTopicId, topic_id
from streams.offsets import end_offsets
from streams.topics import USAGE_EVENTS, topic_specs
from streams.transport import BrokerSecurity, TransportError, why_not
from tollhouse.brokers import security_of
from tollhouse.errors import UserError
from tollhouse.settings import Settings
from tollhouse.tokens.issuer_http import IssuerUnavailable

EARLIEST_US = 1_767_225_600_000_000
"""2026-01-01: a clock before this product existed is wrong."""


class Finding(NamedTuple):
    """One line: ok, or what to do."""

    name: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which a person would mend them."""
    findings = [_settings(settings), _clock()]
    ledger, database = _database(settings)
    findings.append(database)
    if ledger is not None:
        findings.append(_guarded("catalog", lambda: _catalog(ledger)))
    findings += asyncio.run(_broker(settings, ledger))
    findings.append(_stripe(settings))
    if settings.sign_in_issuer:
        findings.append(_guarded("sign-in", lambda: _sign_in(settings)))
    return findings


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except (LedgerUnavailable, NoCatalog, UserError) as error:
        return Finding(name, ok=False, detail=str(error))


def _sign_in(settings: Settings) -> Finding:
    from tollhouse.tokens.sign_in import OperatorSignIn  # noqa: PLC0415 - most installations have no issuer

    issuer = OperatorSignIn(settings)
    try:
        issuer.begin()
    except IssuerUnavailable as away:
        detail = f"{issuer.issuer}: {away}: check sign_in_issuer, and whether this machine reaches it"
        return Finding("sign-in", ok=False, detail=detail)
    return Finding("sign-in", ok=True, detail=f"{issuer.issuer} answers; it must send people back to {issuer.back}")


def _settings(settings: Settings) -> Finding:
    where = settings.dir.resolve()
    if not where.is_dir():
        return Finding("settings", ok=False, detail=f"{where} is no directory: give --dir")
    return Finding("settings", ok=True, detail=f"directory {where.name or where}, broker {settings.broker}")


def _clock() -> Finding:
    now = time.time_ns() // 1000
    ok = now > EARLIEST_US
    return Finding("clock", ok, format_instant(now) if ok else f"{format_instant(now)} is in the past: set the clock")


def _database(settings: Settings) -> tuple[Ledger | None, Finding]:
    from tollhouse.cli.shared import open_ledger  # noqa: PLC0415 - the one place that words its failures

    try:
        ledger: Ledger = open_ledger(settings)
    except SchemaError as error:
        return None, Finding("database", ok=False, detail=str(error))
    except (LedgerUnavailable, UserError) as error:
        return None, Finding("database", ok=False, detail=f"{error}: check TOLLHOUSE_DATABASE_URL")
    backend = ledger.engine.dialect.name
    return ledger, Finding("database", ok=True, detail=f"{backend} answers, tables are there")


def _catalog(ledger: Ledger) -> Finding:
    context = ledger.context()
    catalog = context.catalog
    detail = f"version {context.version}: {len(catalog.tenants)} tenants, {len(catalog.keys)} keys"
    return Finding("catalog", ok=True, detail=detail)


async def _broker(settings: Settings, ledger: Ledger | None) -> list[Finding]:
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # the finding says it
    try:
        security = security_of(settings)
        client = security.client()
    except (UserError, TransportError) as error:
        return [Finding("broker", ok=False, detail=str(error))]
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker, request_timeout_ms=5000, **client)
    try:
        await admin.start()
        names = set(await admin.list_topics())
    except (KafkaError, OSError):
        detail = await asyncio.to_thread(why_not, settings.broker, security)
        return [Finding("broker", ok=False, detail=detail)]
    finally:
        await admin.close()
    found = [Finding("broker", ok=True, detail=f"{settings.broker} answers, {_by(security)}")]
    missing = [name for name in topic_specs(settings.partitions, settings.topic_prefix) if name not in names]
    if missing:
        found.append(
            Finding("topics", ok=False, detail=f"missing: {', '.join(missing)}: start `tollhouse worker` once")
        )
        return found
    found.append(Finding("topics", ok=True, detail="all there"))
    if ledger is not None:
        found.append(await _lag(settings, ledger, client))
    return found


def _by(security: BrokerSecurity) -> str:
    words = {"plaintext": "in the clear", "ssl": "by TLS", "sasl_ssl": f"by TLS as {security.user}"}
    return words[security.protocol]


async def _lag(settings: Settings, ledger: Ledger, client: dict[str, Any]) -> Finding:
    topic = settings.topic_prefix + USAGE_EVENTS
    try:
        ends = await end_offsets(settings.broker, topic, client=client)
        found = await asyncio.to_thread(topic_id, settings.broker, topic, client)
    except (KafkaError, OSError, NoTopicId) as error:
        return Finding("lag", ok=False, detail=f"the broker does not tell its offsets: {error}")
    known = ledger.read(lambda c: newest(c, topic))
    # A topic that was made anew, and that no worker has read yet, has nothing in the ledger.
    name = known.name if known.topic_id in ("", found) else None
    taken = {row["partition"]: row["next_offset"] for row in ledger.rows(intake, intake.c.topic == name)}
    behind = sum(max(0, end - taken.get(partition, 0)) for partition, end in ends.items())
    if behind:
        return Finding("lag", ok=False, detail=f"{behind} messages wait: is `tollhouse worker` running?")
    return Finding("lag", ok=True, detail="the ledger has every message")


def _stripe(settings: Settings) -> Finding:
    try:
        key = settings.secret("STRIPE_SECRET_KEY")
    except UserError:
        return Finding("stripe", ok=True, detail="no key set: invoices stay here")

    from billing.stripe_gateway import KeyRefused, make_client, probe  # noqa: PLC0415 - the SDK takes a second

    try:
        trouble = probe(make_client(key, api_base=settings.stripe_api_base or None, allow_live=True, timeout_s=10))
    except KeyRefused as error:
        trouble = str(error)
    if trouble:
        return Finding("stripe", ok=False, detail=trouble)
    mode = "live" if "_live_" in key else "test"
    return Finding("stripe", ok=True, detail=f"answers, {mode} mode")
