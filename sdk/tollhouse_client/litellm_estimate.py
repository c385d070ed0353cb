"""What a LiteLLM call can use at most: tokens from its prompt and its maximum, cost by LiteLLM's price table."""

import os
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import litellm

__all__ = ["estimate_of"]

OUTPUT_TOKENS: Final = 4096
"""Held for a call that names no maximum; a longer answer passes the estimate and counts all the same."""
_MAXIMA: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_INPUT: Final = ("input_cost_per_token", "cache_creation_input_token_cost", "input_cost_per_audio_token")
_OUTPUT: Final = ("output_cost_per_token", "output_cost_per_reasoning_token", "output_cost_per_audio_token")
_ABOVE: Final = re.compile(r"(.+)_above_(\d+)k_tokens")


def estimate_of(
    data: Mapping[str, Any],
    model: str,
    *,
    priced_as: str = "",
    own_prices: Mapping[str, Any] | None = None,
    output_tokens: int | None = None,
) -> dict[str, int | Decimal]:
    """Upper bounds by meter. priced_as: the model's name with its provider, as LiteLLM knows its price. own_prices: of
    the deployment, over LiteLLM's. Without a price there is no cost in it: a quota on cost then counts it afterwards.
    """
    prompt, answer = _prompt(data, model), _answer(data, output_tokens)
    found: dict[str, int | Decimal] = {"tokens": prompt + answer}
    prices = {**_prices(priced_as or model), **{k: v for k, v in (own_prices or {}).items() if v is not None}}
    a_token, an_answer = _dearest(prices, _INPUT, prompt), _dearest(prices, _OUTPUT, prompt)
    if a_token is not None and an_answer is not None:
        found["cost"] = prompt * a_token + answer * an_answer
    return found


def _prompt(data: Mapping[str, Any], model: str) -> int:
    messages, said = data.get("messages"), data.get("input") or data.get("prompt") or ""
    if isinstance(messages, list):
        return int(litellm.token_counter(model=model, messages=messages))
    return int(litellm.token_counter(model=model, text=str(said)))


def _answer(data: Mapping[str, Any], output_tokens: int | None) -> int:
    asked = next((data[name] for name in _MAXIMA if isinstance(data.get(name), int)), None)
    if asked is None:
        asked = output_tokens or int(os.environ.get("TOLLHOUSE_GATE_OUTPUT_TOKENS") or OUTPUT_TOKENS)
    return max(0, asked) * max(1, data["n"] if isinstance(data.get("n"), int) else 1)


def _prices(model: str) -> dict[str, Any]:
    """LiteLLM's entry for the model; empty where it has none."""
    entry = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    return {name: price for name, price in entry.items() if price is not None}


def _dearest(prices: Mapping[str, Any], names: tuple[str, ...], prompt: int) -> Decimal | None:
    """The highest price of a token on one side, for a prompt of this size; None without any."""
    found = []
    for name, price in prices.items():
        above = _ABOVE.fullmatch(name)
        base = above[1] if above is not None else name
        if base in names and (above is None or prompt > int(above[2]) * 1000):
            found.append(Decimal(str(price)))  # LiteLLM has floats; their shortest text is what its table says
    return max(found, default=None)
