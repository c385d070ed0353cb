"""Errors as problem details (RFC 9457): one shape for all, with a type that stays and a detail that helps."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pipeline.ledger import LedgerDenied, LedgerUnavailable
from pipeline.ledger.catalogs import NoCatalog
from tollhouse.tokens import TokenRefused

MEDIA_TYPE: Final = "application/problem+json"
PREFIX: Final = "urn:tollhouse:problem:"

_log = structlog.get_logger("tollhouse.api")


class Problem(Exception):
    """An answer that is not the one hoped for. kind names it for programs, detail says what to do."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers, self.members = dict(headers or {}), members


def response(problem: Problem) -> JSONResponse:
    """The problem as a response."""
    body = {
        "type": PREFIX + problem.kind,
        "title": problem.kind.replace("_", " "),
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    return JSONResponse(body, problem.status, problem.headers, MEDIA_TYPE)


def of_token(refused: TokenRefused) -> Problem:
    """A caller's own token does not count."""
    challenge = 'Bearer error="invalid_token"'
    return Problem(401, refused.reason, refused.detail, headers={"WWW-Authenticate": challenge}, reason=refused.reason)


def not_found(what: str) -> Problem:
    """There is no such thing, or not for this caller."""
    return Problem(404, "not_found", what)


def _of_http(error: HTTPException) -> Problem:
    try:
        kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("'", "")
    except ValueError:
        kind = "error"
    return Problem(error.status_code, kind, str(error.detail), headers=error.headers)


def _of_validation(error: RequestValidationError) -> Problem:
    errors = [
        {"pointer": "/" + "/".join(str(part) for part in item["loc"]), "detail": str(item["msg"])}
        for item in error.errors()
    ]
    where = f"{errors[0]['pointer']}: {errors[0]['detail']}" if errors else "the request is not valid"
    return Problem(422, "invalid_request", where, errors=errors)


def install(app: FastAPI) -> None:
    """Every failure leaves as a problem; what we did not foresee is logged, and told without its inside."""

    @app.exception_handler(Problem)
    async def _problem(_request: Request, error: Problem) -> JSONResponse:
        return response(error)

    @app.exception_handler(TokenRefused)
    async def _token(_request: Request, error: TokenRefused) -> JSONResponse:
        return response(of_token(error))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        return response(_of_http(error))

    @app.exception_handler(RequestValidationError)
    async def _validation(_request: Request, error: RequestValidationError) -> JSONResponse:
        return response(_of_validation(error))

    @app.exception_handler(LedgerUnavailable)
    async def _away(request: Request, error: LedgerUnavailable) -> JSONResponse:
        if isinstance(error, LedgerDenied):
            _log.error("database denies", path=request.url.path, error=str(error))
            detail = "the service may not do this in its database: its log says what"
        else:
            _log.warning("database away", error=str(error))
            detail = "the database does not answer now: try again"
        return response(Problem(503, "database_unavailable", detail, headers={"Retry-After": "2"}))

    @app.exception_handler(NoCatalog)
    async def _no_catalog(_request: Request, error: NoCatalog) -> JSONResponse:
        return response(Problem(409, "no_catalog", str(error)))

    @app.exception_handler(Exception)
    async def _other(request: Request, error: Exception) -> JSONResponse:
        _log.error("request failed", path=request.url.path, exc_info=error)
        return response(Problem(500, "internal_error", "this is a fault of the service; it was logged"))
