"""Who looks at a page: a session in the ledger, or anybody where the dashboard is open on a loopback address.

The cookie holds a random id, the ledger its digest, so neither lets anybody in with the other missing, and no token is
in either. The row is read at each request: a session that was ended, or whose token was revoked, is over at once on
every process. Posts carry a value of the session, which another site cannot know.
"""

import hmac
import re
import secrets
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from pipeline.ledger import Connection, LedgerUnavailable
from pipeline.ledger import sessions as rows
from pipeline.ledger.catalogs import audit
from pipeline.ledger.sessions import Session
from schemas.instants import SECOND_US
from tollhouse.api.problems import Problem
from tollhouse.api.state import Api, api_of
from tollhouse.tokens import Claims, TokenRefused

COOKIE: Final = "tollhouse_session"
SEEN_PART: Final = 20
"""That a session was used is written down when a twentieth of its idle time is over: a page is mostly reading."""
ANYONE: Final = Claims(kind="operator", subject="anyone", jti="", issued_us=0, expires_us=2**62, role="viewer")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def digest_of(text: str) -> str:
    """What the ledger keeps of an id, a state or a cookie: 256 random bits need no salt."""
    return sha256(text.encode()).hexdigest()


def session_of(request: Request) -> Claims | None:
    """The person, or None where nobody signed in. Proxies have no pages."""
    session = _session(request)
    if session is not None:
        return _claims(session)
    return ANYONE if api_of(request).settings.open_dashboard and is_local(request) else None


def _session(request: Request) -> Session | None:
    """The session of the cookie, if it counts; looked up once a request."""
    if not hasattr(request.state, "session"):
        request.state.session = _find(api_of(request), request.cookies.get(COOKIE, ""))
    found: Session | None = request.state.session
    return found


def _find(api: Api, cookie: str) -> Session | None:
    if not _ID.fullmatch(cookie):
        return None
    digest, now_us = digest_of(cookie), api.now_us()
    session = api.ledger.read(lambda connection: rows.find(connection, digest))
    idle_us = api.settings.session_idle_s * SECOND_US
    if session is None or now_us >= session.ends_us or now_us - session.seen_us >= idle_us:
        return None
    try:
        api.checker.check_session(_claims(session), now_us, session.issuer)
    except TokenRefused:
        return None
    if now_us - session.seen_us >= idle_us // SEEN_PART:
        try:
            api.ledger.write(lambda connection: rows.seen(connection, digest, now_us))
        except LedgerUnavailable:
            return session  # a ledger that can only be read still shows its pages, until the idle time is over
    return session


def _claims(session: Session) -> Claims:
    return Claims(
        kind=session.kind,
        subject=session.subject,
        jti=session.jti,
        issued_us=session.issued_us,
        expires_us=session.ends_us,
        kid=session.kid,
        role=session.role,
    )


def is_local(request: Request) -> bool:
    """Both ends on this machine, and asked for by a loopback name: another site's page cannot point a name here."""
    client = request.client.host if request.client else ""
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return _loopback(client) and (name == "localhost" or _loopback(name.strip("[]")))


def _loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def csrf_of(request: Request) -> str:
    """The value that this session's forms carry; empty without a session."""
    session = _session(request)
    return session.form if session is not None else ""


def same_origin(request: Request) -> bool:
    """Whether a browser sent the post from a page of ours (or something that is no browser did)."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    return site in ("same-origin", "none") and (
        origin is None or origin.partition("://")[2] == request.headers.get("host", "")
    )


async def check_form(request: Request, given: str) -> None:
    """403 for a post that did not come from a form of this session."""
    expected = await run_in_threadpool(csrf_of, request)
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()) or not same_origin(request):
        raise Problem(403, "stale_form", "this form is not of your session: load the page again")


def sign_in(request: Request, response: Response, claims: Claims, *, issuer: str, ends_us: int, how: str) -> None:
    """Begin a session under a new id, and put that into the cookie; the session that the browser had is over.

    issuer: who vouched, "" for a token of ours. ends_us: when what was shown is over. how: for the audit log.
    """
    api, before = api_of(request), digest_of(request.cookies.get(COOKIE, ""))
    now_us, cookie = api.now_us(), secrets.token_urlsafe(32)
    session = Session(
        digest=digest_of(cookie),
        kind=claims.kind,
        subject=claims.subject,
        role=claims.role,
        issuer=issuer,
        jti=claims.jti,
        kid=claims.kid,
        issued_us=claims.issued_us,
        form=secrets.token_hex(32),
        created_us=now_us,
        seen_us=now_us,
        ends_us=min(ends_us, now_us + api.settings.session_max_s * SECOND_US),
    )

    def work(connection: Connection) -> None:
        rows.end(connection, before)
        rows.begin(connection, session)
        audit(connection, now_us, claims.who, "sign_in", "dashboard", how)

    api.ledger.write(work)
    left_s = (session.ends_us - now_us) // SECOND_US
    put_cookie(request, response, COOKIE, cookie, max_age_s=left_s)


def sign_out(request: Request, response: Response) -> None:
    """End the session, on every process, and take the cookie away."""
    api, session = api_of(request), _session(request)
    if session is not None:

        def work(connection: Connection) -> None:
            if rows.end(connection, session.digest):
                audit(connection, api.now_us(), f"{session.kind}:{session.subject}", "sign_out", "dashboard")

        api.ledger.write(work)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def put_cookie(
    request: Request, response: Response, name: str, value: str, *, max_age_s: int, lax: bool = False, path: str = "/"
) -> None:
    """A cookie that no script reads and no other site's page sends along. lax: it comes along when the browser itself
    is sent here from another site, as an issuer does."""
    response.set_cookie(
        name,
        value,
        max_age=max(1, max_age_s),
        httponly=True,
        samesite="lax" if lax else "strict",
        secure=request.url.scheme == "https" or api_of(request).settings.base_url.startswith("https:"),
        path=path,
    )
