"""Revocation: single tokens by jti, and all tokens of a subject issued before an instant."""

from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.ledger import Ledger, sessions
from pipeline.ledger.catalogs import audit
from pipeline.ledger.tables import revoked_tokens
from tollhouse.tokens.claims import Claims

_t = revoked_tokens.c
JTI: Final = "jti"
BEFORE: Final = "before"


@dataclass(frozen=True, slots=True)
class Revocations:
    """What was revoked, as of one reading of the ledger."""

    jtis: frozenset[str] = frozenset()
    before_us: dict[str, int] = field(default_factory=dict)
    """Subject ("tenant:acme") to the instant; tokens issued before it are over."""

    def why(self, claims: Claims) -> str | None:
        """Why the token was taken back; None if it was not. Has the form of verify's `revoked`."""
        if claims.jti in self.jtis:
            return "the token was revoked"
        if claims.issued_us < self.before_us.get(claims.who, 0):
            return f"all tokens of {claims.who} issued before a given time were revoked: get a new one"
        return None


def load(ledger: Ledger) -> Revocations:
    """All revocations in force."""
    rows = ledger.rows(revoked_tokens)
    return Revocations(
        frozenset(row["value"] for row in rows if row["kind"] == JTI),
        {row["value"]: row["at_us"] for row in rows if row["kind"] == BEFORE},
    )


def _put(connection: Any, kind: str, value: str, at_us: int) -> None:
    known = connection.execute(revoked_tokens.select().where(_t.kind == kind, _t.value == value)).first()
    if known is None:
        connection.execute(revoked_tokens.insert().values(kind=kind, value=value, at_us=at_us, expires_us=None))
    elif known.at_us < at_us:  # a revocation is never taken back
        connection.execute(revoked_tokens.update().where(_t.kind == kind, _t.value == value).values(at_us=at_us))


def revoke_jti(ledger: Ledger, jti: str, now_us: int, who: str) -> None:
    """The token with this id counts no more."""

    def work(connection: Any) -> None:
        _put(connection, JTI, jti, now_us)
        sessions.end_of_token(connection, jti)
        audit(connection, now_us, who, "token.revoke", jti)

    ledger.write(work)


def revoke_before(ledger: Ledger, subject: str, before_us: int, now_us: int, who: str) -> None:
    """Tokens of the subject ("tenant:acme") issued before the instant count no more."""

    def work(connection: Any) -> None:
        _put(connection, BEFORE, subject, before_us)
        kind, _, name = subject.partition(":")
        sessions.end_of_subject(connection, kind, name, before_us)
        audit(connection, now_us, who, "token.revoke_before", subject, str(before_us))

    ledger.write(work)
