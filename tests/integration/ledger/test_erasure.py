"""Personal data is gone from every table; every sum, digest and proof is what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.alerting import Alert
from pipeline.ledger import Ledger
from pipeline.ledger.auditing import differences
from pipeline.ledger.detectors import KeptState, keep_states
from pipeline.ledger.erasure import Erased, erase, stripped
from pipeline.ledger.evidence import events_as_of, proof_of
from pipeline.ledger.tables import events, metadata, rejected, rollups
from schemas.instants import DAY_US
from schemas.usage_event import Delivery, Evidence
from tests.unit.cli.command import tollhouse
from tests.unit.pipeline.events import ARRIVAL_US, TIME_US, catalog, event, ref

PERSONAL = ("eve.example", "mallory.example", "AS64500/DE", "curl-of-eve/1", "blue-team")


def of(name: str, user: str, tenant: str = "acme", **more: Any) -> dict[str, Any]:
    document = event(name, **more)
    document["subject"] = tenant
    document["data"] |= {
        "user": user, "network": "AS64500/DE", "agent": "curl-of-eve/1", "labels": {"team": "blue-team"},
    }  # fmt: skip
    return document


DOCUMENTS = [
    of("e1", "eve.example", input=5),
    of("e1", "eve.example", input=5),
    of("e2", "mallory.example", input=7),
    event("e3", input=9),
    of("e1", "eve.example", input=6),  # a conflict: rejected, whole
    of("w", "eve.example", kind="void", voids=ref("unseen")),
    {**of("n", "eve.example", input=1), "time": 7, "note": "acme"},
    of("other", "eve.example", tenant="beta", input=2),
]


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    made = Ledger(database_url)
    made.create()
    made.apply(catalog(), TIME_US - DAY_US, "test")
    made.take(
        [Delivery(json.dumps(d).encode(), ARRIVAL_US, Evidence("t", 0, n, 0)) for n, d in enumerate(DOCUMENTS)],
        ARRIVAL_US,
    )
    facts = {"new": {"network": ["AS64500/DE"], "agent": ["curl-of-eve/1"]}, "factor": 3}
    made.raise_alerts([Alert("leak:1", TIME_US, "leak", "page", "acme/k1", "New network: AS64500/DE.", facts)])
    states = {f"{tenant}/k1": KeptState(TIME_US, {"networks": ["AS64500/DE"]}) for tenant in ("acme", "beta")}
    made.write(lambda connection: keep_states(connection, states))
    yield made
    made.close()


def everything(ledger: Ledger) -> str:
    """All that is in the database but what is beta's."""
    rows = [row for table in metadata.sorted_tables for row in ledger.rows(table)]
    return "\n".join(
        " ".join(v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in row.values())
        for row in rows
        if row.get("tenant") != "beta" and not str(row.get("subject", "")).startswith("beta")
    )


def proof(ledger: Ledger) -> Any:
    found = ledger.read(lambda connection: events_as_of(connection, "acme", 0, 2**62, 2**62))
    return proof_of(found, lambda _: True)


def test_it_is_gone_and_the_sums_are_what_they_were(ledger: Ledger) -> None:
    before, sums = proof(ledger), ledger.rows(rollups)
    assert all(word in everything(ledger) for word in PERSONAL)
    done = ledger.write(lambda connection: erase(connection, "acme", None, ARRIVAL_US, "test"))
    assert done == Erased(events=3, rejected=2, alerts=1, detectors=1)
    assert [word for word in PERSONAL if word in everything(ledger)] == []
    assert (proof(ledger), ledger.rows(rollups)) == (before, sums)
    assert [row["user"] for row in ledger.rows(events, events.c.tenant == "beta")] == ["eve.example"]
    assert ledger.read(differences) == []
    again = ledger.write(lambda connection: erase(connection, "acme", None, ARRIVAL_US, "test"))
    assert again == Erased(0, 0, 0, 0)


def test_a_repeat_is_still_known_and_a_rejected_event_reads_without_it(ledger: Ledger) -> None:
    ledger.write(lambda connection: erase(connection, "acme", None, ARRIVAL_US, "test"))
    recorded = ledger.take(
        [Delivery(json.dumps(DOCUMENTS[0]).encode(), ARRIVAL_US, Evidence("t", 0, 50, 0))], ARRIVAL_US
    )
    assert (recorded.duplicates, recorded.counted) == (1, 0)
    kept = ledger.rows(rejected, rejected.c.reason == "conflict")[0]
    assert json.loads(kept["raw"])["data"]["tokens"] == {"input": 6}
    ledger.take([Delivery(json.dumps(DOCUMENTS[4]).encode(), ARRIVAL_US, Evidence("t", 0, 4, 0))], ARRIVAL_US)
    assert len(ledger.rows(rejected, rejected.c.reason == "conflict")) == 1  # read again, it is not listed again
    assert ledger.read(differences) == []


def test_one_user_alone(ledger: Ledger) -> None:
    done = ledger.write(lambda connection: erase(connection, "acme", "eve.example", ARRIVAL_US, "test"))
    assert (done.events, done.rejected) == (2, 2)
    users = {row["id"]: row["user"] for row in ledger.rows(events, events.c.tenant == "acme")}
    assert users == {"e1": "", "e2": "mallory.example", "e3": "", "w": ""}
    assert "eve.example" not in everything(ledger)


def test_a_rejection_marked_as_erased_by_hand_is_found(ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(rejected.update().values(state="erased", raw=b""))
    assert any(line.startswith("rejected: ") for line in ledger.read(differences))


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[1]", b'{"data": 1}', b"[" * 5000])
def test_bytes_that_cannot_be_read_go_whole(raw: bytes) -> None:
    assert stripped(raw) == b""


def test_by_the_command_line(tmp_path: Path) -> None:
    made = Ledger(f"sqlite:///{tmp_path / 'tollhouse.db'}")
    made.create()
    made.apply(catalog(), TIME_US - DAY_US, "test")
    made.take([Delivery(json.dumps(DOCUMENTS[0]).encode(), ARRIVAL_US, Evidence("t", 0, 0, 0))], ARRIVAL_US)
    assert tollhouse("erase", "--tenant", "acme", "--dir", tmp_path).code == 2
    done = tollhouse("erase", "--tenant", "acme", "--yes", "--json", "--dir", tmp_path)
    assert (done.code, done.json()) == (0, {"events": 1, "rejected": 0, "alerts": 0, "detectors": 0})
    assert [row["user"] for row in made.rows(events)] == [""]
    made.close()
