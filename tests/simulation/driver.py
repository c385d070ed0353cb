"""Seeded traffic: events whose true counts are known because the counts came first and the payload was made from them.

Nothing here imports the product: what an event should do is written down beside it, for the auditor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

CLASSES = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_long",
    "output",
    "reasoning",
    "input_audio",
    "output_audio",
    "input_image",
    "output_image",
    "web_searches",
)

CATALOG = """
currency: USD
seller: {name: Example Cloud Ltd, address: "1 Example Street", country: IE, email: billing@seller.example}
tenants:
  alpha: {name: Alpha, tier: standard, plan: team, timezone: Europe/Berlin}
  beta:
    name: Beta
    tier: standard
    plan: team
    quotas: [{name: requests, meter: requests, limit: 1000000, window: month, action: block}]
  gamma: {name: Gamma, tier: standard, plan: team, timezone: Asia/Kathmandu}
  delta: {name: Delta, tier: byok, plan: team}
keys:
  openai-pool: {provider: openai, kind: pooled, provider_key_id: key_o}
  anthropic-pool: {provider: anthropic, kind: pooled, provider_key_id: key_a}
  delta-own: {provider: anthropic, kind: byok, tenant: delta}
plans:
  team:
    fee: {amount: "10.00", proration: none}
    charges: [{meter: tokens, models: "*", model: per_unit, price: "1.00", per: 1000000}]
    quotas: [{name: monthly, meter: tokens, limit: 900000000000, window: month, action: block}]
