"""The disk spool: what was accepted stays here until it is acknowledged, whatever dies.

A directory of numbered segments (`segment.py`). Callers append to the newest; one background thread reads in order,
acknowledges, and calls `tidy`. A segment is deleted when each of its records is acknowledged. Segments left by an
earlier process are read again from their start: that redelivers a few events that were already acknowledged, which
the ledger drops by their identity.

Sizing. The default bound is 4 GiB. An hour without a broker at 1,000 events/s is 3,600,000 events, so there is room
for 1,193 bytes an event; a usual event takes 400 to 700 bytes in the spool.
"""

import contextlib
import fcntl
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tollhouse_client.errors import PublisherClosedError, SpoolFullError, SpoolLockedError
from tollhouse_client.segment import FRAME_OVERHEAD, HEADER_SIZE, Record, Segment

DEFAULT_MAX_BYTES: Final = 4 << 30
DEFAULT_SEGMENT_BYTES: Final = 8 << 20
"""About 12,000 events: what a crash can redeliver at most per unfinished segment."""
IDLE_SEAL_S: Final = 10.0
"""An acknowledged, quiet segment is closed and deleted after this long, so that a restart redelivers nothing old."""

_log = logging.getLogger("tollhouse_client")


class Spool:
    """A bounded, crash-safe queue of (key, body) on disk. One process a directory.

    `append` may be called from any thread; `read`, `acknowledge` and `tidy` belong to one thread.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        fsync: bool = False,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_bytes < 4 * 4096:
            raise ValueError(f"a spool of {max_bytes} bytes holds nothing; give it at least 16384")
        self.directory = directory
        self.max_bytes = max_bytes
        self.segment_bytes = min(segment_bytes, max_bytes // 4)
        self.torn_records = 0
        self.damaged_records = 0
        self._fsync = fsync
        self._now_us = now_us
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._closed = False
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_handle = _lock_directory(directory)
        try:
            self._segments = self._find_segments()
            last = self._segments[-1] if self._segments else None
            self._next_sequence = last.first_sequence + last.count if last else 1
            self._replayed = sum(segment.count for segment in self._segments)
            self._spare_numbers = itertools.count(1)
            self._spare: Segment | None = self._make_spare()
            self._active_since_s = monotonic_s()
            self._roll(first=True)
        except BaseException:
            os.close(self._lock_handle)
            raise
        self._cursor = 0  # index into _segments of the one being read
        self._again: list[Record] = []

    # --- callers ------------------------------------------------------------------------------------------------

    @property
    def max_record_bytes(self) -> int:
        """Largest key and body together that a segment can hold."""
        return self.segment_bytes - HEADER_SIZE - FRAME_OVERHEAD

    def append(self, key: bytes, body: bytes) -> int:
        """Accept one record and return its sequence number; it then survives the death of this process.

        Raises SpoolFullError when the bound, or the disk, is reached: the record is then not in the spool.
        """
        with self._lock:
            if self._closed:
                raise PublisherClosedError("the publisher is closed; make a new one to publish")
            active = self._active
            start = active.end
            accepted_us = self._now_us()
            if not active.append(accepted_us, key, body):
                self._roll()
                active, start = self._active, self._active.end
                if not active.append(accepted_us, key, body):
                    raise SpoolFullError(
                        f"a record of {len(key) + len(body)} bytes does not fit a segment of {self.segment_bytes}"
                    )
            if self._fsync:
                active.sync(start)
            sequence = self._next_sequence
            self._next_sequence = sequence + 1
            return sequence

    # --- the sending thread -------------------------------------------------------------------------------------

    @property
    def has_unread(self) -> bool:
        """Whether `read` would find something."""
        segment = self._segments[self._cursor]
        return bool(self._again) or segment.read_count < segment.count or self._cursor + 1 < len(self._segments)

    def read(self, limit: int) -> list[Record]:
        """Up to `limit` records in the order in which they were accepted, each once."""
        records, self._again = self._again[:limit], self._again[limit:]
        while len(records) < limit:
            segment = self._segments[self._cursor]
            sealed = segment.sealed  # before the read: a seal after it could hide records from us
            records += segment.read(limit - len(records))
            if not sealed or len(records) >= limit:
                break
            self._finish_reading(segment)
            if self._cursor + 1 >= len(self._segments):
                break
            self._cursor += 1
        return records

    def acknowledge(self, records: Sequence[Record], session: int = 0) -> None:
        """These records are where they belong, says the broker to this producer session."""
        for record in records:
            segment = record.segment
            if segment.session is None:
                segment.session = session
            segment.acknowledged += 1
            if segment.acknowledged >= segment.count:
                segment.settled_at_s = self._monotonic_s()

    def tidy(self, may_delete: Callable[[Segment], bool] = lambda _segment: True) -> None:
        """Keep a spare segment ready, close a quiet one, delete those whose records are all acknowledged."""
        active = self._active
        if self._spare is None and self._room_for_one_more() and active.end > active.size // 2:
            self._keep_spare_ready()
        quiet = active.count > 0 and active.acknowledged == active.count
        if quiet and self._monotonic_s() - self._active_since_s > IDLE_SEAL_S:
            with self._lock, contextlib.suppress(SpoolFullError):
                if not self._closed and active.acknowledged == active.count:
                    self._roll()
        for segment in self._segments[: self._cursor]:
            if segment.acknowledged >= segment.count and may_delete(segment):
                with self._lock:
                    self._segments.remove(segment)
                    self._cursor -= 1
                segment.delete()

    def reread(self, segment: Segment) -> list[Record]:
        """All records of a sealed segment, without touching what was read or acknowledged."""
        copy = Segment(segment.path, segment.first_sequence, segment.size)
        copy.end, copy.count = segment.end, segment.count
        records = [record._replace(segment=segment) for record in copy.read(copy.count)]
        copy.release()
        return records

    def send_again(self, segment: Segment, records: Sequence[Record]) -> None:
        """Have acknowledged records read once more; they count as unacknowledged until `acknowledge`."""
        segment.acknowledged -= len(records)
        segment.settled_at_s, segment.session = None, None
        self._again.extend(records)

    # --- figures ------------------------------------------------------------------------------------------------

    @property
    def replayed(self) -> int:
        """Records found at the start, left by an earlier process."""
        return self._replayed

    @property
    def pending(self) -> int:
        """Records not yet acknowledged."""
        with self._lock:
            return sum(max(0, segment.count - segment.acknowledged) for segment in self._segments)

    @property
    def used_bytes(self) -> int:
        """Bytes of the records on disk, acknowledged ones in unfinished segments included."""
        with self._lock:
            return sum(segment.end for segment in self._segments)

    def next_unread_accepted_us(self) -> int | None:
        """When the oldest record not yet read was accepted. For the reading thread."""
        for segment in self._segments[self._cursor :]:
            if (accepted_us := segment.peek_accepted_us()) is not None:
                return accepted_us
        return None

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last record accepted."""
        return self._next_sequence - 1

    @property
    def next_unread_sequence(self) -> int:
        """The sequence number that the next `read` starts with."""
        segment = self._segments[self._cursor]
        return segment.first_sequence + segment.read_count

    def stop_accepting(self) -> None:
        """Every later append raises PublisherClosedError."""
        with self._lock:
            self._closed = True

    def close(self, *, keep_acknowledged: bool = False) -> int:
        """Close the files and give the directory free; the number of records left for the next process.

        Finished segments are deleted, unless `keep_acknowledged`: then the next process sends them once more.
        """
        self.stop_accepting()
        pending = self.pending
        for segment in self._segments:
            if segment.acknowledged >= segment.count and not (keep_acknowledged and segment.count):
                segment.delete()
            segment.release()
        if self._spare is not None:
            self._spare.delete()
        os.close(self._lock_handle)
        return pending

    def abandon_after_fork(self) -> None:
        """In a forked child: forget the lock without releasing it for the parent."""
        self._closed = True
        os.close(self._lock_handle)

    # --- segments -----------------------------------------------------------------------------------------------

    def _find_segments(self) -> list[Segment]:
        for path in self.directory.glob("spare*.tmp"):
            path.unlink()
        segments = []
        for path in sorted(self.directory.glob("segment-*.spool")):
            segment = Segment.find(path)
            if segment is None:
                _log.error("%s is not a spool segment; it is left alone: move it away", path)
                continue
            torn = segment.end + 4 <= segment.size and any(segment.view()[segment.end : segment.end + 4])
            if torn and segment.end < segment.size:
                self.torn_records += 1
                _log.warning("%s ends in a torn record, which was never accepted; it is dropped", path)
            segment.release()
            if segment.count:
                segments.append(segment)
            else:
                segment.delete()
        return segments

    def _finish_reading(self, segment: Segment) -> None:
        missing = segment.count - segment.read_count
        if missing > 0:  # damage in the middle: what follows cannot be found, but must not vanish in silence
            self.damaged_records += missing
            kept = segment.path.with_suffix(".damaged")
            segment.path.rename(kept)
            segment.path = segment.path.with_name(segment.path.name + ".gone")
            segment.count = segment.read_count
            _log.error("%d records of the spool are damaged and were not sent; the file is kept as %s", missing, kept)
        segment.release()

    def _make_spare(self) -> Segment:
        """A fresh segment, under a name of its own: a caller and the sending thread may each make one at a time."""
        return Segment.create(self.directory / f"spare-{next(self._spare_numbers)}.tmp", self.segment_bytes)

    def _keep_spare_ready(self) -> None:
        try:
            spare = self._make_spare()
        except OSError:
            return  # a full disk is the appending caller's error, not ours
        with self._lock:
            if self._spare is None and not self._closed:
                self._spare = spare
                return
        spare.delete()  # a caller was faster

    def _room_for_one_more(self) -> bool:
        return (len(self._segments) + 1) * self.segment_bytes <= self.max_bytes

    def _roll(self, *, first: bool = False) -> None:
        """Make a fresh segment the active one. Called with the lock held, or before there are callers.

        The first of a process may go past the bound: a spool that was full at the end must start again to drain.
        """
        if not first and not self._room_for_one_more():
            raise SpoolFullError(
                f"the spool {self.directory} holds its {self.max_bytes} bytes; the broker does not take events: "
                "bring it back, or raise max_spool_bytes"
            )
        try:
            fresh = self._spare or self._make_spare()
            self._spare = None
            fresh.activate(self.directory / f"segment-{self._next_sequence:020d}.spool", self._next_sequence)
        except OSError as error:
            raise SpoolFullError(f"the spool {self.directory} cannot grow: {error.strerror}; free disk space") from None
        if self._segments and not self._segments[-1].sealed:
            self._segments[-1].seal()
        self._segments.append(fresh)
        self._active = fresh
        self._active_since_s = self._monotonic_s()


def _lock_directory(directory: Path) -> int:
    """Hold the directory for this process; SpoolLockedError when another one does."""
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise SpoolLockedError(
            f"the spool {directory} is held by process {holder}; give each process its own directory"
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle
