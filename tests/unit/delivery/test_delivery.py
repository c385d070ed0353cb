"""Alerts from the outbox to sinks: once each, again until taken, never past a mute, an ack or a cooldown."""

from __future__ import annotations

import pytest

from pipeline.alerting import Alert
from pipeline.catalog import parse_yaml
from pipeline.ledger import Ledger
from pipeline.ledger.alerts import change_alert
from pipeline.ledger.catalogs import list_key_states
from pipeline.ledger.deliveries import CLAIM_US, GIVE_UP_US, list_deliveries, wait_us
from pipeline.ledger.responses import release
from schemas.catalog import Catalog
from schemas.instants import HOUR_US, MINUTE_US, SECOND_US
from streams.delivery import COOLDOWN_US, Deliverer, Notice, Refused, public

START_US = 1_790_000_000_000_000
CATALOG = """
currency: USD
seller: {name: Example Cloud Ltd, country: IE}
tenants:
  acme: {name: Acme GmbH, tier: standard, plan: team}
keys:
  pool-1: {provider: openai, kind: pooled}
plans:
  team: {charges: [{meter: tokens, models: "*", model: per_unit, price: "1.00", per: 1000000}]}
alerts:
  sinks:
    - {url: "https://hooks.example/all"}
    - {url: "slack://TokenA/TokenB/TokenC", kinds: [leak]}
  on_leak: ACTION
"""


class House:
    """A ledger, a deliverer, a clock, and a sender that fails as it is told."""

    def __init__(self, url: str, on_leak: str = "alert", release_after_us: int = 0) -> None:
        self.ledger = Ledger(url)
        self.ledger.create()
        catalog = parse_yaml(CATALOG.replace("ACTION", on_leak))
        assert isinstance(catalog, Catalog)
        self.ledger.apply(catalog, 0, "test")
        self.now_us = START_US
        self.sent: list[tuple[str, Notice]] = []
        self.failure: dict[str, Exception] = {}
        self.deliverer = Deliverer(self.ledger, lambda: self.now_us, self._send, release_after_us)

    def _send(self, url: str, notice: Notice, /) -> None:
        if url in self.failure:
            raise self.failure[url]
        self.sent.append((url, notice))

    def step(self, passed_us: int = 0) -> list[str]:
        """Let time pass and work off what is due; the ids that went out."""
        self.now_us += passed_us
        before = len(self.sent)
        for one in self.deliverer.open_due():
            self.deliverer.deliver(one)
        return [f"{url.partition(':')[0]} {notice.id}" for url, notice in self.sent[before:]]

    def states(self) -> list[str]:
        return sorted(row["state"] for row in self.ledger.read(list_deliveries))

    def key_states(self) -> dict[str, str]:
        return {row["key"]: row["state"] for row in self.ledger.read(list_key_states)}


def alert(severity: str = "page", kind: str = "leak", subject: str = "acme/pool-1", n: int = 1) -> Alert:
    facts = {"expected_requests_60": 10.2, "expected_tokens_60": 4000, "new": {"network": ["AS1/ZZ"]}}
    return Alert(f"{kind}:{subject}/{n}", START_US, kind, severity, subject, "it is used elsewhere", facts)


@pytest.fixture
def house(database_url: str) -> House:
    return House(database_url)


def test_each_sink_that_wants_the_kind_gets_it_once(house: House) -> None:
    house.ledger.raise_alerts([alert(), alert(kind="quota", severity="ticket", subject="acme")])
    assert sorted(house.step()) == ["https leak:acme/pool-1/1.1", "https quota:acme/1.1", "slack leak:acme/pool-1/1.1"]
    house.ledger.raise_alerts([alert()])
    assert house.step(HOUR_US) == []
    assert house.states() == ["sent"] * 3


def test_a_ticket_that_becomes_a_page_is_told_again_under_a_new_version(house: House) -> None:
    house.ledger.raise_alerts([alert("ticket")])
    house.step()
    house.ledger.raise_alerts([alert("page")])
    assert sorted(house.step(SECOND_US)) == ["https leak:acme/pool-1/1.2", "slack leak:acme/pool-1/1.2"]


