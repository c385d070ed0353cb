"""What every page needs: its template, its caller, its forms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from billing.plots import THEMES, Look
from tollhouse.api.bodies import raw_body
from tollhouse.api.problems import Problem, not_found
from tollhouse.dashboard import figures, sessions, shown
from tollhouse.tokens import Claims

_PICTURE_HEADERS: Final = {
    "Cache-Control": "private, max-age=60",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
CSP: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ROWS_MAX: Final = 100
"""Rows of a table on one page: a thousand tenants are ten pages, or a search."""
_PAGES: Final = Environment(
    loader=PackageLoader("tollhouse.dashboard"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PAGES.filters.update(
    count=shown.count,
    short=shown.short,
    money=shown.money,
    cost=shown.cost,
    amount=shown.amount,
    exact=shown.exact,
    instant=shown.instant,
    currency=shown.in_currency,
    when=shown.when,
    fact=shown.fact,
    made_of=shown.made_of,
    status_tag=shown.status_tag,
    score=shown.score,
    score_tag=shown.score_tag,
    signed=shown.signed,
)
_PAGES.globals.update(share=figures.share)


def look_of(theme: str) -> Look:
    """How a picture on a page looks, in the theme that the page asks for; 404 for another."""
    if theme not in THEMES:
        raise not_found(f"theme is one of {', '.join(THEMES)}")
    return Look(format="svg", theme=theme, width_in=10.5, height_in=3.6)


def svg(picture: bytes) -> Response:
    """A picture for a page."""
    return Response(picture, media_type="image/svg+xml", headers=_PICTURE_HEADERS)


def page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from its template."""
    text = _PAGES.get_template(name).render(**values)
    return HTMLResponse(text, status, {"Content-Security-Policy": CSP})


def person_of(request: Request) -> Claims:
    """Who looks; 401 as a problem where a picture or a file is asked for without a session."""
    person = sessions.session_of(request)
    if person is None:
        raise Problem(401, "sign_in", "sign in at /sign-in")
    return person


def operator_of(request: Request) -> Claims:
    """The operator who looks; 401 without a session, 404 for a tenant: these pages are none of its."""
    person = person_of(request)
    if person.kind != "operator":
        raise Problem(404, "not_found", "there is no such page")
    return person


def may_act(person: Claims) -> bool:
    """Whether the forms of on-call are shown; the post checks it again."""
    return person.kind == "operator" and person.role in ("oncall", "admin")


def may_bill(person: Claims) -> bool:
    """Whether the forms of finance are shown; the post checks it again."""
    return person.kind == "operator" and person.role in ("finance", "admin")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a long table: its rows, which page of how many, and how many rows there are in all."""

    rows: Sequence[Any]
    page: int
    count: int
    total: int


def paged(request: Request, rows: Sequence[Any], size: int = ROWS_MAX) -> Page:
    """The page that ?page= asks for; the nearest one that there is."""
    asked = request.query_params.get("page", "1")
    count = max(1, -(-len(rows) // size))
    number = min(count, max(1, int(asked))) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 1
    return Page(rows[(number - 1) * size : number * size], number, count, len(rows))


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a posted form; a field that is there twice counts once."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise Problem(415, "unsupported_media_type", "send a form")
    given = parse_qs((await raw_body(request)).decode("ascii", "replace"), max_num_fields=20)
    return {name: values[0].strip() for name, values in given.items()}
