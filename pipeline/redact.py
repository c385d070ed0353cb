"""Cutting secrets out of events before anything is stored, logged or forwarded: by the table that the client has too.

docs/adr/0004-redaction.md says why it is our own.
"""

from tollhouse_redaction.forms import (
    ANYWHERE,
    EXACT,
    LOWER,
    MARK,
    redact,
    redact_bytes,
    redact_text,
    suspicious,
)

__all__ = ["ANYWHERE", "EXACT", "LOWER", "MARK", "redact", "redact_bytes", "redact_text", "suspicious"]
