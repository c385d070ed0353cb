"""Structured logs on standard error: JSON for machines, one readable line for people; never a secret."""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

from pipeline.redact import redact

REPEAT_S: Final = 10.0
"""A library's line is told again after so long: while a broker is away its client has one to say 200 times a second."""
KEPT: Final = 1_000


class Repeats(logging.Filter):
    """Lets a library's line pass once in REPEAT_S, and says how many were left out. now_s: a clock that only grows."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is told."""
        line, now_s = (record.name, record.getMessage()), self._now_s()
        told_s, left_out = self._told.get(line, (None, 0))
        if told_s is not None and now_s - told_s < REPEAT_S:
            self._told[line] = told_s, left_out + 1
            return False
        if len(self._told) >= KEPT:
            self._told.clear()  # some are told once more than they need be
        self._told[line] = now_s, 0
        if left_out:
            record.msg, record.args = f"{line[1]} ({left_out} more like this since the last)", ()
        return True


def _redact(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    safe, _ = redact(dict(event))
    return safe  # type: ignore[no-any-return]


def configure(level: str = "info", form: str = "auto") -> None:
    """form: json, text, or auto (text on a terminal). Logs of libraries pass through the same redaction."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    # Ten times a second while a topic is missing, or whenever a buffer fills for a moment: neither is news.
    for name in ("kafka", "faust.transport.producer"):
        logging.getLogger(name).setLevel(logging.ERROR)
