"""Secrets cut out of usage events: what they look like, and how they are looked for. Imports nothing of ours."""

from tollhouse_redaction.forms import MARK, redact, redact_bytes, redact_text, suspicious
from tollhouse_redaction.scan import Scan

__all__ = ["MARK", "Scan", "redact", "redact_bytes", "redact_text", "suspicious"]
