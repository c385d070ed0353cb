"""What the Faust application is set to, where a default would cost memory."""

from __future__ import annotations

from pathlib import Path

from pipeline.ledger import Ledger
from streams.app import Streams
from streams.meter import BATCH_MESSAGES
from streams.settings import StreamSettings


def test_a_fetch_is_taken_in_parts(tmp_path: Path) -> None:
    """Without a bound one fetch of a compressed backlog becomes tens of thousands of objects at once."""
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    streams = Streams(StreamSettings(broker="127.0.0.1:1", data_dir=tmp_path), ledger, lambda: 0)
    assert streams.app.conf.broker_max_poll_records == BATCH_MESSAGES
    ledger.close()