"""

TENANTS = ("alpha", "beta", "gamma", "delta")
MODELS = {"openai": ("gpt-5", "gpt-5-mini"), "anthropic": ("claude-sonnet-4-5", "claude-haiku-4-5")}


@dataclass(frozen=True)
class Sent:
    """One event as it goes out, and what it is worth.

    classes: by name, without zeros. reason: why it must be rejected, or "" if it must count. order: its place in the
    stream of its tenant. target: what a void or replacement names.
    """

    tenant: str
    body: dict[str, Any]
    key: str
    model: str
    time: datetime
    classes: dict[str, int]
    requests: int = 1
    errors: int = 0
    kind: str = "usage"
    reason: str = ""
    target: tuple[str, str] | None = None

    @property
    def name(self) -> tuple[str, str, str]:
        """Its identity."""
        return self.tenant, self.body["source"], self.body["id"]

    @property
    def value(self) -> bytes:
        """Its bytes."""
        return json.dumps(self.body, separators=(",", ":")).encode()


@dataclass
class Driver:
    """Makes the traffic of one seed. now: the real time, since the broker stamps messages with it."""

    seed: int
    now: datetime
    prefix: str = ""
    rng: Random = field(init=False)
    made: int = 0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)

    def traffic(self, count: int) -> list[Sent]:
        """`count` first deliveries, and on top of them duplicates, corrections, conflicts and events to refuse.

        Shuffled a little: an event can come after the one that corrects it.
        """
        rng, plain = self.rng, [self._usage() for _ in range(count)]
        placed = [(float(i), sent) for i, sent in enumerate(plain)]
        for i, sent in enumerate(plain):
            chance = rng.random()
            if chance < 0.05:
                placed.append((i + rng.random() * 40, sent))
            elif chance < 0.07:
                placed.append((i + rng.uniform(-20, 20), self._correction(sent)))
            elif chance < 0.09:
                placed.append((i + rng.uniform(-20, 20), self._void(sent)))
            elif chance < 0.10:
                placed.append((i + 0.5 + rng.random() * 20, self._conflict(sent)))
        placed += [(rng.random() * count, self._refusable()) for _ in range(max(2, count // 100))]
        return [sent for _, sent in sorted(placed, key=lambda item: item[0])]

    def _name(self) -> str:
        self.made += 1
        return f"{self.prefix}{self.seed}-{self.made}"

    def _usage(self, **more: Any) -> Sent:
        rng = self.rng
        tenant = rng.choice(TENANTS)
        key = "delta-own" if tenant == "delta" else rng.choice(("openai-pool", "anthropic-pool"))
        provider = "openai" if key == "openai-pool" else "anthropic"
        model = rng.choice(MODELS[provider])
        age = timedelta(seconds=rng.random() * 3600)
        if rng.random() < 0.05:
            age = timedelta(days=rng.random() * 33)
        time = (self.now - age).replace(microsecond=0)
        classes, api, usage = _openai(rng) if provider == "openai" else _anthropic(rng)
        data: dict[str, Any] = {"key": key, "provider": provider, "api": api, "model": model, "usage": usage}
        requests, errors = 1, 0
        if rng.random() < 0.03:
            data["status"], requests, errors, classes = "error", 0, 1, {}
            del data["usage"]
        if rng.random() < 0.5:
            data["upstream_id"] = f"up-{self._name()}"
        data |= more
        return Sent(tenant, self._envelope(tenant, time, data), key, model, time, classes, requests, errors)

    def _envelope(self, tenant: str, time: datetime, data: dict[str, Any], kind: str = "usage") -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": self._name(),
            "source": "proxy/test",
            "type": "com.tollhouse.usage.v1" if kind == "usage" else "com.tollhouse.usage.void.v1",
            "time": time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "subject": tenant,
            "data": data,
        }

    def _correction(self, first: Sent) -> Sent:
        data = {k: v for k, v in first.body["data"].items() if k not in ("upstream_id", "status", "usage")}
        provider = data["provider"]
        classes, api, usage = _openai(self.rng) if provider == "openai" else _anthropic(self.rng)
        target = (first.body["source"], first.body["id"])
        data |= {"api": api, "usage": usage, "replaces": {"source": target[0], "id": target[1]}}
        body = self._envelope(first.tenant, self.now.replace(microsecond=0), data)
        return Sent(first.tenant, body, first.key, first.model, first.time, classes, target=target)

    def _void(self, first: Sent) -> Sent:
        target = (first.body["source"], first.body["id"])
        data = {"voids": {"source": target[0], "id": target[1]}, "reason": "sent in error"}
        time = self.now.replace(microsecond=0)
        body = self._envelope(first.tenant, time, data, kind="void")
        return Sent(first.tenant, body, "", "", time, {}, 0, kind="void", target=target)

    def _conflict(self, first: Sent) -> Sent:
        body = {**first.body, "data": {**first.body["data"], "user": "somebody else"}}
        return Sent(first.tenant, body, first.key, first.model, first.time, {}, 0, reason="conflict")

    def _refusable(self) -> Sent:
        sent = self._usage()
        body, data = dict(sent.body), dict(sent.body["data"])
        data.pop("upstream_id", None)
        reason = self.rng.choice(
            ("unknown_tenant", "unknown_key", "no_usage", "from_future", "too_old", "negative_usage")
        )
        if reason == "unknown_tenant":
            body["subject"] = "nobody"
        elif reason == "unknown_key":
            data["key"] = "no-such-key"
        elif reason == "no_usage":
            data["usage"], data["status"] = {}, "ok"
        elif reason == "negative_usage":
            data["tokens"], data["usage"] = {"input": -1}, None
        else:
            shift = timedelta(hours=2) if reason == "from_future" else timedelta(days=-37)
            body["time"] = (self.now + shift).astimezone(UTC).isoformat().replace("+00:00", "Z")
        body["data"] = data
        return Sent(body["subject"], body, "", "", sent.time, {}, 0, reason=reason)


def _openai(rng: Random) -> tuple[dict[str, int], str, dict[str, Any]]:
    plain, cached, out, reasoning = rng.randrange(5000), rng.randrange(3000), rng.randrange(1, 900), rng.randrange(400)
    usage = {
        "input_tokens": plain + cached,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": out + reasoning,
        "output_tokens_details": {"reasoning_tokens": reasoning},
    }
    return _some(input=plain, cache_read=cached, output=out, reasoning=reasoning), "responses", usage


def _anthropic(rng: Random) -> tuple[dict[str, int], str, dict[str, Any]]:
    plain, read, short, long, out = (rng.randrange(1, 2000) for _ in range(5))
    usage = {
        "input_tokens": plain,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": out,
    }
    classes = _some(input=plain, cache_read=read, cache_write=short, cache_write_long=long, output=out)
    return classes, "messages", usage


def _some(**counts: int) -> dict[str, int]:
    return {name: n for name, n in counts.items() if n}


def deep(levels: int) -> bytes:
    """An event with a field nested `levels` deep."""
    return b'{"specversion":"1.0","data":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


def poison() -> list[tuple[str, bytes | None]]:
    """Messages that no decoder of ours may stumble over: (what is wrong, the bytes). Each is one refused delivery."""
    good = Driver(0, datetime(2026, 1, 1, tzinfo=UTC))._usage().body

    def with_(**more: Any) -> bytes:
        return json.dumps({**good, **more}).encode()

    return [
        ("broken JSON", b'{"specversion": "1.0", "id"'),
        ("empty", b""),
        ("tombstone", None),
        ("blank", b"  \n"),
        ("not UTF-8", b'{"id": "\xff\xfe\xfd"}'),
        ("NUL bytes", b"\x00" * 50),
        ("NUL in a text", with_(id="a\u0000b")),
        ("half a surrogate pair", json.dumps({**good, "source": "x\ud800"}).encode()),
        ("a number", b"17"),
        ("null", b"null"),
        ("a text", b'"event"'),
        ("an array of numbers", b"[1]"),
        ("a broken array", b'[{"a":1},'),
        ("wrong types", with_(data=[1, 2])),
        ("wrong type of subject", with_(subject=7)),
        ("huge number", with_(data={**good["data"], "usage": {"input_tokens": 10**40, "output_tokens": 1}})),
        ("not a number", with_(id="nan", data={**good["data"], "usage": {"input_tokens": float("nan")}})),
        ("nested deeply", deep(400)),
        ("nested more deeply", deep(100_000)),
        ("brackets only", b"[" * 100_000),
        ("huge", with_(id="x" * 700_000)),
        ("another specversion", with_(specversion="0.3")),
        ("another type", with_(type="com.example.other")),
        ("a duplicate member", b'{"id":"a","id":"b"}'),
        ("an Avro header", b"\x00\x00\x00\x00\x01" + b"\x0a\x06abc" * 5),
        ("an array of many nothings", b"[" + b"1," * 200_000 + b"1]"),
    ]
