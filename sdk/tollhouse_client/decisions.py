"""What a gate answers, and how an answer of the API is read."""

import json
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tollhouse_client.errors import GateRefusedError
from tollhouse_client.gate_http import Answer

Estimate = Mapping[str, int | str | Decimal]
"""Upper bound of one call by meter: tokens, requests, cost, or any token class."""

COST_PLACES: Final = 12
COST_TEXT_MAX: Final = 24
AMOUNT_DIGITS: Final = 30
_PLACES: Final = tuple(10 ** (COST_PLACES - digits) for digits in range(COST_PLACES + 1))
COST_SCALE: Final = 10**COST_PLACES
"""Cost is counted in 10**-12 of the currency, everything else in ones: whole numbers, as the service counts."""


def units_of(meter: str, amount: int | str | Decimal) -> int:
    """The amount in whole units of its meter, started ones whole. ValueError for what is no amount."""
    if meter != "cost" and type(amount) is int:
        units = amount
    elif meter == "cost" and type(amount) is str and (plain := _plain_cost(amount)) is not None:
        return plain
    else:
        if isinstance(amount, float):
            raise ValueError(f"estimate.{meter} is the float {amount!r}: give an int, a text or a Decimal")
        try:
            exact = Decimal(amount)
            if exact.is_finite() and exact.adjusted() > AMOUNT_DIGITS:
                raise ValueError("more than any call brings")  # as an int, 1e999999999 would take all of the memory
            units = int((exact * COST_SCALE if meter == "cost" else exact).to_integral_value(ROUND_CEILING))
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ValueError(f"estimate.{meter} is {amount!r}, which is no amount") from error
    if units < 0:
        raise ValueError(f"estimate.{meter} is {amount}: give a number that is not negative")
    return units


def _plain_cost(text: str) -> int | None:
    """Units of money written as digits and a point, which is how it nearly always comes; None: Decimal is to judge."""
    whole, _, part = text.partition(".")
    if len(text) > COST_TEXT_MAX or not part.isdecimal() or len(part) > COST_PLACES:
        return None
    try:
        units = int(whole + part) * _PLACES[len(part)]
    except ValueError:
        return None
    return units if units >= 0 else None


def in_units(estimate: Estimate | None) -> dict[str, int]:
    """An estimate in units by meter; a call that does not say how many requests it is, is one. ValueError."""
    units = {"requests": 1}
    for meter, amount in (estimate or {}).items():
        if type(amount) is int and amount >= 0 and meter != "cost":
            units[meter] = amount
        else:
            units[meter] = units_of(meter, amount)
    return units


def in_json(estimate: Estimate | None) -> dict[str, int | str]:
    """An estimate as the API takes it."""
    return {meter: str(units) if isinstance(units, Decimal) else units for meter, units in (estimate or {}).items()}


def amount_of(meter: str, units: int) -> int | str:
    """Units as the API takes them."""
    return format(Decimal(units) / COST_SCALE, "f") if meter == "cost" else units


_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class GateDecision(NamedTuple):
    """The gate's answer. reason: ok, quota, model_not_allowed, key_unavailable, rate_limit, token_invalid, …

    kind, of a quota or a rate limit: `rate` (the next minute or hour helps) or `budget` (spent until the day or month
    turns). remaining: decimal text by quota. fail_open: admitted without the gate, so nothing is reserved.
    """

    allowed: bool
    reason: str
    tenant: str = ""
    key: str | None = None
    reservation: str | None = None
    expires_at: str | None = None
    quota: str | None = None
    kind: str | None = None
    retry_after_s: int | None = None
    remaining: Mapping[str, str] = _NOTHING
    labels: Mapping[str, str] = _NOTHING
    detail: str = ""
    fail_open: bool = False
    ticket: int = 0
    """Of a gate that decides by itself: the call's number there, by which it is settled or released."""

    @property
    def http_status(self) -> int:
        """What to answer the tenant: 200, 401, 402 (budget spent), 403, 429 (too fast)."""
        if self.allowed:
            return 200
        if self.reason.startswith("token_"):
            return 401
        if self.reason in ("quota", "rate_limit"):
            return 402 if self.kind == "budget" else 429
        return 403


def admitted(tenant: str, key: str, labels: Mapping[str, str], ticket: int, *, fail_open: bool) -> GateDecision:
    """The answer of a gate that decides by itself. All fields in their order: by name it would take three times as
    long, in a decision of microseconds."""
    fields = (True, "ok", tenant, key, None, None, None, None, None, _NOTHING, labels, "", fail_open, ticket)
    return tuple.__new__(GateDecision, fields)


def object_of(answer: Answer) -> dict[str, Any]:
    try:
        said = json.loads(answer.body or b"{}")
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise GateRefusedError(f"HTTP {answer.status} without JSON: is this the address of Tollhouse's API?")
    return said


def problem_of(answer: Answer, said: Mapping[str, Any]) -> str:
    return f"the gate refused this proxy's request (HTTP {answer.status}): {said.get('detail') or said.get('title')}"


def decision_of(said: Mapping[str, Any]) -> GateDecision:
    return GateDecision(
        allowed=said["allowed"] is True,
        reason=str(said["reason"]),
        tenant=str(said.get("tenant") or ""),
        key=said.get("key"),
        reservation=said.get("reservation"),
        expires_at=said.get("expires_at"),
        quota=said.get("quota"),
        kind=said.get("kind"),
        retry_after_s=said.get("retry_after_s"),
        remaining=said.get("remaining") or {},
        labels=said.get("labels") or {},
        detail=str(said.get("detail") or ""),
        fail_open=said.get("fail_open") is True,
    )
