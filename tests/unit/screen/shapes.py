"""Events of every shape, for laws of screening: ordinary ones mostly, and each odd thing now and then."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from schemas.instants import format_instant
from tests.unit.pipeline.events import TIME_US, event, ref

COUNT = st.one_of(st.integers(0, 5000), st.sampled_from([0, 2**40 - 1, 2**40, 2**53, -1, 1.0, 2.5, True, None, "5"]))
USUAL = st.integers(0, 5000)


def _with(draw: st.DrawFn, names: list[str], values: st.SearchStrategy[Any]) -> dict[str, Any]:
    return {name: draw(values) for name in names if draw(st.integers(0, 3))}


@st.composite
def usages(draw: st.DrawFn) -> Any:
    """Usage of the commonest providers, whole or with something wrong in it."""
    counts = draw(st.sampled_from([USUAL, USUAL, USUAL, COUNT]))
    kind = draw(st.sampled_from(["chat", "responses", "messages", "gemini", "odd"]))
    if kind in {"chat", "responses"}:
        a, b = ("prompt", "completion") if kind == "chat" else ("input", "output")
        return {
            **_with(draw, [f"{a}_tokens", f"{b}_tokens", "total_tokens"], counts),
            **_with(
                draw,
                [f"{a}_tokens_details"],
                st.one_of(
                    st.none(), st.fixed_dictionaries({}, optional={"cached_tokens": counts, "audio_tokens": counts})
                ),
            ),
            **_with(
                draw,
                [f"{b}_tokens_details"],
                st.one_of(
                    st.none(),
                    st.fixed_dictionaries(
                        {},
                        optional={
                            "reasoning_tokens": counts,
                            "audio_tokens": st.one_of(st.just(0), counts),
                            "accepted_prediction_tokens": counts,
                            "rejected_prediction_tokens": st.one_of(st.just(0), counts),
                            "text_tokens": counts,
                        },
                    ),
                ),
            ),
        }
    if kind == "messages":
        names = ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
        usage = _with(draw, names, counts)
        if draw(st.booleans()):
            short, long = draw(counts), draw(counts)
            usage["cache_creation"] = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
            if isinstance(short, int) and isinstance(long, int) and draw(st.booleans()):
                usage["cache_creation_input_tokens"] = short + long
        return usage | _with(draw, ["service_tier"], st.just("standard"))
    if kind == "gemini":
        return _with(draw, ["promptTokenCount", "candidatesTokenCount", "totalTokenCount"], counts)
    return draw(st.sampled_from([None, {}, [], [1], "x", 5, {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}]))


PROVIDERS = st.sampled_from(["openai", "anthropic", "google", "xai", "deepseek", "azure", "nobody", "", None])
APIS = st.sampled_from(["chat", "responses", "messages", "chat.completions", "embeddings", "x", "", None])
TEXTS = st.one_of(
    st.none(),
    st.sampled_from(["", "u-1", "Zoë", "a\tb", 'say "x"', "back\\slash", "sk-abcdefghijklmnop1234", "\u2028"]),
)


@st.composite
def documents(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """One event as plain data."""
    rare = draw(st.integers(0, 24))
    body: dict[str, Any] = {
        "key": draw(st.sampled_from(["k1", "k1", "k1", "k2", "mine", "nokey"] if rare == 1 else ["k1", "k2"])),
        "model": draw(st.sampled_from(["m", "m", "m-2", ""] if rare == 2 else ["m", "unpriced"])),
        **_with(draw, ["provider"], PROVIDERS),
        **_with(draw, ["api"], APIS),
        **_with(
            draw, ["status"], st.sampled_from(["ok", "ok", "error", "aborted", None, "odd"] if rare == 3 else ["ok"])
        ),
        **_with(draw, ["user", "network", "agent", "request_id"], TEXTS if rare == 4 else st.just("plain")),
        **_with(draw, ["service_tier"], st.sampled_from(["standard", "batch", None])),
        **_with(draw, ["cache_hit", "estimated"], st.sampled_from([False, False, True, None])),
        **_with(draw, ["labels"], st.sampled_from([None, {}, {"b": 1, "a": "x"}, {"n": {"z": [1, 2], "a": None}}])),
        **_with(draw, ["upstream_id"], st.sampled_from([f"up-{number}", f"up-{number % 3}", "", None])),
        **_with(draw, ["reservation"], st.sampled_from([f"r-{number % 4}", None])),
    }
    if draw(st.booleans()):
        body["tokens"] = draw(st.sampled_from([{"input": 5, "output": 7}, {"input": 1, "cache_read": number}]))
    else:
        body["usage"] = draw(usages())
    if rare == 5:
        body["replaces"] = ref(f"e{draw(st.integers(0, 12))}")
    if rare == 6:
        body["surprise"] = draw(st.sampled_from([1, 2.5, None, {"x": "y"}]))
    made = event(
        f"e{draw(st.integers(0, 12)) if rare == 7 else number}",
        subject=draw(st.sampled_from(["acme", "beta", "own", "stranger"] if rare == 8 else ["acme", "beta"])),
    )
    made["data"] = body
    made["time"] = draw(times()) if rare == 9 else format_instant(TIME_US - 60_000_000 * draw(st.integers(0, 40)))
    if rare == 10:
        made |= draw(st.sampled_from([{"specversion": "0.3"}, {"type": "x"}, {"id": " "}, {"id": ""}, {"source": ""}]))
    if rare == 11:
        made |= {"traceparent": "00-1-2-01", "datacontenttype": "application/json"}
    if rare == 12:
        made |= {"type": "com.tollhouse.usage.void.v1", "data": {"voids": ref(f"e{draw(st.integers(0, 12))}")}}
    if rare == 13:
        del made[draw(st.sampled_from(sorted(made)))]
    return made


def times() -> st.SearchStrategy[str]:
    """Times in every spelling, right and wrong."""
    return st.sampled_from(
        [
            "2026-10-03T10:11:12Z",
            "2026-10-03T10:11:12.5Z",
            "2026-10-03T10:11:12.123456789Z",
            "2026-10-03t10:11:12z",
            "2026-10-03 10:11:12Z",
            "2026-10-03T10:11:12,5Z",
            "2026-10-03T12:11:12+02:00",
            "2026-10-03T10:11:60Z",
            "2026-10-03T10:11:60.5Z",
            "2026-10-03T10:11:12.Z",
            "2026-10-03T10:11:12.5",
            "2026-10-03T10:11:12",
            "2026-10-03T10:11:12.٣Z",
            "2026-02-30T10:11:12Z",
            "2026-09-03T10:11:12Z",
            "2026-08-01T10:11:12Z",
            "2026-10-03T10:16:13Z",
            "2026-10-03T10:17:00Z",
            "yesterday",
            "",
        ]
    )


@st.composite
def batches(draw: st.DrawFn, most: int = 14) -> list[bytes]:
    """Events as bytes, some of them repeated, spaced differently, or no JSON at all."""
    raws: list[bytes] = []
    for number in range(draw(st.integers(1, most))):
        document = draw(documents(number))
        raw = json.dumps(document, ensure_ascii=draw(st.booleans())).encode()
        if draw(st.integers(0, 3)):
            raw = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        raws.append(raw)
        again = draw(st.integers(0, 20))
        if again == 0:
            raws.append(raw)
        elif again == 1:
            raws.append(json.dumps(document, indent=1, sort_keys=True).encode())
        elif again == 2:
            raws.append(draw(st.sampled_from([b"{", b"null", b"\xff", b"[1]", b'"x"', b"{}", b"\x00"])))
    return raws
