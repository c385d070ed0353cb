"""The spool: bounded, in order, and whole after any death."""

from __future__ import annotations

import multiprocessing
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse_client.errors import PublisherClosedError, SpoolFullError, SpoolLockedError
from tollhouse_client.segment import HEADER_SIZE, Segment
from tollhouse_client.slots import open_in_free_slot
from tollhouse_client.spool import DEFAULT_MAX_BYTES, IDLE_SEAL_S, Spool


def small(directory: Path, **settings: object) -> Spool:
    """A spool of 16 segments of 4 KiB."""
    values = {"max_bytes": 65_536, "segment_bytes": 4_096} | settings
    return Spool(directory, **values)  # type: ignore[arg-type]


def fill(spool: Spool, size: int) -> tuple[list[bytes], SpoolFullError]:
    """Append numbered bodies of `size` bytes until one is refused: those that were accepted, and the refusal."""
    accepted: list[bytes] = []
    while len(accepted) < 10_000:
        body = b"%0*d" % (size, len(accepted))
        try:
            spool.append(b"t", body)
        except SpoolFullError as error:
            return accepted, error
        accepted.append(body)
    raise AssertionError("the spool never was full")


def bodies(spool: Spool, limit: int = 1_000_000) -> list[bytes]:
    return [record.body for record in spool.read(limit)]


def segment_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("segment-*.spool"))


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=900)), max_size=60), st.integers(1, 17))
def test_what_goes_in_comes_out_in_order_across_segments(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[bytes, bytes]], step: int
) -> None:
    spool = small(tmp_path_factory.mktemp("spool"))
    sequences = [spool.append(key, body) for key, body in items]
    seen = []
    while records := spool.read(step):
        seen += records
    spool.close()
    assert [(record.key, record.body) for record in seen] == items
    assert [record.sequence for record in seen] == sequences == list(range(1, len(items) + 1))


def test_reader_follows_a_writer(tmp_path: Path) -> None:
    spool = small(tmp_path)
    for number in range(500):
        spool.append(b"t", b"%d" % number)
        assert spool.has_unread
        records = spool.read(10)
        assert [record.body for record in records] == [b"%d" % number]
        spool.acknowledge(records)
        spool.tidy()
    assert not spool.has_unread
    assert len(segment_files(tmp_path)) <= 2
    assert spool.close() == 0


def test_unacknowledged_records_are_there_for_the_next_process(tmp_path: Path) -> None:
    spool = small(tmp_path)
    for number in range(1_000):
        spool.append(b"t", b"body %d" % number)
    records = spool.read(950)
    spool.acknowledge(records)
    spool.tidy()
    left = spool.close()
    assert left == 50
    again = small(tmp_path)
    replayed = bodies(again)
    assert replayed[-50:] == [b"body %d" % number for number in range(950, 1_000)]
    assert again.replayed == len(replayed)
    assert len(replayed) < 200, "finished segments are gone"
    assert again.append(b"t", b"new") == 1_001, "sequence numbers go on"
    again.close()


def test_clean_close_leaves_no_segments(tmp_path: Path) -> None:
    spool = small(tmp_path)
    spool.append(b"t", b"x")
    spool.acknowledge(spool.read(1))
    assert spool.close() == 0
    assert segment_files(tmp_path) == []
    assert list(tmp_path.glob("spare*")) == []


@pytest.mark.parametrize("cut", [1, 4, 9, 20, 25])
def test_a_torn_last_record_is_dropped_and_the_others_stay(tmp_path: Path, cut: int) -> None:
    segment = Segment.create(tmp_path / "spare.tmp", 4_096)
    segment.activate(tmp_path / "segment-00000000000000000001.spool", 1)
    assert segment.append(1, b"t", b"first")
    whole = segment.end
    assert segment.append(2, b"t", b"second-body")
    end = segment.end
    view = segment.view()
    view[end - cut : end] = bytes(cut)  # the tail never reached the file
    segment.release()
    spool = small(tmp_path)
    assert bodies(spool) == [b"first"]
    assert spool.torn_records == 1
    assert whole < end
    spool.close()


def test_a_record_without_its_length_is_the_end_not_damage(tmp_path: Path) -> None:
    """The order of writing: payload first, length last. A kill between them leaves an unseen payload."""
    segment = Segment.create(tmp_path / "spare.tmp", 4_096)
    segment.activate(tmp_path / "segment-00000000000000000001.spool", 1)
    assert segment.append(1, b"t", b"first")
    end = segment.end
    assert segment.append(2, b"t", b"second")
    segment.view()[end : end + 8] = bytes(8)
    segment.release()
    spool = small(tmp_path)
    assert bodies(spool) == [b"first"]
    assert spool.torn_records == 0
    spool.close()


def test_damage_in_a_sealed_segment_is_counted_and_the_file_kept(tmp_path: Path) -> None:
    spool = small(tmp_path)
    for number in range(100):
        spool.append(b"t", b"%0100d" % number)
    spool.close()
    first = segment_files(tmp_path)[0]
    content = bytearray(first.read_bytes())
    (count,) = struct.unpack_from("<Q", content, 16)
    content[HEADER_SIZE + 30] ^= 0xFF
    first.write_bytes(content)
    again = small(tmp_path)
    assert len(bodies(again)) == 100 - count
    assert again.damaged_records == count > 0
    assert first.with_suffix(".damaged").exists()
    again.tidy()
    again.close()
    assert first.with_suffix(".damaged").exists()


