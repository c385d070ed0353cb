"""Pictures as files: invoices month over month, an incident; what cannot be drawn is said in one line."""

from pathlib import Path

import pytest

from pipeline.alerting import Alert
from pipeline.ledger import Ledger
from schemas.instants import parse_instant
from tests.integration.cli.installation import Installation
from tests.unit.cli.command import refused, tollhouse

AT_US = parse_instant("2026-10-05T10:00:00Z")


@pytest.mark.parametrize(("name", "head"), [("m.svg", b"<?xml"), ("m.PNG", b"\x89PNG")])
def test_invoices_are_drawn_by_month(october: Installation, tmp_path: Path, name: str, head: bytes) -> None:
    out = tmp_path / name
    assert "no such invoices" in refused(tollhouse("invoices", "plot", "--out", out, "--dir", october.dir))
    assert tollhouse("invoices", "run", "--month", "2026-10", "--dir", october.dir).code == 0
    result = tollhouse("invoices", "plot", "--tenant", "acme", "--theme", "dark", "--out", out, "--dir", october.dir)
    assert (result.code, result.out.strip()) == (0, str(out))
    assert out.read_bytes().startswith(head)
    result = tollhouse("invoices", "plot", "--tenant", "nobody", "--out", out, "--dir", october.dir)
    assert "no such invoices" in refused(result)


def test_an_incident_is_drawn(october: Installation, tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{october.database}")
    leak = Alert("leak:1", AT_US, "leak", "page", "acme/pool-1", "a leak", {"since_us": AT_US})
    ledger.raise_alerts([leak, Alert("quota:1", AT_US, "quota", "ticket", "acme", "80 %", {})])
    ledger.close()
    out = tmp_path / "leak.svg"
    assert tollhouse("alerts", "plot", "leak:1", "--out", out, "--dir", october.dir).code == 0
    assert b"acme/pool-1: tokens a minute" in out.read_bytes()
    for alert, what in (("none", "no such alert"), ("quota:1", "only a leak")):
        assert what in refused(tollhouse("alerts", "plot", alert, "--out", out, "--dir", october.dir))


@pytest.mark.parametrize("command", [("invoices", "plot"), ("alerts", "plot", "leak:1")])
def test_another_kind_of_file_is_refused(october: Installation, tmp_path: Path, command: tuple[str, ...]) -> None:
    result = tollhouse(*command, "--out", tmp_path / "picture.gif", "--dir", october.dir)
    assert "must end in .png or .svg" in refused(result, 2)
