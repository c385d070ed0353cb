"""States of the leak detectors: a cache in the ledger, so that a restarted worker need not learn a fortnight again."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import detector_states

_d = detector_states.c


class KeptState(NamedTuple):
    """A subject's detector as it was after minute_us (UTC microseconds)."""

    minute_us: int
    state: Mapping[str, Any]


def load_states(connection: Connection, subjects: Sequence[str]) -> dict[str, KeptState]:
    """The kept states of the subjects, as far as there are any."""
    rows = connection.execute(select(detector_states).where(_d.subject.in_(subjects)))
    return {row.subject: KeptState(row.minute_us, json.loads(row.state)) for row in rows}


def keep_states(connection: Connection, states: Mapping[str, KeptState]) -> None:
    """Put the states in the place of older ones."""
    if not states:
        return
    statement = (sqlite if is_sqlite(connection) else postgresql).insert(detector_states)
    new = {name: statement.excluded[name] for name in ("minute_us", "state")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["subject"], set_=new),
        [
            {"subject": subject, "minute_us": kept.minute_us, "state": json.dumps(kept.state)}
            for subject, kept in sorted(states.items())
        ],
    )
