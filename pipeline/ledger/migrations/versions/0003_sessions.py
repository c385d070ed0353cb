"""The dashboard's sessions, and sign-ins that are on their way to an issuer and back."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Two tables more."""
    op.create_table(
        "sessions",
        sa.Column("digest", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "subject", "role", "issuer", "jti", "kid")),
        sa.Column("issued_us", sa.BigInteger, nullable=False),
        sa.Column("form", sa.Text, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("created_us", "seen_us", "ends_us")),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("sessions_by_end", "sessions", ["ends_us"])
    op.create_table(
        "sign_ins",
        sa.Column("digest", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("browser", "nonce", "verifier")),
        sa.Column("ends_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("sign_ins_by_end", "sign_ins", ["ends_us"])


def downgrade() -> None:
    """Everybody signs in again."""
    op.drop_table("sign_ins")
    op.drop_table("sessions")
