"""The audit log gets its chain; months whose events were dropped get their digests."""

import json
from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Two tables more, and a digest for every line that the audit log has."""
    op.add_column("audit_log", sa.Column("hash", sa.Text, nullable=False, server_default=""))
    _chain(op.get_bind())
    op.create_table(
        "dropped_months",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("end_us", sa.BigInteger, nullable=False),
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("dropped_us", sa.BigInteger, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("redelivered", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("rollups_digest", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "start_us"),
    )
    op.create_table(
        "dropped_places",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("last_offset", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "start_us", "topic", "partition"),
    )


def downgrade() -> None:
    """Back to a log without a chain. Months that were dropped cannot come back, so a ledger with any stays as it is."""
    connection = op.get_bind()
    if connection.execute(sa.text("SELECT count(*) FROM dropped_months")).scalar_one():
        raise sa.exc.InvalidRequestError("months were dropped, whose digests version 0001 cannot keep: stay at 0002")
    op.drop_table("dropped_places")
    op.drop_table("dropped_months")
    op.drop_column("audit_log", "hash")
    connection.execute(sa.text("DELETE FROM billing_documents WHERE kind = 'audit' AND id = 'head'"))


def _chain(connection: sa.Connection) -> None:
    rows = connection.execute(sa.text("SELECT n, at_us, who, action, subject, detail FROM audit_log ORDER BY n")).all()
    # It had gaps where a transaction was undone, and is numbered anew: from now on a gap is a missing line.
    before, changes = "", []
    for n, row in enumerate(rows, 1):
        line = (n, int(row[1]), *row[2:])
        before = sha256(f"{before}\n{json.dumps(line, separators=(',', ':'))}".encode()).hexdigest()
        changes.append({"old": row[0], "n": n, "hash": before})
    if rows:
        # In order of the lines: each new number is free by then, since it is at most the old one.
        connection.execute(sa.text("UPDATE audit_log SET n = :n, hash = :hash WHERE n = :old"), changes)
        head = {"document": f"{len(rows)}:{before}"}
        connection.execute(
            sa.text("INSERT INTO billing_documents (kind, id, document) VALUES ('audit', 'head', :document)"), head
        )
