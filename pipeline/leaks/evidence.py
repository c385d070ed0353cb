"""What one minute of one key shows, and the rules that judge it.

Each rule has a name, says page or ticket, and gives a score: 1 is the strongest that it lets pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.leaks.settings import DetectorSettings

PAGE: Final = "page"
TICKET: Final = "ticket"
_NEW_HALF: Final = 0.5
_NEW_MOST: Final = 0.4
_MANY: Final = 1.5
"""Mean number of new attributes from which a source is new in many ways."""


@dataclass(frozen=True)
class Verdict:
    """A rule fired: its name, page or ticket, and its score (over 1; how far beyond its threshold)."""

    rule: str
    severity: str
    score: float


@dataclass
class Evidence:
    """Numbers of one minute; levels are totals in usual requests, `surprise` in units of the key's own record."""

    age_min: int
    awake_min: int
    """Minutes since the key woke from dormancy; large when it did not."""
    used_to_gaps: bool
    """The key has lain unused about as long before."""
    expected: float
    """Usual requests a minute that were due."""
    total_1: float
    total_5: float
    total_60: float
    new_1: float
    new_5: float
    new_60: float
    ways: float
    """Mean number of attributes (network, model, agent) that are new, over the new traffic of the window."""
    ceiling_5: float
    ceiling_60: float
    surprise: float
    surprise_here: float
    """As `surprise`, against the record of this quarter of the day."""
    bursts: float
    """Fading count of earlier 6-hour blocks in which quiet hours were surprising."""
    high_hours: int
    """Hours in a row, up to the last full one, far over the ceiling."""
    record_60: float
    """The key's record surprise of an hour, in nats."""
    new_share: float
    """Share of the excess that new sources account for, over the window where that is largest; may pass 1."""
    new_age_min: int
    """Minutes since new sources appeared without a break."""
    raw_requests_5: int
    raw_tokens_5: int
    models_tried: int
    errors_60: int
    errors_surprise: float
    side_min: int
    side_new: float
    side_share: float
    side_ways: float


def judge(e: Evidence, s: DetectorSettings) -> Verdict | None:
    """The strongest verdict on a minute: a page before a ticket, then the higher score; None for ordinary use."""
    found = _cold(e, s) if e.age_min < s.learn_min else [*_sources(e, s), *_levels(e, s), *_probing(e, s)]
    found.extend(_waking(e, s))
    if not found:
        return None
    return max(found, key=lambda v: (v.severity == PAGE, v.score))


def _graded(rule: str, value: float, page: float, ticket: float) -> list[Verdict]:
    if value >= page:
        return [Verdict(rule, PAGE, value / page)]
    if value >= ticket:
        return [Verdict(rule, TICKET, value / ticket)]
    return []


def _cold(e: Evidence, s: DetectorSettings) -> list[Verdict]:
    """A key that still learns: floods only."""
    size = max(e.raw_requests_5 / s.flood_requests_5, e.raw_tokens_5 / s.flood_tokens_5)
    if size >= 1 and e.total_5 >= s.flood_factor * e.ceiling_5:
        return [Verdict("flood", PAGE, size)]
    return []


def _waking(e: Evidence, s: DetectorSettings) -> list[Verdict]:
    """A key that was idle for a week or more, or never used, is used."""
    if e.awake_min >= s.wake_window_min:
        return []
    touch = max(e.total_5 / s.wake_requests_5 if e.awake_min < 5 else 0.0, e.total_60 / s.wake_requests_15)
    if e.new_60 >= 2:
        touch = max(touch, e.new_60 / 2)
    if touch < 1:
        return []
    return [Verdict("dormant", PAGE if not e.used_to_gaps or e.new_60 >= 2 else TICKET, touch)]


def _sources(e: Evidence, s: DetectorSettings) -> list[Verdict]:
    """Traffic by new sources on top of what was due."""
    found: list[Verdict] = []
    regular = e.record_60 < s.regular * e.ceiling_60
    if e.new_share >= _NEW_HALF and (
        regular or e.total_5 > s.irregular * e.ceiling_5 or e.total_60 > s.irregular * e.ceiling_60
    ):
        many = e.ways >= _MANY
        stale = s.stale_factor if e.new_age_min > s.fresh_min else 1.0
        found += _graded(
            "new source",
            e.surprise,
            stale * (s.page_new_many if many else s.page_new_one),
            stale * (s.ticket_new_many if many else s.ticket_new_one),
        )
    if e.new_60 >= _NEW_MOST * e.total_60:
        found += _graded("new source, level", e.total_60 / max(e.ceiling_60, 20.0), s.page_volume, s.ticket_volume)
    if e.side_min >= s.side_after_min and e.side_new >= s.side_requests:
        limit = s.side_share_many if e.side_ways >= _MANY else s.side_share_one
        if e.side_share <= limit:
            found.append(Verdict("side traffic", TICKET, 1 + e.side_new / (100 * s.side_requests)))
    return found


def _levels(e: Evidence, s: DetectorSettings) -> list[Verdict]:
    """Levels never seen, whatever the source."""
    found: list[Verdict] = []
    if e.surprise >= 2 and e.total_5 >= s.page_ceiling_5 * max(e.ceiling_5, 5.0):
        found.append(Verdict("never seen", PAGE, e.total_5 / (s.page_ceiling_5 * max(e.ceiling_5, 5.0))))
    level = e.total_60 / max(e.ceiling_60, 20.0)
    regular = e.record_60 < s.regular * e.ceiling_60
    found += _graded(
        "never seen, hour", level, s.page_ceiling_60 * (1 if regular else s.irregular_ceiling), s.ticket_ceiling_60
    )
    if e.high_hours >= s.lasting_hours:
        found += _graded("never seen, hours", level, s.page_lasting, s.ticket_lasting)
    quiet = e.expected * 60 < s.quiet_share * e.ceiling_60
    if quiet and e.bursts < s.bursts_max and e.record_60 < s.predictable * e.ceiling_60:
        dead = e.expected * 60 <= 1.01 * max(s.level_floor * e.ceiling_60, s.level_floor * 60)
        limit = s.page_quiet * (s.dead_factor if dead else 1.0)
        if e.surprise >= limit:
            found.append(Verdict("quiet hours", PAGE, e.surprise / limit))
    return found


def _probing(e: Evidence, s: DetectorSettings) -> list[Verdict]:
    """Trying out what a key can do."""
    found: list[Verdict] = []
    if e.models_tried:
        found += _graded("model enumeration", e.models_tried, s.enumerate_models_page, s.enumerate_models_ticket)
    if e.errors_60 >= s.errors_min and e.errors_surprise >= s.errors_page:
        found.append(Verdict("errors", PAGE if e.new_60 > 0 else TICKET, e.errors_surprise / s.errors_page))
    return found
