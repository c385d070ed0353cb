"""Events shaped like real ones: 600 bytes, 500 tenants, 20 pooled keys, 30 models, raw usage of two providers.

Made from templates by number, so that a million of them cost seconds and the true sums are known without decoding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import msgspec

from schemas.instants import MINUTE_US, format_instant
from schemas.usage_event import USAGE_TYPE

TENANTS: Final = 500
KEYS: Final = 20
MODELS: Final = 30
NETWORKS: Final = 40
TEMPLATES: Final = 2_000


def catalog() -> dict[str, Any]:
    """The catalog of the bench: every tenant on one plan with a monthly quota, prices for each model."""
    models = [*(f"gpt-bench-{n}" for n in range(MODELS // 2)), *(f"claude-bench-{n}" for n in range(MODELS // 2))]
    return {
        "currency": "USD",
        "seller": {"name": "Example Cloud Ltd", "address": "1 Example Street", "country": "IE"},
        "tenants": {
            tenant(n): {"name": f"Tenant {n}", "tier": "standard", "plan": "team", "timezone": "UTC"}
            for n in range(TENANTS)
        },
        "keys": {
            f"pool-{n}": {
                "provider": "openai" if n % 2 else "anthropic",
                "kind": "pooled",
                "provider_key_id": f"key_{n}",
            }
            for n in range(KEYS)
        },
        "plans": {
            "team": {
                "charges": [{"meter": "tokens", "models": "*", "model": "per_unit", "price": "1.00", "per": 1000000}],
                "quotas": [
                    {"name": "monthly", "meter": "tokens", "limit": 9 * 10**14, "window": "month", "action": "block"}
                ],
            }
        },
        "provider_prices": [
            {
                "provider": "openai" if model.startswith("gpt") else "anthropic",
                "model": model,
                "from": "2020-01-01",
                "per": 1000000,
                "input": "1.00",
                "cache_read": "0.10",
                "cache_write": "1.25",
                "output": "4.00",
            }
            for model in models
        ],
    }


def tenant(number: int) -> str:
    """A tenant's id."""
    return f"tenant-{number:03d}"


@dataclass(frozen=True, slots=True)
class Template:
    """An event with gaps for id, time and upstream id, and its worth in tokens."""

    tenant: str
    parts: tuple[bytes, bytes, bytes, bytes]
    tokens: int

    def fill(self, name: bytes, time: bytes) -> bytes:
        """The event's bytes."""
        head, middle, late, tail = self.parts
        return b"".join((head, name, middle, time, late, name, tail))


def templates(seed: int) -> list[Template]:
    """A pool of events, each tenant among them often enough."""
    rng = Random(seed)  # noqa: S311 - a reproducible load, no secret
    return [_template(rng, number) for number in range(TEMPLATES)]


def _template(rng: Random, number: int) -> Template:
    key = rng.randrange(KEYS)
    given, cached, out = rng.randrange(50, 8000), rng.randrange(4000), rng.randrange(10, 2000)
    usage: dict[str, Any]
    if key % 2:
        reasoning = rng.randrange(out)
        provider, api, model = "openai", "responses", f"gpt-bench-{rng.randrange(MODELS // 2)}"
        usage = {
            "input_tokens": given + cached,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": out,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": given + cached + out,
        }
    else:
        provider, api, model = "anthropic", "messages", f"claude-bench-{rng.randrange(MODELS // 2)}"
        usage = {
            "input_tokens": given,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": out,
            "service_tier": "standard",
        }
    owner = tenant(number % TENANTS)
    body = {
        "specversion": "1.0",
        "id": "<1>",
        "source": f"proxy/eu-{number % 8}",
        "type": USAGE_TYPE,
        "time": "<2>",
        "subject": owner,
        "data": {
            "key": f"pool-{key}",
            "provider": provider,
            "api": api,
            "model": model,
            "usage": usage,
            "status": "ok",
            "upstream_id": "resp_<3>",
            "user": f"u-{rng.randrange(5000)}",
            "network": f"AS{64500 + rng.randrange(NETWORKS)}/DE",
            "agent": "sdk-python/1.42.0",
            "labels": {"project": f"p{rng.randrange(50)}", "team": f"team-{rng.randrange(20)}", "env": "production"},
        },
    }
    raw = msgspec.json.encode(body)
    head, rest = raw.split(b"<1>")
    middle, rest = rest.split(b"<2>")
    late, tail = rest.split(b"<3>")
    return Template(owner, (head, middle, late, tail), given + cached + out)


def messages(
    count: int, per_message: int, now_us: int, *, seed: int = 1, first: int = 0
) -> Iterator[tuple[str, bytes, int]]:
    """(tenant, message, tokens in it) for `count` events; ids grow with time, times lie in the last minutes."""
    by_tenant: dict[str, list[Template]] = {}
    for template in templates(seed):
        by_tenant.setdefault(template.tenant, []).append(template)
    owners = sorted(by_tenant)
    rng = Random(seed)  # noqa: S311 - a reproducible load, no secret
    made = 0
    while made < count:
        owner = owners[rng.randrange(len(owners))]
        pool, size = by_tenant[owner], min(per_message, count - made)
        tokens, events = 0, []
        for index in range(size):
            number = first + made + index
            # 10 minutes for a million events: about what a busy installation sees, and a few quarters of an hour.
            time_us = now_us - 12 * MINUTE_US + (number * 600) % (10 * MINUTE_US)
            template = pool[number % len(pool)]
            name = b"%08x-0000-7000-8000-%012x" % (number >> 8, number)
            events.append(template.fill(name, format_instant(time_us - time_us % 1000).encode()))
            tokens += template.tokens
        made += size
        yield owner, events[0] if per_message == 1 else b"[" + b",".join(events) + b"]", tokens
