"""Bodies: bounded, and read strictly: no unknown member, no guessed type."""

import asyncio
from typing import Any, Final, TypeVar

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.screen import unstorable
from schemas.usage_event import is_identifier
from tollhouse.api.problems import Problem, response

BODY_MAX: Final = 4 * 1024 * 1024
"""A batch of several thousand events; a proxy with more sends more batches."""

JSON_TYPES: Final = ("", "application/json", "application/x-www-form-urlencoded")
"""The last is what curl says of `-d` by itself; what counts is that the body is JSON."""

T = TypeVar("T")


def too_large() -> Problem:
    """The answer to a body over the limit."""
    detail = f"the body is larger than {BODY_MAX} bytes: send smaller batches"
    return Problem(413, "body_too_large", detail, headers=_LAST)


def too_slow(timeout_s: float) -> Problem:
    """The answer to a body that does not come."""
    return Problem(408, "body_too_slow", f"the body was not here within {timeout_s} s: send it at once", headers=_LAST)


_LAST: Final = {"Connection": "close"}
"""The rest of the body is never read: without this the connection would wait for it."""


class BodyLimit:
    """ASGI: ends a request whose body is larger than BODY_MAX, announced or not, or takes longer than timeout_s."""

    def __init__(self, app: ASGIApp, timeout_s: float = 30) -> None:
        self.app, self.timeout_s = app, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"content-length", b"0")
        if not given.isdigit() or int(given) > BODY_MAX:
            await response(too_large())(scope, receive, send)
            return
        taken, whole, started = 0, False, False
        until_s = asyncio.get_running_loop().time() + self.timeout_s

        async def counted() -> Message:
            nonlocal taken, whole
            if whole:  # what comes now is the end of the connection, which may take as long as it likes
                return await receive()
            try:
                async with asyncio.timeout_at(until_s):
                    message = await receive()
            except TimeoutError:
                raise too_slow(self.timeout_s) from None
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > BODY_MAX:
                raise too_large()
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except Problem as problem:
            if started:
                raise
            await response(problem)(scope, receive, send)


async def raw_body(request: Request) -> bytes:
    """The whole body. 415 for a compressed one: its size would say nothing."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Problem(415, "unsupported_encoding", "send the body uncompressed")
    try:
        return await request.body()
    except ClientDisconnect:
        raise Problem(400, "incomplete", "the connection ended within the body") from None


def read_json(raw: bytes, kind: type[T]) -> T:
    """The body as the type (a msgspec struct that forbids unknown fields); a 4xx problem says what is wrong where."""
    try:
        found = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid_request", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "not_json", f"the body is not JSON: {error}") from None
    # NULs and lone surrogates come by an escape only: as bytes they are no JSON.
    if b"\\" in raw and (bad := unstorable(msgspec.to_builtins(found), "body")) is not None:
        raise Problem(422, "invalid_request", f"{bad} holds a character that cannot be stored")
    return found


async def json_body(request: Request, kind: type[T]) -> T:
    """The JSON body; an empty one counts as {}."""
    return parsed_body(request, await raw_body(request), kind)


def parsed_body(request: Request, raw: bytes, kind: type[T]) -> T:
    """The same, of a body that was read already."""
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if raw and content_type not in JSON_TYPES:
        raise Problem(415, "unsupported_media_type", "send application/json")
    return read_json(raw or b"{}", kind)


def name_of(text: str, what: str) -> str:
    """A name in a path or a body: 1 to 256 printable characters; a 422 problem for anything else."""
    if not is_identifier(text):
        raise Problem(422, "invalid_request", f"{what} must have 1 to 256 printable characters and not be blank")
    return text


def described(kind: type, *, required: bool = True, example: Any = None) -> dict[str, Any]:
    """For openapi_extra: the body of a handler that reads it itself."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    content: dict[str, Any] = {"schema": components.get(schema.get("$ref", ""), schema)}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": required, "content": {"application/json": content}}}
