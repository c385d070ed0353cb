"""Who looks at a page: a token in a cookie, or anybody where the dashboard is open on a loopback address.

The cookie holds the signed token itself, so a session ends with its token: by time, by revocation, at once on every
process. Posts carry a CSRF value derived from the token, which another site cannot know.
"""

import hmac
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from schemas.instants import SECOND_US
from tollhouse.api.problems import Problem
from tollhouse.api.state import api_of
from tollhouse.tokens import Claims, TokenRefused

COOKIE: Final = "tollhouse_session"
MAX_AGE_S: Final = 12 * 3600
"""A working day, however long the token lives."""
ANYONE: Final = Claims(kind="operator", subject="anyone", jti="", issued_us=0, expires_us=2**62, role="viewer")


def session_of(request: Request) -> Claims | None:
    """The person, or None where nobody signed in. Proxies have no pages."""
    api = api_of(request)
    if token := request.cookies.get(COOKIE, ""):
        try:
            claims = api.checker.check(token, api.now_us())
        except TokenRefused:
            claims = None
        if claims is not None and claims.kind != "proxy":
            return claims
    return ANYONE if api.settings.open_dashboard and is_local(request) else None


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
    """The value that this session's forms carry; empty without a session cookie."""
    token = request.cookies.get(COOKIE, "")
    return hmac.new(token.encode(), b"tollhouse form", sha256).hexdigest() if token else ""


def same_origin(request: Request) -> bool:
    """Whether a browser sent the post from a page of ours (or something that is no browser did)."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    return site in ("same-origin", "none") and (
        origin is None or origin.partition("://")[2] == request.headers.get("host", "")
    )


def check_form(request: Request, given: str) -> None:
    """403 for a post that did not come from a form of this session."""
    expected = csrf_of(request)
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()) or not same_origin(request):
        raise Problem(403, "stale_form", "this form is not of your session: load the page again")


def sign_in(request: Request, response: Response, token: str, claims: Claims) -> None:
    """Put the token into the session cookie."""
    api = api_of(request)
    left_s = (claims.expires_us - api.now_us()) // SECOND_US
    response.set_cookie(
        COOKIE,
        token,
        max_age=max(1, min(MAX_AGE_S, left_s)),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https" or api.settings.base_url.startswith("https:"),
        path="/",
    )


def sign_out(response: Response) -> None:
    """Take the cookie away."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