def test_of_two_versions_that_wait_the_later_one_goes_out(house: House) -> None:
    house.ledger.raise_alerts([alert("ticket")])
    house.ledger.raise_alerts([alert("page")])
    assert sorted(house.step()) == ["https leak:acme/pool-1/1.2", "slack leak:acme/pool-1/1.2"]


def test_a_sink_that_fails_is_tried_again_under_the_same_id_and_holds_up_no_other(house: House) -> None:
    house.failure["https://hooks.example/all"] = OSError("away")
    house.ledger.raise_alerts([alert()])
    assert house.step() == ["slack leak:acme/pool-1/1.1"]
    assert house.step(SECOND_US) == []  # it waits
    assert house.states() == ["due", "sent"]
    house.failure.clear()
    assert house.step(wait_us(1)) == ["https leak:acme/pool-1/1.1"]


def test_back_off_doubles_up_to_an_hour() -> None:
    waits_s = [wait_us(n) // SECOND_US for n in range(1, 14)]
    assert waits_s[:4] == [2, 4, 8, 16]
    assert waits_s[-1] == 3600


def test_a_sink_that_stays_away_is_given_up_and_one_that_refuses_at_once(house: House) -> None:
    house.failure["https://hooks.example/all"] = OSError("away")
    house.failure["slack://TokenA/TokenB/TokenC"] = Refused("gone")
    house.ledger.raise_alerts([alert()])
    house.step()
    assert house.states() == ["due", "failed"]
    house.step(GIVE_UP_US)
    assert house.states() == ["failed", "failed"]
    rows = house.ledger.read(list_deliveries)
    assert {row["error"] for row in rows} == {"away", "gone"}
    assert "Token" not in repr(rows)  # what is kept holds no secret of the URL


def test_a_worker_that_died_with_it_in_hand_leaves_it_to_the_next(house: House) -> None:
    house.ledger.raise_alerts([alert()])
    house.failure = {"https://hooks.example/all": SystemExit(), "slack://TokenA/TokenB/TokenC": SystemExit()}
    for one in house.deliverer.open_due():
        with pytest.raises(SystemExit):
            house.deliverer.deliver(one)
    house.failure.clear()
    assert house.step(SECOND_US) == []  # another worker may still be at it
    assert sorted(house.step(CLAIM_US)) == ["https leak:acme/pool-1/1.1", "slack leak:acme/pool-1/1.1"]


def test_two_workers_send_it_once(house: House) -> None:
    house.ledger.raise_alerts([alert(kind="quota", subject="acme")])
    (one,) = house.deliverer.open_due()
    house.deliverer.deliver(one)
    house.deliverer.deliver(one)
    assert len(house.sent) == 1


def test_a_muted_alert_speaks_when_the_mute_is_over(house: House) -> None:
    house.ledger.raise_alerts([alert()])
    until_us = START_US + HOUR_US
    house.ledger.write(lambda c: change_alert(c, alert().id, muted_until_us=until_us))
    assert house.step() == []
    assert len(house.step(HOUR_US)) == 2


@pytest.mark.parametrize("values", [{"state": "acked"}, {"state": "resolved"}, {"feedback": "expected"}])
def test_what_a_person_has_taken_is_not_told_any_more(house: House, values: dict[str, str]) -> None:
    house.failure["https://hooks.example/all"] = OSError("away")
    house.ledger.raise_alerts([alert()])
    assert len(house.step()) == 1
    house.ledger.write(lambda c: change_alert(c, alert().id, **values))
    house.failure.clear()
    assert house.step(HOUR_US) == []
    assert house.states() == ["sent", "skipped"]


def test_a_resolved_incident_that_comes_back_is_told_again_and_an_expected_one_is_not(house: House) -> None:
    house.ledger.raise_alerts([alert()])
    house.step()
    house.ledger.write(lambda c: change_alert(c, alert().id, state="resolved"))
    assert house.ledger.raise_alerts([alert()]) == [alert()]
    assert len(house.step(HOUR_US)) == 2
    house.ledger.write(lambda c: change_alert(c, alert().id, state="resolved", feedback="expected"))
    assert house.ledger.raise_alerts([alert()]) == []
    assert house.step(HOUR_US) == []


def test_tickets_about_one_subject_wait_for_the_cooldown_and_pages_do_not(house: House) -> None:
    house.ledger.raise_alerts([alert("ticket", n=1)])
    house.step()
    house.ledger.raise_alerts([alert("ticket", n=2)])
    assert house.step(MINUTE_US) == []
    house.ledger.raise_alerts([alert("page", n=3)])
    assert {name.split()[1] for name in house.step(MINUTE_US)} == {"leak:acme/pool-1/3.1"}
    assert {name.split()[1] for name in house.step(COOLDOWN_US)} == {"leak:acme/pool-1/2.1"}


def test_an_alert_only_is_no_response(house: House) -> None:
    house.ledger.raise_alerts([alert()])
    house.step()
    assert house.key_states() == {}
    assert house.sent[0][1].done == ()


def test_a_page_suspends_the_tenant_and_says_so_and_a_ticket_does_not(database_url: str) -> None:
    house = House(database_url, "suspend")
    house.ledger.raise_alerts([alert("ticket")])
    house.step()
    assert house.key_states() == {}
    house.ledger.raise_alerts([alert("page")])
    house.step()
    assert house.key_states() == {"tenant:acme": "suspended"}
    assert house.sent[-1][1].done == ("tenant acme is suspended: authorize refuses it until it is released",)
    assert house.ledger.write(lambda c: release(c, alert().id, house.now_us, "ada")) == ["tenant:acme"]
    assert house.key_states() == {"tenant:acme": "active"}


def test_a_muted_page_is_answered_all_the_same(database_url: str) -> None:
    house = House(database_url, "suspend")
    house.ledger.raise_alerts([alert()])
    house.ledger.write(lambda c: change_alert(c, alert().id, muted_until_us=START_US + HOUR_US))
    assert house.step() == []
    assert house.key_states() == {"tenant:acme": "suspended"}


def test_a_response_ends_by_itself_where_that_is_set(database_url: str) -> None:
    house = House(database_url, "suspend", release_after_us=HOUR_US)
    house.ledger.raise_alerts([alert()])
    house.step()
    house.step(HOUR_US - 1)
    assert house.key_states() == {"tenant:acme": "suspended"}
    house.step(1)
    assert house.key_states() == {"tenant:acme": "active"}


@pytest.mark.parametrize("values", [{"state": "resolved"}, {"state": "acked", "feedback": "expected"}])
def test_a_response_ends_with_its_alert_wherever_a_person_said_so(database_url: str, values: dict[str, str]) -> None:
    house = House(database_url, "suspend")
    house.ledger.raise_alerts([alert()])
    house.step()
    house.ledger.write(lambda c: change_alert(c, alert().id, state="acked"))
    house.step(SECOND_US)
    assert house.key_states() == {"tenant:acme": "suspended"}
    house.ledger.write(lambda c: change_alert(c, alert().id, **values))
    house.step(SECOND_US)
    assert house.key_states() == {"tenant:acme": "active"}


def test_an_incident_that_goes_on_after_it_was_resolved_is_answered_again(database_url: str) -> None:
    house = House(database_url, "suspend")
    house.ledger.raise_alerts([alert()])
    house.step()
    house.ledger.write(lambda c: change_alert(c, alert().id, state="resolved"))
    house.step(SECOND_US)
    house.ledger.raise_alerts([alert()])
    house.step(SECOND_US)
    assert house.key_states() == {"tenant:acme": "suspended"}


def test_what_is_shown_of_a_url_holds_no_secret() -> None:
    assert public("slack://TokenA/TokenB/") == "slack://…"
    assert public("json://user:pw@127.0.0.1:9/secret?key=1") == "json://127.0.0.1:9/…"
