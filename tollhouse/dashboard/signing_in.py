"""Signing in, by a token or at the operators' issuer, and signing out."""

import secrets
from typing import Final
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from pipeline.ledger import sessions as rows
from pipeline.ledger.sessions import SignIn
from schemas.instants import SECOND_US
from tollhouse.api.problems import Problem, not_found
from tollhouse.api.state import Api, api_of
from tollhouse.dashboard import sessions
from tollhouse.dashboard.common import form_of, page
from tollhouse.tokens import Claims, TokenRefused
from tollhouse.tokens.issuer_http import IssuerUnavailable
from tollhouse.tokens.sign_in import BACK, OperatorSignIn

router = APIRouter(include_in_schema=False)
_log = structlog.get_logger("tollhouse.dashboard")

BROWSER: Final = "tollhouse_sign_in"
"""The cookie of the browser that began a sign-in at the issuer: nobody else comes back with its answer."""
WAY_S: Final = 600
"""Time for a password, a second factor, and looking for the phone."""


@router.get("/sign-in")
async def sign_in_form(request: Request) -> Response:
    """The form, and the way to the issuer."""
    return _form(api_of(request))


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Check the token, and begin a session."""
    form = await form_of(request)
    if not sessions.same_origin(request):
        raise Problem(403, "stale_form", "this form did not come from here: load the page again")
    _slow_down(request)
    return await run_in_threadpool(_by_token, request, form.get("token", ""))


def _by_token(request: Request, token: str) -> Response:
    api = api_of(request)
    try:
        claims = api.checker.check(token, api.now_us())
        if claims.kind == "proxy":
            raise TokenRefused("token_invalid", "a proxy has no pages: use a token of an operator or a tenant")
    except TokenRefused as refused:
        return _form(api, refused.detail)
    response = RedirectResponse("/", 303)
    issuer = api.checker.issuer_of(token)
    sessions.sign_in(request, response, claims, issuer=issuer, ends_us=claims.expires_us, how="by token")
    return response


@router.get("/sign-in/oidc")
def to_the_issuer(request: Request) -> Response:
    """Send the browser to the issuer, and keep what its answer has to fit to."""
    api, issuer = _issuer(request)
    _slow_down(request)
    try:
        way = issuer.begin()
    except IssuerUnavailable as away:
        return _away(api, issuer, away)
    cookie, now_us = secrets.token_urlsafe(32), api.now_us()
    sign_in = SignIn(
        digest=sessions.digest_of(way.state),
        browser=sessions.digest_of(cookie),
        nonce=way.nonce,
        verifier=way.verifier,
        ends_us=now_us + WAY_S * SECOND_US,
    )
    if not api.ledger.write(lambda connection: rows.open_sign_in(connection, sign_in, now_us)):
        raise Problem(429, "too_many_requests", "too many sign-ins are on their way", headers={"Retry-After": "60"})
    response = RedirectResponse(way.address, 303)
    sessions.put_cookie(request, response, BROWSER, cookie, max_age_s=WAY_S, lax=True, path=BACK)
    return response


@router.get(BACK)
def back(request: Request) -> Response:
    """The issuer's answer: once, to the browser that began it. Then a session by the issuer's word."""
    api, issuer = _issuer(request)
    _slow_down(request)
    try:
        claims = _by_issuer(request, api, issuer)
    except TokenRefused as refused:
        _log.warning("sign-in at the issuer was refused", issuer=issuer.issuer, detail=refused.detail)
        return _without_way(_form(api, refused.detail, 403))
    except IssuerUnavailable as away:
        return _without_way(_away(api, issuer, away))
    # A page, no redirect: the strict cookie does not go along while the issuer's site is what led here.
    response = page("signed_in.html", person=None, csrf="")
    sessions.sign_in(request, response, claims, issuer=issuer.issuer, ends_us=2**62, how=f"by {issuer.issuer}")
    return _without_way(response)


def _by_issuer(request: Request, api: Api, issuer: OperatorSignIn) -> Claims:
    asked = request.query_params
    state, browser = asked.get("state", ""), request.cookies.get(BROWSER, "")
    digests = sessions.digest_of(state), sessions.digest_of(browser)
    way = api.ledger.write(lambda connection: rows.take_sign_in(connection, *digests))
    if way is None:
        raise _refused("this sign-in was not begun in this browser, or is over: begin it again")
    if api.now_us() >= way.ends_us:
        raise _refused("it took too long: begin it again")
    if not issuer.answered_by(asked.get("iss")):
        raise _refused("the answer is of another issuer (iss)")
    if "error" in asked:
        raise _refused(f"the issuer says {asked['error'][:60]}")
    return issuer.finish(asked.get("code", ""), way.verifier, way.nonce, api.now_us())


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session."""
    form = await form_of(request)
    await sessions.check_form(request, form.get("csrf", ""))
    response = RedirectResponse("/sign-in", 303)
    await run_in_threadpool(sessions.sign_out, request, response)
    return response


def _issuer(request: Request) -> tuple[Api, OperatorSignIn]:
    api = api_of(request)
    if api.sign_in is None:
        raise not_found("operators sign in by token here (setting sign_in_issuer is empty)")
    return api, api.sign_in


def _slow_down(request: Request) -> None:
    who = request.client.host if request.client else ""
    if wait_s := api_of(request).pace.wait_s(f"sign-in:{who}"):
        raise Problem(429, "too_many_requests", "too many attempts", headers={"Retry-After": str(wait_s)})


def _form(api: Api, refused: str = "", status: int = 401) -> Response:
    issuer = urlsplit(api.sign_in.issuer).netloc if api.sign_in is not None else ""
    return page("sign_in.html", status if refused else 200, refused=refused, issuer=issuer, person=None, csrf="")


def _away(api: Api, issuer: OperatorSignIn, away: IssuerUnavailable) -> Response:
    _log.warning("the issuer of the sign-in is away", issuer=issuer.issuer, detail=str(away))
    return _form(api, "the issuer does not answer as it should; try again in a minute, or use a token", 502)


def _without_way(response: Response) -> Response:
    response.delete_cookie(BROWSER, path=BACK, httponly=True, samesite="lax")
    return response


def _refused(detail: str) -> TokenRefused:
    return TokenRefused("token_invalid", detail)
