"""The batch look lets nothing through that the single look would stop at, on any bytes."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.redact import suspicious
from pipeline.traces import FEW, unusual

PLANTED = (
    b"sk-abcdefghijklmnop1234",
    b"Bearer abcdefghijkl",
    b"AKIA0123456789ABCDEF",
    b"-----BEGIN PRIVATE KEY-----",
    b'"client_secret":"x"',
    b"eyJhbGciOi.eyJzdWIi.x",
    b"hf_abcdefghijklmnopqrstu",
    b"\\u0073k",
    b"xoxb-1234567890",
)
TOKEN = re.compile(rb"token(?!s|_?count)", re.IGNORECASE)
PARTS = (b"token", b"Token", b"s", b"_", b"c", b"co", b"cou", b"coun", b"count", b"Count", b"x", b'"', b"TOKEN")


@settings(deadline=None)  # the first look loads the engine
@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from(PLANTED)), min_size=FEW, max_size=20))
def test_what_the_batch_look_passes_is_clean(raws: list[bytes]) -> None:
    for raw, marked in zip(raws, unusual(raws), strict=True):
        assert marked or not (suspicious(raw) or b"\\" in raw)


@given(st.binary(max_size=40), st.sampled_from(PLANTED), st.binary(max_size=40))
def test_what_is_planted_is_found_whatever_is_around_it(before: bytes, secret: bytes, after: bytes) -> None:
    assert unusual([before + b" " + secret + b" " + after] * FEW) == [True] * FEW


@given(st.lists(st.sampled_from(PARTS), max_size=6).map(b"".join))
def test_names_of_counts_are_told_from_names_of_secrets(raw: bytes) -> None:
    assert unusual([raw] * FEW) == [TOKEN.search(raw) is not None] * FEW


@pytest.mark.parametrize("events", [1, FEW])
@pytest.mark.parametrize(
    ("raw", "marked"),
    [
        (b'{"a":5.0}', True),
        (b'{"a": 5e3 }', True),
        (b"[1, -2.5]", True),
        (b'{"a":"b\\n"}', True),
        (b'{"time":"2026-10-03T10:11:12.5Z","n":12,"m":[1,2],"v":"1.0"}', False),
        (b'{"promptTokenCount":5,"token_count":7,"input_tokens":1}', False),
        (b'{"token":"x"}', True),
        (b"", False),
    ],
)
def test_fractions_and_backslashes_are_marked(raw: bytes, events: int, *, marked: bool) -> None:
    assert unusual([raw] * events) == [marked] * events


def test_no_event_is_no_array() -> None:
    assert unusual([]) == []
