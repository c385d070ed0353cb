"""What the gateway remembers between runs: small records by key, durable once `put` returns.

Keys: `invoice/{ref}` (Stripe's id, how it ended), `step/{idempotency key}` (the number of the attempt),
`customer/{tenant}`, `event/{id}` (webhook deliveries already applied), `cursor/events`, `meter/{identifier}`.
Losing the store costs requests, never a second invoice: each step looks up what exists at Stripe before it makes
anything.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import IO, Protocol

Record = Mapping[str, str]


class PushStore(Protocol):
    """Any store of flat string records. Calls may come from several threads, never two for one key at a time."""

    def get(self, key: str) -> Record | None:
        """The record, or None."""

    def put(self, key: str, record: Record) -> None:
        """Replace the record whole; durable when it returns."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys with the prefix, in no order."""


class MemoryStore:
    """Keeps records for as long as the process lives: for tests, and for `demo`."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, str]] = {}

    def get(self, key: str) -> Record | None:
        """The record, or None."""
        return self._records.get(key)

    def put(self, key: str, record: Record) -> None:
        """Replace the record."""
        self._records[key] = dict(record)

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys with the prefix."""
        return iter([key for key in self._records if key.startswith(prefix)])


class FileStore(MemoryStore):
    """An append-only file of JSON lines, the last of a key counts. A line torn by a crash at the end is dropped."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._lock = Lock()
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                entry = json.loads(line)
                super().put(entry["key"], entry["record"])
                whole += len(line)
        self._file: IO[bytes] = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(whole)
        self._file.seek(whole)

    def put(self, key: str, record: Record) -> None:
        """Append the record and wait for the disk."""
        line = json.dumps({"key": key, "record": dict(record)}, sort_keys=True).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
            super().put(key, record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
