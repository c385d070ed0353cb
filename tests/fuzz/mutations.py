"""Changes to known inputs: bytes and pieces taken out, doubled, swapped, put in, or replaced by what breaks parsers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

ODD = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\\u0000", b"\\ud800", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b'"', b"'", b"{", b"}",
    b"[", b"]", b",", b":", b"\\", b"-", b"- ", b"null", b"true", b"NaN", b"Infinity", b"-0", b"1e9", b"1E400", b"5.0",
    b"9007199254740991", b"9007199254740992", b"9223372036854775808", b"0.1", b"-1", b"&a ", b"*a", b"<<: ", b"!!str ",
    b"|\n", b">\n", b"---\n", b"# ", b"\n", b"\t", b"  ", b"2026-02-30", b"0000-00-00T00:00:00Z", b"24:00:00", b"*",
)  # fmt: skip


def mutated(seeds: Sequence[bytes], rng: Random) -> bytes:
    """One of the seeds after a few changes."""
    found = rng.choice(seeds)
    for _ in range(rng.randint(1, 6)):
        found = _once(found, seeds, rng)
    return found[:20_000]


def _once(value: bytes, seeds: Sequence[bytes], rng: Random) -> bytes:
    start, end = sorted((rng.randint(0, len(value)), rng.randint(0, len(value))))
    end = min(end, start + rng.choice((1, 2, 8, 64)))
    piece = value[start:end]
    kind = rng.randrange(6)
    if kind == 0:
        return value[:start] + value[end:]
    if kind == 1:
        return value[:start] + rng.choice(ODD) + value[start:]
    if kind == 2:
        return value[:start] + rng.choice(ODD) + value[end:]
    if kind == 3:
        return value[:end] + piece + value[end:]
    if kind == 4:
        other = rng.choice(seeds)
        at = rng.randint(0, len(other))
        return value[:start] + other[at : at + rng.choice((4, 16, 64))] + value[end:]
    flipped = bytearray(value)
    if flipped:
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)
