"""The figures of a gate that decides by itself, as its `stats` gives them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LocalGateStats:
    """A snapshot for a metrics endpoint. staleness_s: infinite while not everything was read. lag_s: what is admitted
    elsewhere is known here after this time. bound_tokens: what any one quota on tokens can be passed by meanwhile."""

    ready: bool
    staleness_s: float
    lag_s: float
    bound_tokens: int
    tenants: int
    keys: int
    in_flight: int
    admitted: int
    refused: int
    fail_open: int
    last_error: str | None
