"""Who looks at the dashboard: sessions by the digest of what their cookie holds, and sign-ins on their way.

Every process of the API reads the row at each request, so a session that ends here has ended everywhere.
"""

from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from pipeline.ledger.tables import sessions, sign_ins

_s, _i = sessions.c, sign_ins.c

SIGN_INS_MAX: Final = 10_000
"""On their way at once: each is a row that anybody can make."""


@dataclass(frozen=True, slots=True)
class Session:
    """A row of `sessions`. digest: SHA-256 of the cookie's id, in hexadecimal. issuer: who vouched, "" for a token of
    ours; jti, kid, issued_us: of the token shown. form: the value of its forms. Instants in UTC microseconds."""

    digest: str
    kind: str
    subject: str
    role: str
    issuer: str
    jti: str
    kid: str
    issued_us: int
    form: str
    created_us: int
    seen_us: int
    ends_us: int


@dataclass(frozen=True, slots=True)
class SignIn:
    """A row of `sign_ins`. digest: of its state; browser: of the cookie of the browser that began it."""

    digest: str
    browser: str
    nonce: str
    verifier: str
    ends_us: int


def begin(connection: Connection, session: Session) -> None:
    """Enter a session; those whose time is over go."""
    connection.execute(delete(sessions).where(_s.ends_us < session.created_us))
    connection.execute(insert(sessions).values(asdict(session)))


def find(connection: Connection, digest: str) -> Session | None:
    """The session, over or not."""
    row = connection.execute(select(sessions).where(_s.digest == digest)).first()
    return None if row is None else Session(*row)


def seen(connection: Connection, digest: str, now_us: int) -> None:
    """It was used at this instant."""
    connection.execute(update(sessions).where(_s.digest == digest, _s.seen_us < now_us).values(seen_us=now_us))


def end(connection: Connection, digest: str) -> bool:
    """End it; whether it was there."""
    return connection.execute(delete(sessions).where(_s.digest == digest)).rowcount > 0


def end_of_token(connection: Connection, jti: str) -> None:
    """End every session that was begun with this token."""
    connection.execute(delete(sessions).where(_s.jti == jti))


def end_of_subject(connection: Connection, kind: str, subject: str, before_us: int) -> None:
    """End every session of the subject that was begun with a token issued before the instant."""
    own = (_s.kind == kind, _s.subject == subject, _s.issued_us < before_us)
    connection.execute(delete(sessions).where(*own))


def open_sign_in(connection: Connection, sign_in: SignIn, now_us: int) -> bool:
    """Enter a sign-in that is on its way; those whose time is over go. False where too many are."""
    connection.execute(delete(sign_ins).where(_i.ends_us < now_us))
    many = select(_i.digest).offset(SIGN_INS_MAX - 1).limit(1)
    if connection.execute(many).first() is not None:
        return False
    connection.execute(insert(sign_ins).values(asdict(sign_in)))
    return True


def take_sign_in(connection: Connection, digest: str, browser: str) -> SignIn | None:
    """The sign-in, once: it is taken out. None for one that was taken, was never begun or is another browser's."""
    own = delete(sign_ins).where(_i.digest == digest, _i.browser == browser)
    row = connection.execute(own.returning(*sign_ins.c)).first()
    return None if row is None else SignIn(*row)
