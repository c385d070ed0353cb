"""The ledger's tables. Integers and text only: no float, no time type (instants are UTC microseconds).

Amounts that leave here as money are in documents (JSON with decimal strings); quota units are integers.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

from schemas.tokens import CLASSES

metadata = MetaData()


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _int(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _bytes(name: str, *, null: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=null)


events = Table(
    "events",
    metadata,
    _text("tenant"),
    _text("source"),
    _text("id"),
    _bytes("digest"),
    _text("kind"),
    _text("state"),
    _int("time_us"),
    _int("sent_us"),  # the event's own time; differs from time_us for a replacement
    _int("arrival_us"),
    _text("topic"),
    Column("partition", SmallInteger, nullable=False),
    _int("offset"),
    _int("item"),
    _text("key"),
    _text("provider"),
    _text("api"),
    _text("model"),
    _text("service_tier"),
    _text("status"),
    Column("cache_hit", SmallInteger, nullable=False),
    Column("estimated", SmallInteger, nullable=False),
    Column("pooled", SmallInteger, nullable=False),
    _int("size_band"),
    *(_int(name) for name in CLASSES),
    Column("requests", SmallInteger, nullable=False),
    _text("upstream_id", null=True),
    _text("reservation", null=True),
    _text("user"),
    _text("network"),
    _text("agent"),
    _text("labels"),
    _text("target_source", null=True),
    _text("target_id", null=True),
    _text("reason"),
    _text("by_source", null=True),
    _text("by_id", null=True),
    _text("replaced_source", null=True),
    _text("replaced_id", null=True),
    Column("redelivered", SmallInteger, nullable=False),
    _bytes("raw", null=True),  # only while an event is held
    PrimaryKeyConstraint("tenant", "source", "id"),
    Index("events_by_time", "tenant", "time_us"),
    Index(
        "events_by_upstream",
        "tenant",
        "provider",
        "upstream_id",
        sqlite_where=text("upstream_id IS NOT NULL"),
        postgresql_where=text("upstream_id IS NOT NULL"),
    ),
    Index("events_held", "tenant", sqlite_where=text("state = 'held'"), postgresql_where=text("state = 'held'")),
    sqlite_with_rowid=False,
)

ROLLUP_KEY: Final = ("tenant", "key", "provider", "model", "service_tier", "size_band", "pooled", "quarter_us")
ROLLUP_SUMS: Final = (*CLASSES, "requests", "errors", "events")

rollups = Table(
    "rollups",
    metadata,
    _text("tenant"),
    _text("key"),
    _text("provider"),
    _text("model"),
    _text("service_tier"),
    _int("size_band"),
    Column("pooled", SmallInteger, nullable=False),
    _int("quarter_us"),
    *(_int(name) for name in ROLLUP_SUMS),
    PrimaryKeyConstraint("tenant", "quarter_us", "key", "provider", "model", "service_tier", "size_band", "pooled"),
    sqlite_with_rowid=False,
)


def _compacted(name: str) -> Table:
    """Sums of rollups over longer stretches of one tenant's local calendar; see compaction.py."""
    return Table(
        name,
        metadata,
        _text("tenant"),
        _int("start_us"),
        _text("key"),
        _text("provider"),
        _text("model"),
        _text("service_tier"),
        _int("size_band"),
        Column("pooled", SmallInteger, nullable=False),
        *(_int(column) for column in ROLLUP_SUMS),
        PrimaryKeyConstraint("tenant", "start_us", "key", "provider", "model", "service_tier", "size_band", "pooled"),
        sqlite_with_rowid=False,
    )


rollup_days = _compacted("rollup_days")
rollup_months = _compacted("rollup_months")

compacted = Table(
    "compacted",
    metadata,
    Column("tenant", Text, primary_key=True),
    _text("zone"),  # whose midnights the days and months are cut at
    _int("days_until_us"),  # every day that ends by then is in rollup_days, but for what late_quarters says
    _int("months_until_us"),
)

late_quarters = Table(
    "late_quarters",
    metadata,
    _text("tenant"),
    _int("quarter_us"),
    _int("changes"),  # how often usage came into the quarter when its day could have been summed up
    _int("done"),  # of these, how many the sums have; fewer: the day and the month are to be read from the quarters
    PrimaryKeyConstraint("tenant", "quarter_us"),
    Index("late_quarters_open", "tenant", sqlite_where=text("changes > done"), postgresql_where=text("changes > done")),
    sqlite_with_rowid=False,
)


