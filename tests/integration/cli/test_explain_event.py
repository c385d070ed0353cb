"""`tollhouse explain --event`: what became of an event and where its bytes are; told also where no broker answers."""

from __future__ import annotations

import pytest

from tests.integration.cli.installation import Installation, event
from tests.unit.cli.command import refused


def test_an_event_is_found_by_its_id_and_narrowed_by_tenant(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLHOUSE_BROKER", "127.0.0.1:1")
    installation.take(
        event("e1", "2026-10-05T11:00:00Z", input=3), event("e1", "2026-10-05T11:00:00Z", "bolt", input=4)
    )
    both = installation("explain", "--event", "e1", "--json").json()["events"]
    assert [(one["tenant"], one["state"]) for one in both] == [("acme", "counted"), ("bolt", "counted")]
    (one,) = installation("explain", "--event", "e1", "--tenant", "bolt", "--json").json()["events"]
    assert one["bytes"].startswith("not read: ")
    assert one["evidence"].startswith(f"{one['topic']}/{one['partition']}@{one['offset']}#")
    shown = installation("explain", "--event", "e1", "--tenant", "bolt").out
    assert f"{one['evidence']}, arrived 2026-10-05T" in shown


def test_an_event_that_is_not_there_and_a_wrong_use(installation: Installation) -> None:
    line = refused(installation("explain", "--event", "nope"))
    assert line == "tollhouse: there is no event nope, neither counted nor rejected: check --tenant and --source"
    assert installation("explain").code == 2
    assert installation("explain", "acme/2026-10", "--event", "e1").code == 2
