"""One file of the spool: preallocated, memory mapped, written front to back.

Layout, little endian::

    header   magic "THSPOOL1", u64 first sequence number, u64 count (0 while the segment is open)
    record   u32 payload length, u32 crc32 of the payload, payload
    payload  u64 microseconds UTC when it was accepted, u16 length of the key, key, body
    end      four zero bytes, or the end of the file

Why a map and not write(): a record is in the page cache, and so survives the death of the process, after one memory
copy; there is no system call and the interpreter lock is not given away in the middle, which is where a busy
background thread would add milliseconds to the caller's time. Blocks are allocated before the map is made, because
a full disk under a sparse map would be a SIGBUS instead of an error.
"""

import contextlib
import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

MAGIC: Final = b"THSPOOL1"
_HEADER: Final = struct.Struct("<8sQQ")
_FRAME: Final = struct.Struct("<II")
_PREFIX: Final = struct.Struct("<QH")
_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE of Linux, which the mmap module does not name: pages are made writable before a caller comes."""
FRAME_OVERHEAD: Final = _FRAME.size + _PREFIX.size
"""Bytes of a record besides its key and body."""
HEADER_SIZE: Final = _HEADER.size


class Record(NamedTuple):
    """One accepted event as it lies in the spool."""

    sequence: int
    accepted_us: int
    key: bytes
    body: bytes
    segment: "Segment"


class Segment:
    """One segment file; a single writer appends, a single reader follows.

    `count` and `acknowledged` are numbers of records; `end` is the offset where the next record goes. A segment
    found on disk knows its `count` from the header when it was sealed, otherwise only after `scan`.
    """

    def __init__(self, path: Path, first_sequence: int, size: int) -> None:
        self.path = path
        self.first_sequence = first_sequence
        self.size = size
        self.count = 0
        self.end = HEADER_SIZE
        self.sealed = False
        self.acknowledged = 0
        self.read_offset = HEADER_SIZE
        self.read_count = 0
        self.settled_at_s: float | None = None  # monotonic time when the last record was acknowledged
        self.session: int | None = None  # the producer session that acknowledged the first
        self._map: mmap.mmap | None = None

    # --- making and finding -------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, size: int) -> "Segment":
        """A new file of `size` bytes, all allocated; OSError when the disk has no room."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, size)
            else:  # macOS: zeros allocate as well, only slower
                block = bytes(1 << 20)
                for start in range(0, size, len(block)):
                    os.write(handle, block[: size - start])
            segment = cls(path, 0, size)
            segment._map = mmap.mmap(handle, size)
            with contextlib.suppress(OSError):  # not Linux 5.14 yet: the first writes fault the pages in
                segment._map.madvise(_POPULATE_WRITE)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        return segment

    @classmethod
    def find(cls, path: Path) -> "Segment | None":
        """A segment that an earlier process left, sealed now; None when the file is not one of ours."""
        size = path.stat().st_size
        if size < HEADER_SIZE:
            return None
        with path.open("rb") as stream:
            magic, first, count = _HEADER.unpack(stream.read(HEADER_SIZE))
        if magic != MAGIC:
            return None
        segment = cls(path, first, size)
        segment.sealed = True
        segment.count = count
        if count:
            segment.end = size
        else:
            segment.scan()
        return segment

    def scan(self) -> None:
        """Find the end of a segment whose writer died: the records before the first that is torn or absent."""
        view = self.view()
        offset = HEADER_SIZE
        while (record := _payload(view, offset, self.size)) is not None:
            offset += _FRAME.size + len(record)
            self.count += 1
        self.end = offset

    def activate(self, path: Path, first_sequence: int) -> None:
        """Give a fresh segment its place in the order. The header comes before the name: a named file is whole."""
        self.first_sequence = first_sequence
        _HEADER.pack_into(self.view(), 0, MAGIC, first_sequence, 0)
        self.path.rename(path)
        self.path = path

    # --- writing ------------------------------------------------------------------------------------------------

    def append(self, accepted_us: int, key: bytes, body: bytes) -> bool:
        """Write one record; False when the segment has no room for it."""
        payload = _PREFIX.pack(accepted_us, len(key)) + key + body
        start = self.end + _FRAME.size
        end = start + len(payload)
        if end > self.size:
            return False
        view = self._map
        assert view is not None, "the active segment is always mapped"
        view[start:end] = payload
        # Last, so that neither the reader nor a kill in between ever sees a length without its payload.
        _FRAME.pack_into(view, self.end, len(payload), zlib.crc32(payload))
        self.end = end
        self.count += 1
        return True

    def seal(self) -> None:
        """No more records. The count in the header lets the next start skip the scan, and notice damage."""
        _HEADER.pack_into(self.view(), 0, MAGIC, self.first_sequence, self.count)
        self.sealed = True

    def sync(self, start: int) -> None:
        """Force what was written since offset `start` to the disk."""
        page = start - start % mmap.PAGESIZE
        self.view().flush(page, self.end - page)

    # --- reading ------------------------------------------------------------------------------------------------

    def read(self, limit: int) -> list[Record]:
        """Up to `limit` records after the last read; fewer at the end, or where a damaged record ends the segment."""
        records: list[Record] = []
        end = self.end  # the writer moves it only after the record is whole
        view = self.view()
        while len(records) < limit and self.read_offset < end:
            payload = _payload(view, self.read_offset, end)
            if payload is None:
                break
            accepted_us, key_length = _PREFIX.unpack_from(payload)
            body_at = _PREFIX.size + key_length
            sequence = self.first_sequence + self.read_count
            records.append(Record(sequence, accepted_us, payload[_PREFIX.size : body_at], payload[body_at:], self))
            self.read_offset += _FRAME.size + len(payload)
            self.read_count += 1
        return records

    def peek_accepted_us(self) -> int | None:
        """When the next unread record was accepted; None when there is none."""
        if self.read_offset + FRAME_OVERHEAD > self.end or self.read_count >= self.count:
            return None
        accepted_us, _ = _PREFIX.unpack_from(self.view(), self.read_offset + _FRAME.size)
        return int(accepted_us)

    # --- the map ------------------------------------------------------------------------------------------------

    def view(self) -> mmap.mmap:
        """The map, made on first use."""
        if self._map is None:
            handle = os.open(self.path, os.O_RDWR)
            try:
                self._map = mmap.mmap(handle, self.size)
            finally:
                os.close(handle)
        return self._map

    def release(self) -> None:
        """Give the map back; a later read makes it again."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def delete(self) -> None:
        """Remove the file."""
        self.release()
        self.path.unlink(missing_ok=True)


def _payload(view: mmap.mmap, offset: int, end: int) -> bytes | None:
    """The payload of the record at `offset`; None when there is none, or it is torn."""
    start = offset + _FRAME.size
    if start > end:
        return None
    length, crc = _FRAME.unpack_from(view, offset)
    if length < _PREFIX.size or start + length > end:
        return None
    payload = view[start : start + length]
    return payload if zlib.crc32(payload) == crc else None
