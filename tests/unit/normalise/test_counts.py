"""Checked counts and splits: what is taken, what is refused, and how a refusal reads."""

import math

import pytest

from pipeline.normalise.counts import EMPTY, Modalities, Reading, shown, shown_name, split_input, split_write
from pipeline.normalise.result import INCONSISTENT, MALFORMED, NEGATIVE
from schemas.tokens import COUNT_MAX


@pytest.mark.parametrize(("value", "count"), [(0, 0), (7, 7), (5.0, 5), (-0.0, 0), (None, 0), (COUNT_MAX, COUNT_MAX)])
def test_counts_taken(value: object, count: int) -> None:
    reading = Reading()
    assert reading.count({"n": value}, "n") == count
    assert reading.fault is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-1, NEGATIVE),
        (-1.0, NEGATIVE),
        (-0.5, NEGATIVE),
        (0.5, MALFORMED),
        ("5", MALFORMED),
        (True, MALFORMED),
        ([], MALFORMED),
        ({}, MALFORMED),
        (math.inf, MALFORMED),
        (math.nan, MALFORMED),
        (1e300, MALFORMED),
        (COUNT_MAX + 1, MALFORMED),
        pytest.param(10**5000, MALFORMED, id="huge"),
        pytest.param(-(10**5000), NEGATIVE, id="huge-negative"),
    ],
)
def test_counts_refused(value: object, reason: str) -> None:
    for read in (Reading.count, Reading.optional, Reading.required):
        reading = Reading()
        assert read(reading, {"n": value}, "n", "usage.") == 0
        assert reading.fault is not None
        assert reading.fault.reason == reason
        assert reading.fault.detail.startswith("usage.n is ")


def test_first_fault_is_kept() -> None:
    reading = Reading()
    reading.count({"a": -1, "b": "x"}, "a")
    reading.count({"a": -1, "b": "x"}, "b")
    assert reading.fault == (NEGATIVE, "a is -1, below zero")


def test_required_says_what_is_missing() -> None:
    reading = Reading()
    reading.required({"a": None}, "a", "usage.")
    assert reading.fault == (MALFORMED, "usage.a is missing beside other counts")


def test_optional_tells_absent_from_zero() -> None:
    reading = Reading()
    assert reading.optional({"a": 0}, "a") == 0
    assert reading.optional({"a": None}, "a") is None
    assert reading.optional({}, "a") is None


def test_spellings_must_agree() -> None:
    reading = Reading()
    assert reading.one_of(({"a": 3}, "a", ""), ({"b": 3}, "b", ""), ({}, "c", "")) == 3
    assert reading.fault is None
    reading = Reading()
    reading.one_of(({"a": 3}, "a", ""), ({"b": 0}, "b", "details."))
    assert reading.fault == (INCONSISTENT, "a is 3 but details.b, the same count, is 0")


def test_sections_and_entries_refuse_other_types() -> None:
    reading = Reading()
    assert reading.section({}, "d") is EMPTY
    assert reading.entries({"e": [{"x": 1}]}, "e") == [{"x": 1}]
    assert reading.fault is None
    reading = Reading()
    assert reading.section({"d": "text"}, "d") is EMPTY
    assert reading.fault == (MALFORMED, "d is a string, not an object")
    other = Reading()
    assert other.entries({"e": [1]}, "e") == []
    assert other.fault == (MALFORMED, "e is not a list of objects")


def test_details_never_repeat_text_of_a_payload() -> None:
    assert "sk-secret" not in shown("sk-secret")
    assert shown_name("prompt_tokens") == "prompt_tokens"
    assert shown_name("a\nb") == shown_name("\ud800") == "an odd name"
    assert shown(10**5000) == "a huge number"


@pytest.mark.parametrize(
    ("whole", "audio", "image", "cached", "known", "left"),
    [
        (1000, 500, 0, 600, None, (0, 400, 0)),
        (1000, 300, 200, 900, None, (0, 0, 100)),
        (1000, 300, 200, 1000, None, (0, 0, 0)),
        (283, 167, 0, 192, (64, 128, 0), (52, 39, 0)),
        (1000, 400, 0, 700, (0, 250, 0), (150, 150, 0)),
    ],
)
def test_cached_tokens_come_out_of_their_modality_then_text_audio_image(
    whole: int, audio: int, image: int, cached: int, known: tuple[int, int, int] | None, left: tuple[int, int, int]
) -> None:
    reading = Reading()
    split = split_input(reading, whole, audio, image, cached, Modalities(*known) if known else None, "prompt")
    assert reading.fault is None
    assert split == left
    assert sum(split) + cached == whole


@pytest.mark.parametrize(
    ("whole", "audio", "image", "cached", "known", "detail"),
    [
        (10, 6, 5, 0, None, "audio and image in prompt: 11 exceeds 10"),
        (10, 0, 0, 11, None, "cached tokens in prompt: 11 exceeds 10"),
        (10, 5, 0, 3, (2, 2, 0), "cached tokens by modality in the cached tokens of prompt: 4 exceeds 3"),
        (10, 5, 0, 6, (0, 6, 0), "cached audio in the audio of prompt: 6 exceeds 5"),
    ],
)
def test_parts_that_exceed(
    whole: int, audio: int, image: int, cached: int, known: tuple[int, int, int] | None, detail: str
) -> None:
    reading = Reading()
    split_input(reading, whole, audio, image, cached, Modalities(*known) if known else None, "prompt")
    assert reading.fault == (INCONSISTENT, detail)


def test_writes_without_a_lifetime_are_short() -> None:
    reading = Reading()
    assert split_write(reading, 300, 100, 150, "writes") == (150, 150)
    assert split_write(reading, None, 100, 150, "writes") == (100, 150)
    assert reading.fault is None
    reading = Reading()
    assert split_write(reading, 200, 100, 150, "writes") == (0, 0)
    assert reading.fault == (INCONSISTENT, "cache writes by lifetime in writes: 250 exceeds 200")
