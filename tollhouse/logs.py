"""Structured logs on standard error: JSON for machines, one readable line for people; never a secret."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from pipeline.redact import redact


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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    # Ten times a second while a topic is missing, or whenever a buffer fills for a moment: neither is news.
    for name in ("kafka", "faust.transport.producer"):
        logging.getLogger(name).setLevel(logging.ERROR)
