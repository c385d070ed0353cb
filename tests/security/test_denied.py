"""A database that does not let the service do its work: the operator's log says what, the caller only that it is so."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from pipeline.admission import Ask
from pipeline.ledger import Ledger, LedgerDenied
from tests.integration.api.kit import House
from tests.security.ledger_roles import ledger_with_roles
from tollhouse.api.app import make_app
from tollhouse.settings import Settings


def test_an_ask_that_the_database_denies_is_told_in_the_log_and_not_to_the_caller(tmp_path: Path) -> None:
    """On the way of single statements a denied one was a fault of the service (500)."""
    with ledger_with_roles() as roles:
        house = House(roles.owner, tmp_path)
        roles.grant()
        body = {"token": house.token("tenant", "acme"), "model": "gpt-5-mini", "id": "call-1"}
        headers = house.proxy()
        url = roles.url("finance")  # it writes no quota windows
        ledger = Ledger(url)
        app = make_app(Settings(dir=tmp_path, database_url=url), ledger, lambda: house.now_us, house.publisher)
        with capture_logs() as logs:
            answer = TestClient(app, raise_server_exceptions=False).post("/v1/authorize", json=body, headers=headers)
        said = answer.json()
        assert (answer.status_code, said["type"].rpartition(":")[2]) == (503, "database_unavailable")
        assert "its log says what" in said["detail"]
        assert "permission" not in answer.text
        assert "quota_windows" not in answer.text
        (line,) = [one for one in logs if one["event"] == "database denies"]
        assert line["log_level"] == "error"
        assert "permission denied for table" in line["error"]
        assert "role" in line["error"]
        with pytest.raises(LedgerDenied, match="permission denied for table"):
            ledger.authorize(Ask("call-2", "acme", "gpt-5-mini"), house.now_us)
        assert house.ask(id="call-1").status_code == 200, "nothing of it stayed"
        ledger.close()
        house.close()
