"""Publishes until it is done or killed, and writes each number to standard output after `publish` returned.

Arguments: bootstrap, topic, spool directory, first number, number of events, events a second (0: as fast as it can),
the day of the events, and optionally the URL of a ledger: then the spool keeps events until that ledger has them.

An event is a function of its number, so that one that was accepted by a process that died before it could say so is
the same event when the next process publishes it again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.ledger import Ledger
from pipeline.ledger.rows import find_identities
from pipeline.screen import Identity
from tollhouse_client import UsagePublisher
from tollhouse_client.confirm import Identity as ClientIdentity
from tollhouse_client.events import usage_event

TENANTS = 7
SOURCE = "proxy/child"


def event_of(number: int, day: str) -> dict[str, object]:
    """Event `number`: its tenant, time and tokens follow from it."""
    seconds, milliseconds = divmod(number, 1_000)
    minutes, seconds = divmod(seconds, 60)
    return usage_event(
        source=SOURCE,
        id=f"c-{number:07d}",
        time=f"{day}T00:{minutes:02d}:{seconds:02d}.{milliseconds:03d}Z",
        tenant=f"t{number % TENANTS}",
        key="pool-1",
        provider="openai",
        api="responses",
        model="gpt-5-mini",
        usage={"input_tokens": number, "output_tokens": 1},
    )


class LedgerConfirm:
    """Asks a ledger which events it has."""

    def __init__(self, url: str) -> None:
        self._ledger = Ledger(url)

    def __call__(self, identities: Sequence[ClientIdentity]) -> set[ClientIdentity]:
        wanted = [Identity(*identity) for identity in identities]
        found = self._ledger.read(lambda connection: find_identities(connection, wanted))
        return {tuple(entry.event.identity) for entry in found}


def main() -> None:
    bootstrap, topic, directory, first, count, rate, day, *rest = sys.argv[1:]
    confirm = LedgerConfirm(rest[0]) if rest else None
    publisher = UsagePublisher(
        bootstrap, source=SOURCE, spool_dir=Path(directory), topic=topic, confirm=confirm, confirm_after_s=3.0
    )
    started_s = time.monotonic()
    for index in range(int(count)):
        number = int(first) + index
        publisher.publish(event_of(number, day))
        os.write(1, b"c-%07d\n" % number)  # one write, so that a kill leaves no half line
        if int(rate) and index % 20 == 19:
            time.sleep(max(0.0, started_s + (index + 1) / int(rate) - time.monotonic()))
    publisher.close(20)


if __name__ == "__main__":
    main()
