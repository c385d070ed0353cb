"""Secrets are cut out of events between the spool and the broker: on the sending thread, not on the caller's.

What was cut is told in the event's attribute `redacted`, as a list of its places, so that the service raises the alert
that it raises for what it finds itself.
"""

import json
import logging
from typing import Final

from tollhouse_client.segment import Record
from tollhouse_redaction import Scan, redact, redact_bytes, suspicious

ATTRIBUTE: Final = "redacted"
PLACES_MAX: Final = 1000
"""Characters of the attribute: a dozen places are enough to find the fault by."""
CHUNK: Final = 50
"""Events looked at in one go: more would hold the interpreter from callers for a noticeable time."""
LOGGED_MAX: Final = 100

_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_log = logging.getLogger("tollhouse_client")


class Redactor:
    """For one thread. found: events out of which something was cut."""

    def __init__(self) -> None:
        self.found = 0
        self._scan = Scan()
        self._logged: set[str] = set()

    def clean(self, records: list[Record]) -> list[Record]:
        """The records in their order, without secrets."""
        for start in range(0, len(records), CHUNK):
            for place in self._scan.suspects([record.body for record in records[start : start + CHUNK]]):
                records[start + place] = self._one(records[start + place])
        return records

    def _one(self, record: Record) -> Record:
        try:
            event, places = redact(json.loads(record.body))
        except RecursionError:  # nested as no event is: then by its bytes
            body, cut = redact_bytes(record.body)
            self.found += cut
            return record._replace(body=body)
        if not places:
            return record
        self.found += 1
        told = ",".join(places)[:PLACES_MAX]
        event[ATTRIBUTE] = told
        if told not in self._logged and len(self._logged) < LOGGED_MAX:
            self._logged.add(told)
            _log.warning("a secret was cut out of %s of an event: rotate it, and do not send it", told)
        # The key of the message is the tenant, and goes to the broker as well.
        return record._replace(key=str(event["subject"]).encode(), body=_encode(event).encode())


def as_sent(body: bytes) -> bytes:
    """An event's bytes without secrets, for what has to know it as the ledger does."""
    if not suspicious(body):
        return body
    event, places = redact(json.loads(body))
    return _encode(event).encode() if places else body
