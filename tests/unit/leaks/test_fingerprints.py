"""What is new to a key, and for how long."""

from pipeline.leaks.fingerprints import AGENT, MODEL, NETWORK, WEIGHT, Fingerprints

HOME = ("AS64500", "small-1", "agent/1.0")


def learnt() -> Fingerprints:
    sources = Fingerprints(new_for_min=100, values_max=8)
    assert sources.bits(HOME, 0, learning=True) == 0
    return sources


def test_what_a_learning_key_shows_is_its_own() -> None:
    assert learnt().bits(HOME, 5000, learning=False) == 0


def test_each_new_attribute_is_told_until_its_time_is_over() -> None:
    sources = learnt()
    part = ("AS64511", "small-1", "curl/8")
    assert sources.bits(part, 5000, learning=False) == NETWORK | AGENT
    assert sources.bits(part, 5099, learning=False) == NETWORK | AGENT
    assert sources.bits(part, 5100, learning=False) == 0
    assert sources.bits(("AS64511", "large-9", "curl/8"), 5100, learning=False) == MODEL
    assert sources.new_values(5050, 5000)["network"] == ["AS64511"]


def test_an_upgrade_is_no_new_source() -> None:
    assert WEIGHT[MODEL] == WEIGHT[AGENT] == 0
    assert WEIGHT[NETWORK] == 1
    assert WEIGHT[MODEL | AGENT] == 2


def test_accepted_values_are_no_longer_new() -> None:
    sources = learnt()
    part = ("AS64511", "small-1", "agent/1.0")
    assert sources.bits(part, 5000, learning=False) == NETWORK
    sources.accept(["AS64511"])
    assert sources.bits(part, 5001, learning=False) == 0


def test_a_roaming_key_forgets_what_it_has_not_shown_for_longest() -> None:
    sources = learnt()
    for n in range(50):
        sources.bits((f"AS{n}", "small-1", "agent/1.0"), 1440 * n, learning=False)
    assert len(sources.state()["network"]) <= 8
    assert sources.bits(("AS49", "small-1", "agent/1.0"), 1440 * 60, learning=False) == 0
    assert sources.bits(("AS0", "small-1", "agent/1.0"), 1440 * 60, learning=False) == NETWORK


def test_state_round_trip() -> None:
    sources = learnt()
    sources.bits(("AS64511", "large-9", "curl/8"), 5000, learning=False)
    again = Fingerprints(new_for_min=100, values_max=8)
    again.load(sources.state())
    assert again.state() == sources.state()
    assert again.bits(("AS64511", "small-1", "agent/1.0"), 5001, learning=False) == NETWORK
