"""One way to ask a provider: paging is the connector's, patience and plain words are here. Keys never show."""

import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Protocol

import httpx
import msgspec

TRIES: Final = 6
WAIT_MAX_S: Final = 120.0
"""A Retry-After beyond this is an error for a person: the command would seem to hang."""
TIMEOUT_S: Final = 60.0
PAGES_MAX: Final = 10_000
_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)

Query = Sequence[tuple[str, str]]


class ReportError(Exception):
    """The report cannot be had, or is not what it must be; one line for a person."""


class Fetch(Protocol):
    """GET a path with a query; the JSON object. Decimals come exact."""

    def __call__(self, path: str, query: Query, /) -> dict[str, Any]:
        """The answer's object; ReportError otherwise."""


class Client:
    """base: the provider's address. headers: with the admin key. sleep: for tests."""

    def __init__(
        self,
        name: str,
        base: str,
        headers: Mapping[str, str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._name, self._sleep = name, sleep
        self._http = httpx.Client(base_url=base, headers=dict(headers), timeout=timeout_s, follow_redirects=False)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __call__(self, path: str, query: Query, /) -> dict[str, Any]:
        """Ask until there is an answer: 429 and 5xx after the time that the provider names, or a growing one."""
        trouble = ""
        for attempt in range(TRIES):
            try:
                answer = self._http.get(path, params=list(query))
            except httpx.HTTPError as error:
                trouble, wait_s = type(error).__name__, 2.0**attempt
            else:
                if answer.status_code == 200:
                    return self._object(path, answer.content)
                trouble = f"it answered {answer.status_code}"
                if answer.status_code != 429 and answer.status_code < 500:
                    raise ReportError(f"{self._name} {path}: {trouble}{_why(answer)}")
                wait_s = _retry_after(answer, 2.0**attempt)
            if wait_s > WAIT_MAX_S:
                raise ReportError(f"{self._name} {path}: {trouble} and asks to wait {wait_s:.0f} s: try again later")
            if attempt + 1 < TRIES:
                self._sleep(wait_s)
        raise ReportError(f"{self._name} {path}: {trouble}, {TRIES} times: try again later")

    def _object(self, path: str, body: bytes) -> dict[str, Any]:
        try:
            found = _DECODER.decode(body)
        except (msgspec.DecodeError, ArithmeticError):
            raise ReportError(f"{self._name} {path}: the answer is no JSON") from None
        if not isinstance(found, dict):
            raise ReportError(f"{self._name} {path}: the answer is no JSON object")
        return found


def _why(answer: httpx.Response) -> str:
    if answer.status_code in (401, 403):
        return ": the key does not count here; usage reports need an admin key"
    return ": a parameter or path that it does not know" if answer.status_code in (400, 404, 422) else ""


def _retry_after(answer: httpx.Response, otherwise_s: float) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else otherwise_s


def pages(fetch: Fetch, path: str, query: Query) -> list[dict[str, Any]]:
    """All entries of `data`, page by page by next_page; ReportError for a page that names itself as the next."""
    found: list[dict[str, Any]] = []
    page: str | None = None
    seen: set[str] = set()
    while True:
        answer = fetch(path, [*query, *([("page", page)] if page is not None else [])])
        entries = answer.get("data")
        if not isinstance(entries, list):
            raise ReportError(f"{path}: the answer has no list `data`")
        found += entries
        page = answer.get("next_page")
        if not answer.get("has_more") or not page:
            if answer.get("has_more"):
                raise ReportError(f"{path}: it says that there is more, and not where")
            return found
        if page in seen or len(seen) >= PAGES_MAX:
            raise ReportError(f"{path}: its pages do not end")
        seen.add(page)


def count(row: Mapping[str, Any], name: str, where: str, *, needed: bool = False) -> int:
    """A whole number that is not negative; absent or null is 0, or an error where it is needed."""
    value = row.get(name)
    if value is None:
        if needed:
            raise ReportError(f"{where}: it lacks {name}")
        return 0
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value != int(value) or value < 0:
        raise ReportError(f"{where}: {name} is {value!r}, not a count")
    return int(value)


def amount(value: Any, where: str) -> Decimal:
    """An exact amount, given as a string or a number."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise ReportError(f"{where}: the amount is {value!r}")
        found = Decimal(value)
    except ArithmeticError:
        raise ReportError(f"{where}: the amount is {value!r}") from None
    if not found.is_finite():
        raise ReportError(f"{where}: the amount is {value!r}")
    return found
