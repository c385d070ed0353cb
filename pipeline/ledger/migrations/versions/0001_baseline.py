"""The ledger as it was when its schema got a version.

Frozen: a later change of a table is a later revision. Until the first release, what is new is entered here as well.
"""

from typing import Final

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None

CLASSES: Final = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_long",
    "output",
    "reasoning",
    "input_audio",
    "output_audio",
    "input_image",
    "output_image",
    "web_searches",
)
UNITS: Final = Numeric(40, 0).with_variant(BigInteger(), "sqlite")

metadata = MetaData()


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _int(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _bytes(name: str, *, null: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=null)


Table(
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


Table(
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
    *(_int(name) for name in (*CLASSES, "requests", "errors", "events")),
    PrimaryKeyConstraint("tenant", "quarter_us", "key", "provider", "model", "service_tier", "size_band", "pooled"),
    sqlite_with_rowid=False,
)

for _name in ("rollup_days", "rollup_months"):
    Table(
        _name,
        metadata,
        _text("tenant"),
        _int("start_us"),
        _text("key"),
        _text("provider"),
        _text("model"),
        _text("service_tier"),
        _int("size_band"),
        Column("pooled", SmallInteger, nullable=False),
        *(_int(name) for name in (*CLASSES, "requests", "errors", "events")),
        PrimaryKeyConstraint("tenant", "start_us", "key", "provider", "model", "service_tier", "size_band", "pooled"),
        sqlite_with_rowid=False,
    )

Table(
    "compacted",
    metadata,
    Column("tenant", Text, primary_key=True),
    _text("zone"),
    _int("days_until_us"),
    _int("months_until_us"),
)

Table(
    "late_quarters",
    metadata,
    _text("tenant"),
    _int("quarter_us"),
    _int("changes"),
    _int("done"),
    PrimaryKeyConstraint("tenant", "quarter_us"),
    Index("late_quarters_open", "tenant", sqlite_where=text("changes > done"), postgresql_where=text("changes > done")),
    sqlite_with_rowid=False,
)

Table(
    "quota_windows",
    metadata,
    _text("scope"),
    _text("name"),
    _text("kind"),
    _int("start_us"),
    _int("end_us"),
    Column("used", UNITS, nullable=False),
    Column("reserved", UNITS, nullable=False),
    _int("version"),
    PrimaryKeyConstraint("scope", "name", "kind", "start_us"),
    sqlite_with_rowid=False,
)

Table(
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

Table(
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

Table(
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

Table(
    "topic_generations",
    metadata,
    _text("topic"),
    _int("number"),  # 0, 1, …: how often the topic was made anew; see generations.py
    _text("topic_id"),  # the broker's
    _int("first_us"),
    PrimaryKeyConstraint("topic", "number"),
    UniqueConstraint("topic", "topic_id"),
)

Table(
    "outbox",
    metadata,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("topic"),  # usage.rejected, alerts
    _text("ref"),  # what is to be published: the rejected row's n, the alert's id
    _int("version"),  # of the alert
    _int("claimed_us"),  # until when a worker has it
)

Table(
    "catalogs",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    _int("applied_us"),
    _text("applied_by"),
    _text("document"),  # JSON
    _text("digest"),
)

Table(
    "key_states",
    metadata,
    Column("key", Text, primary_key=True),
    _text("state"),  # active, suspended, revoked, rotating
    _int("changed_us"),
    _text("changed_by"),
    _text("reason"),
    _int("version"),
)

Table(
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

Table(
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

Table(
    "billing_documents",
    metadata,
    _text("kind"),  # the parts of the billing book that are neither invoice nor credit note, and push states
    _text("id"),
    _text("document"),
    PrimaryKeyConstraint("kind", "id"),
)

Table(
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

Table(
    "detector_states",
    metadata,
    Column("subject", Text, primary_key=True),
    _int("minute_us"),
    _text("state"),  # JSON
)

Table(
    "audit_log",
    metadata,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _int("at_us"),
    _text("who"),
    _text("action"),
    _text("subject"),
    _text("detail"),
)

Table(
    "key_fingerprints",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    _text("key"),
    _text("last_four"),
    _int("registered_us"),
    _text("registered_by"),
)

Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    _text("algorithm"),
    _text("public_jwk"),
    _int("created_us"),
    _int("retired_us", null=True),
)

Table(
    "revoked_tokens",
    metadata,
    _text("kind"),  # jti, or before (all tokens of a tenant issued before at_us)
    _text("value"),
    _int("at_us"),
    _int("expires_us", null=True),
    PrimaryKeyConstraint("kind", "value"),
)

Table(
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

Table(
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

Table(
    "leak_scores",
    metadata,
    _text("key"),
    _int("hour_us"),
    _text("tenant"),
    _int("score_milli"),  # the hour's highest surprise in thousandths of the key's own record
    PrimaryKeyConstraint("key", "hour_us", "tenant"),
    sqlite_with_rowid=False,
)

Table(
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


def upgrade() -> None:
    """Make all tables."""
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Remove all tables, with what is in them."""
    metadata.drop_all(op.get_bind())
