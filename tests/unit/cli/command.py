"""Runs a command line inside the test's process, with its own standard streams."""

import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

from tollhouse.cli.main import run


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """Standard output as text."""
        return self.raw.decode()

    @property
    def lines(self) -> list[Any]:
        """Standard output as NDJSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def said(self) -> list[str]:
        """The lines on standard error that are ours; a traceback is never among them."""
        assert "Traceback" not in self.err, self.err
        return [line for line in self.err.splitlines() if line.strip()]


def tollhouse(*arguments: object, stdin: bytes = b"", traceback: bool = True) -> Result:
    """`tollhouse ARGUMENTS`, with stdin as standard input. traceback: a fault of ours fails the test where it is."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    words: Sequence[str] = [str(argument) for argument in arguments]
    with (
        mock.patch.dict(os.environ, {"TOLLHOUSE_TRACEBACK": "1" if traceback else ""}),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
    ):
        code = run(list(words))
        out.flush()
        err.flush()
    raw, said = out.buffer.getvalue(), err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    return Result(code, raw, said)


def refused(result: Result, code: int = 1) -> str:
    """The one line of a refusal: its exit code, no traceback, nothing on standard output."""
    assert result.code == code, result
    said = result.said
    assert result.raw == b"", result.out
    assert len(said) == 1, said
    return said[0]