class Units(TypeDecorator[int]):
    """Units of a quota, a Python int: numeric on PostgreSQL (cost in 1/10**12 outgrows 64 bits), 64 bits on SQLite."""

    impl = Numeric(40, 0)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """What the database stores."""
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else Numeric(40, 0))

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Whole units."""
        return None if value is None else int(value)


quota_windows = Table(
    "quota_windows",
    metadata,
    _text("scope"),
    _text("name"),
    _text("kind"),
    _int("start_us"),
    _int("end_us"),
    Column("used", Units, nullable=False),
    Column("reserved", Units, nullable=False),
    _int("version"),
    PrimaryKeyConstraint("scope", "name", "kind", "start_us"),
    sqlite_with_rowid=False,
)

reservations = Table(
    "reservations",
    metadata,
    _text("tenant"),
    _text("id"),
    _text("key"),
    _text("model"),
    _int("created_us"),
    _int("expires_us"),
    _text("state"),  # open, settled, released, expired
    _text("holds"),  # JSON: [[scope, name, kind, start_us, units], ...]
    _text("answer"),  # JSON: the decision, so that a repeat with the same id answers the same
    _text("leased", null=True),  # JSON of a lease (see leases.py); null: its first usage ends the reservation
    PrimaryKeyConstraint("tenant", "id"),
    Index(
        "reservations_open",
        "expires_us",
        sqlite_where=text("state = 'open'"),
        postgresql_where=text("state = 'open'"),
    ),
)

rejected = Table(
    "rejected",
    metadata,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("topic"),
    Column("partition", SmallInteger, nullable=False),
    _int("offset"),
    _int("item"),
    _text("tenant", null=True),
    _text("source", null=True),
    _text("id", null=True),
    _text("reason"),
    _text("detail"),
    _int("arrival_us"),
    _bytes("raw"),
    _bytes("digest"),  # of raw: a broker that forgot begins its offsets anew, and other events come at the same places
    _text("state"),  # open, replayed
    UniqueConstraint("topic", "partition", "offset", "item", "reason", "digest"),
)

intake = Table(
    "intake",
    metadata,
    _text("topic"),
    Column("partition", SmallInteger, nullable=False),
    _int("next_offset"),
    _int("received"),
    _int("counted"),
    _int("duplicates"),
    _int("rejected"),
    _int("held"),
    PrimaryKeyConstraint("topic", "partition"),
)

topic_generations = Table(
    "topic_generations",
    metadata,
    _text("topic"),
    _int("number"),  # 0, 1, …: how often the topic was made anew; see generations.py
    _text("topic_id"),  # the broker's
    _int("first_us"),
    PrimaryKeyConstraint("topic", "number"),
    UniqueConstraint("topic", "topic_id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("topic"),  # usage.rejected, alerts
    _text("ref"),  # what is to be published: the rejected row's n, the alert's id
    _int("version"),  # of the alert
    _int("claimed_us"),  # until when a worker has it
)

catalogs = Table(
    "catalogs",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    _int("applied_us"),
    _text("applied_by"),
    _text("document"),  # JSON
    _text("digest"),
)

key_states = Table(
    "key_states",
    metadata,
    Column("key", Text, primary_key=True),
    _text("state"),  # active, suspended, revoked, rotating
    _int("changed_us"),
    _text("changed_by"),
    _text("reason"),
    _int("version"),
)

invoices = Table(
    "invoices",
    metadata,
    _text("tenant"),
    _text("month"),
    _int("revision"),
    _text("status"),
    _text("number", null=True),
    _int("changed_us"),
    _text("document"),  # JSON of billing's Invoice
    _text("summary", null=True),  # JSON of what lists and sums of invoices need; null: to be made of the document
    PrimaryKeyConstraint("tenant", "month", "revision"),
    UniqueConstraint("number"),
)

credit_notes = Table(
    "credit_notes",
    metadata,
    _text("number"),
    _text("tenant"),
    _text("month"),
    _int("revision"),
    _int("issued_us"),
    _text("document"),
    PrimaryKeyConstraint("number"),
)

billing_documents = Table(
    "billing_documents",
    metadata,
    _text("kind"),  # the parts of the billing book that are neither invoice nor credit note, and push states
    _text("id"),
    _text("document"),
    PrimaryKeyConstraint("kind", "id"),
)

alerts = Table(
    "alerts",
    metadata,
    _text("id"),  # derived from what the alert is about: one incident, one alert
    _int("first_us"),
    _int("last_us"),
    _text("kind"),
    _text("severity"),
    _text("subject"),
    _text("detail"),
    _text("facts"),  # JSON
    _text("state"),  # open, acked, resolved
    _int("count"),
    _int("muted_until_us", null=True),
    _text("feedback"),
    PrimaryKeyConstraint("id"),
    Index("alerts_by_time", "last_us"),
)

detector_states = Table(
    "detector_states",
    metadata,
    Column("subject", Text, primary_key=True),
    _int("minute_us"),
    _text("state"),  # JSON
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _int("at_us"),
    _text("who"),
    _text("action"),
    _text("subject"),
    _text("detail"),
    Column("hash", Text, nullable=False, server_default=""),  # over this line and the hash of the one before; chain.py
)

key_fingerprints = Table(
    "key_fingerprints",
    metadata,
    Column("fingerprint", Text, primary_key=True),  # a keyed hash of a provider's key, which is kept nowhere
    _text("key"),
    _text("last_four"),
    _int("registered_us"),
    _text("registered_by"),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    _text("algorithm"),
    _text("public_jwk"),
    _int("created_us"),
    _int("retired_us", null=True),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    _text("kind"),  # jti, or before (all tokens of a tenant issued before at_us)
    _text("value"),
    _int("at_us"),
    _int("expires_us", null=True),
    PrimaryKeyConstraint("kind", "value"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True),  # of the id in the cookie, which is kept nowhere
    _text("kind"),  # operator or tenant
    _text("subject"),
    _text("role"),
    _text("issuer"),  # who vouched for the person; empty: a token of ours
    _text("jti"),
    _text("kid"),
    _int("issued_us"),
    _text("form"),  # what the session's forms carry, against posts from other sites
    _int("created_us"),
    _int("seen_us"),
    _int("ends_us"),
    Index("sessions_by_end", "ends_us"),
)

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("digest", Text, primary_key=True),  # of the state that is on its way to the issuer and back
    _text("browser"),  # digest of the cookie of the browser that began it
    _text("nonce"),
    _text("verifier"),  # of PKCE
    _int("ends_us"),
    Index("sign_ins_by_end", "ends_us"),
)

PASSING: Final = ("sessions", "sign_ins")
"""Tables of who looks just now: in no archive, since a restore must not bring an ended session back."""

deliveries = Table(
    "deliveries",
    metadata,
    _text("alert"),
    _int("version"),  # of the alert: 1 when it was new, one more each time it got worse or came back
    _text("sink"),  # the sink's id, a digest of its URL; empty: the alert itself, not yet given to its sinks
    _text("target"),  # the URL as it may be shown, without what is secret in it
    _text("state"),  # due, opened, sent, skipped, failed
    _int("tries"),
    _int("next_us"),
    _int("done_us", null=True),
    _text("error"),
    PrimaryKeyConstraint("alert", "version", "sink"),
    Index("deliveries_due", "next_us", sqlite_where=text("state = 'due'"), postgresql_where=text("state = 'due'")),
)

responses = Table(
    "responses",
    metadata,
    _text("subject"),  # as key_states names it: a key's id, or tenant:NAME
    _text("alert"),
    _int("version"),  # of the alert that it answers
    _text("action"),  # throttle, suspend
    _text("limits"),  # JSON: requests and tokens an hour, for a throttle
    _text("detail"),
    _int("since_us"),
    _int("release_us", null=True),  # when it ends by itself
    _int("released_us", null=True),
    PrimaryKeyConstraint("subject", "alert"),
)

leak_scores = Table(
    "leak_scores",
    metadata,
    _text("key"),
    _int("hour_us"),
    _text("tenant"),
    _int("score_milli"),  # the hour's highest surprise in thousandths of the key's own record
    PrimaryKeyConstraint("key", "hour_us", "tenant"),
    sqlite_with_rowid=False,
)

residuals = Table(
    "residuals",
    metadata,
    _text("key"),
    _text("kind"),  # report: of a reconciliation, absolute; watch: summed up minute by minute as it settles
    _int("start_us"),
    _int("end_us"),
    _int("reported"),  # tokens, by the provider
    _int("metered"),
    PrimaryKeyConstraint("key", "kind", "start_us"),
    sqlite_with_rowid=False,
)

dropped_months = Table(
    "dropped_months",
    metadata,
    _text("tenant"),
    _int("start_us"),
    _int("end_us"),
    _text("month"),
    _int("dropped_us"),
    _int("events"),
    _int("redelivered"),
    _text("digest"),  # SHA-256 over identities and contents of the events that were here
    _text("rollups_digest"),  # SHA-256 over the rollups that stay
    PrimaryKeyConstraint("tenant", "start_us"),
)

dropped_places = Table(
    "dropped_places",
    metadata,
    _text("tenant"),
    _int("start_us"),
    _text("topic"),
    Column("partition", SmallInteger, nullable=False),
    _int("events"),
    _int("last_offset"),
    PrimaryKeyConstraint("tenant", "start_us", "topic", "partition"),
)