def test_full_is_an_error_that_takes_nothing_and_passes(tmp_path: Path) -> None:
    spool = small(tmp_path)
    accepted, error = fill(spool, 200)
    assert "max_spool_bytes" in str(error)
    assert 200 < len(accepted) < 400
    with pytest.raises(SpoolFullError):
        spool.append(b"t", b"x" * 200)
    records = spool.read(len(accepted))
    assert [record.body for record in records] == accepted
    spool.acknowledge(records[: len(records) // 2])
    spool.tidy()
    assert spool.append(b"t", b"room again")
    spool.close()


def test_a_spool_that_was_full_opens_again_and_drains(tmp_path: Path) -> None:
    spool = small(tmp_path)
    count = len(fill(spool, 500)[0])
    spool.close()
    for _ in range(3):
        again = small(tmp_path)
        assert again.close() == count
    again = small(tmp_path)
    records = again.read(count + 1)
    assert len(records) == count
    again.acknowledge(records)
    again.tidy()
    assert again.append(b"t", bytes(500))
    again.close()


def test_a_full_disk_is_a_full_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = small(tmp_path)

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", no_room)
    _, error = fill(spool, 500)
    assert "No space left" in str(error)
    monkeypatch.undo()
    assert spool.append(b"t", bytes(500)), "and it goes on when there is room"
    spool.close()


def test_writers_and_the_reader_do_not_take_one_another_s_new_segment(tmp_path: Path) -> None:
    """A caller that rolls while the reader prepares the next segment once truncated the file under its map."""
    spool = small(tmp_path, max_bytes=4_000_000)
    written: list[list[bytes]] = [[] for _ in range(3)]
    failures: list[BaseException] = []

    def write(mine: list[bytes], name: int) -> None:
        try:
            for number in range(3_000):
                body = b"%d-%0180d" % (name, number)
                spool.append(b"t", body)
                mine.append(body)
        except BaseException as error:  # noqa: BLE001  looked at below
            failures.append(error)

    writers = [threading.Thread(target=write, args=(mine, name)) for name, mine in enumerate(written)]
    for writer in writers:
        writer.start()
    seen: list[bytes] = []
    while any(writer.is_alive() for writer in writers) or spool.has_unread:
        records = spool.read(50)
        seen += [record.body for record in records]
        spool.acknowledge(records)
        spool.tidy()
    assert failures == []
    for name, mine in enumerate(written):
        assert [body for body in seen if body.startswith(b"%d-" % name)] == mine
    assert spool.close() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_a_quiet_acknowledged_segment_is_let_go(tmp_path: Path) -> None:
    clock = [0.0]
    spool = small(tmp_path, monotonic_s=lambda: clock[0])
    spool.append(b"t", b"x")
    spool.acknowledge(spool.read(1))
    spool.tidy()
    assert spool.used_bytes > HEADER_SIZE
    clock[0] += IDLE_SEAL_S + 1
    spool.tidy()
    spool.read(1)
    spool.tidy()
    assert spool.used_bytes == HEADER_SIZE
    assert len(segment_files(tmp_path)) == 1
    spool.close()


def test_one_process_a_directory(tmp_path: Path) -> None:
    spool = small(tmp_path)
    with pytest.raises(SpoolLockedError, match=r"held by process \d+"):
        small(tmp_path)
    spool.close()
    small(tmp_path).close()


def test_workers_take_slots_and_take_them_again(tmp_path: Path) -> None:
    first = open_in_free_slot(tmp_path, small)
    second = open_in_free_slot(tmp_path, small)
    assert [first.directory.name, second.directory.name] == ["slot-0", "slot-1"]
    second.append(b"t", b"left behind")
    first.close()
    second.close()
    third, fourth = open_in_free_slot(tmp_path, small), open_in_free_slot(tmp_path, small)
    assert third.replayed == 0
    assert bodies(fourth) == [b"left behind"]
    third.close()
    fourth.close()


def test_nothing_is_accepted_after_close(tmp_path: Path) -> None:
    spool = small(tmp_path)
    spool.close()
    with pytest.raises(PublisherClosedError):
        spool.append(b"t", b"x")


def _append_in_child(spool: Spool, result: multiprocessing.SimpleQueue[str]) -> None:
    spool.abandon_after_fork()
    try:
        spool.append(b"t", b"from the child")
    except PublisherClosedError:
        result.put("refused")


def test_a_forked_child_neither_writes_nor_frees_the_lock(tmp_path: Path) -> None:
    spool = small(tmp_path)
    context = multiprocessing.get_context("fork")
    result = context.SimpleQueue()
    child = context.Process(target=_append_in_child, args=(spool, result))
    child.start()
    child.join(10)
    assert result.get() == "refused"
    with pytest.raises(SpoolLockedError):
        small(tmp_path)
    spool.close()


def test_an_hour_at_a_thousand_a_second_fits_the_default() -> None:
    events = 3_600 * 1_000
    assert DEFAULT_MAX_BYTES // events == 1_193
