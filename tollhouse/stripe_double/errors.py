"""How the double refuses: Stripe's error object, and whether an idempotency key remembers it."""

from typing import Any


class ApiError(Exception):
    """An error answer. stored: the endpoint had begun, so a key replays it (validation failures are not kept)."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        stored: bool = True,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.stored = stored
        self.headers = headers or {}
        self.body: dict[str, Any] = {"error": {"type": kind, "message": message}}
        if code is not None:
            self.body["error"]["code"] = code
        if param is not None:
            self.body["error"]["param"] = param


class ConnectionDropped(Exception):
    """No answer: the connection ends, before or after the work was done."""


def invalid(message: str, *, param: str | None = None, code: str | None = None, stored: bool = True) -> ApiError:
    """A 400 of type invalid_request_error."""
    return ApiError(400, "invalid_request_error", message, code=code, param=param, stored=stored)


def missing(kind: str, object_id: str) -> ApiError:
    """A 404 with code resource_missing."""
    return ApiError(404, "invalid_request_error", f"No such {kind}: '{object_id}'", code="resource_missing", param="id")
