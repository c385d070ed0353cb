"""One line of `tollhouse normalize`: {"id", "provider", "api", "raw"} in, {"id", "tokens"} or {"id", "error"} out."""

import json
from typing import Any, Final

import msgspec

from pipeline.normalise import normalise
from pipeline.normalise.result import MALFORMED, Rejection
from schemas.tokens import as_dict

_NULL: Final = msgspec.Raw(b"null")


class _Case(msgspec.Struct):
    id: msgspec.Raw = _NULL  # kept as its bytes: an id of thirty digits comes back as it came
    provider: Any = None
    api: Any = None
    raw: Any = None


_DECODER: Final = msgspec.json.Decoder(_Case)
_ENCODER: Final = msgspec.json.Encoder()


def answer_line(line: bytes, number: int | None = None) -> bytes:
    """The answer to one input line, without a newline. A blank line is malformed like any other line that is not an
    object: every line has its answer, at the same place. `number` (from 1) is named where the line cannot be read."""
    try:
        case = _DECODER.decode(line)
        if not line.isascii():
            bytes(case.id).decode()  # the fast decoder copies the id's bytes unseen; they must be text to go out again
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _unreadable(line, "" if number is None else f"line {number}: ", error)
    return _answer(case.id, case.provider, case.api, case.raw)


def _answer(ident: object, provider: object, api: object, raw: object) -> bytes:
    if provider is not None and not isinstance(provider, str):
        return _refused(ident, "provider is not a string")
    if api is not None and not isinstance(api, str):
        return _refused(ident, "api is not a string")
    result = normalise(provider, api, raw)
    if isinstance(result, Rejection):
        return _refused(ident, result.detail, result.reason)
    return _ENCODER.encode({"id": ident, "tokens": as_dict(result)})


def _unreadable(line: bytes, where: str, error: Exception) -> bytes:
    """Numbers beyond a double and NaN stop the fast decoder; the lenient one still finds the id, and what is wrong."""
    try:
        case = json.loads(line)
    except (ValueError, RecursionError):
        told = "nested too deep" if isinstance(error, RecursionError) else str(error)
        return _refused(None, f"{where}not JSON: {told}")
    if not isinstance(case, dict):
        return _refused(None, f"{where}not an object with id, provider, api and raw")
    ident = case.get("id")
    try:
        return _answer(ident, case.get("provider"), case.get("api"), case.get("raw"))
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError, RecursionError):
        return _refused(None, f"{where}its id cannot be written back")


def _refused(ident: object, detail: str, reason: str = MALFORMED) -> bytes:
    return _ENCODER.encode({"id": ident, "error": {"reason": reason, "detail": detail}})
