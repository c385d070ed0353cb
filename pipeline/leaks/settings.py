"""Thresholds of the leak detector, each with where it came from.

"Benchmark" is the seeded leak benchmark in bench/leakbench; tuned on its seeds 1 to 8, reported on others.
"""

from __future__ import annotations

from dataclasses import dataclass

DAY_MIN = 1440


@dataclass(frozen=True)
class DetectorSettings:
    """All numbers of the key detector. Minutes end in _min; levels are in usual requests (see KeyDetector)."""

    learn_min: int = 2 * DAY_MIN
    """A key younger than this learns and does not page, floods excepted: two days show it both its nights and days."""
    new_for_min: int = 3 * DAY_MIN
    """How long a network, model or agent counts as new: reported leaks were found or over within three days."""
    values_max: int = 512
    """Networks, models or agents remembered for a key: bounds its state to some 50 kB."""

    shape_1: float = 8.0
    shape_5: float = 12.0
    shape_60: float = 24.0
    """Negative binomial shapes over 1, 5 and 60 minutes: relative noise of 35, 29 and 20 % on top of counting noise.
    Self-calibration makes the result insensitive: 4 to 24 moved no recall by more than 3 % (benchmark)."""
    surprise_floor: float = 4.0
    """Nats under which no calibration goes: exp(-4) is once in an hour of minutes, nothing to be woken for."""
    fade_surprise: float = 0.985
    """Fade of the remembered surprise in each 6-hour block: half after 11 days, so that one bad day is forgiven."""
    young_min: int = 7 * DAY_MIN
    fade_young: float = 0.95
    """Younger than this not each hour of the week has been seen, and surprise is forgotten by half in 2.4 days."""
    fade_ceiling: float = 0.985
    growth_surprise: float = 1.5
    growth_ceiling: float = 1.15
    """What one 6-hour block may raise remembered surprise and ceiling by: a leak that ramps over days stays visible."""
    recent_weight: float = 0.1
    """Weight of each 5 minutes in the recent level: memory of about 70 minutes."""
    week_weight: float = 0.5
    day_weight: float = 0.3
    """Weight of the newest week in an hour of the week, of the newest day in an hour of the day."""
    level_floor: float = 0.02
    """Smallest expected level: usual requests a minute, and share of the busiest hour's level."""

    page_new_one: float = 2.2
    page_new_many: float = 1.4
    """Surprise, in units of the key's own record, that pages when at least half of the excess came by new sources: with
    one attribute new, and with two or more (benchmark)."""
    ticket_new_one: float = 1.3
    ticket_new_many: float = 0.9
    fresh_min: int = 90
    stale_factor: float = 1.6
    """Use that grows as new sources appear is a leak's way; sources that have been there for longer than this have most
    often replaced the key's usual ones, and need so much more."""
    regular: float = 0.2
    irregular: float = 1.3
    """A key whose record surprise is large against its size (nats over `regular` times the requests of its busiest
    hour) is irregular: its excess must also pass its ceiling by so much."""
    page_volume: float = 2.0
    ticket_volume: float = 1.2
    """An hour's total over the key's ceiling, at least 40 % of it by new sources."""
    page_ceiling_5: float = 4.2
    """Five minutes' total over the key's ceiling, whatever the source: above the benchmark's one-off batches (3x to 8x
    of the busy level, 1.4x to 4x of the ceiling), below 10x leaks."""
    page_ceiling_60: float = 7.8
    irregular_ceiling: float = 1.3
    ticket_ceiling_60: float = 4.6
    lasting_hours: int = 5
    page_lasting: float = 5.0
    ticket_lasting: float = 2.5
    """So many hours in a row, each so much over the ceiling: a ramp; one-off batches are over sooner."""
    page_quiet: float = 3.5
    dead_factor: float = 7.0
    """Against hours without any use surprise is cheap: there so many times `page_quiet`."""
    quiet_share: float = 0.2
    predictable: float = 0.03
    """Excess in hours that are quiet (expected under `quiet_share` of the busiest hour) for a key whose record surprise
    is small against its size (nats under `predictable` times the requests of its busiest hour)."""

    burst: float = 3.0
    bursts_max: float = 0.5
    fade_bursts: float = 0.985
    """... and which is not used to bursts in quiet hours: so many blocks with a surprise of `burst` or more, fading."""

    dormant_min: int = 9 * DAY_MIN
    dormant_gap_factor: float = 1.3
    """Waking after so long pages, unless the key is used to gaps as long: in the benchmark an occasional user stays
    away for seven days or more 0.7 times in 1,000 key-days, for nine or more 0.25 times."""
    first_use_min: int = 7 * DAY_MIN
    """A first use so long after the key was made is a waking too."""
    wake_window_min: int = 15
    wake_requests_5: float = 6.0
    wake_requests_15: float = 12.0
    """Usual requests after waking that are more than a touch; with a new source two requests do."""

    flood_requests_5: int = 3000
    flood_tokens_5: int = 10_000_000
    """Five minutes that page even while a key learns: 10 requests a second, or 2 million tokens a minute (public
    reports: 93 million tokens in ten minutes)."""
    flood_factor: float = 8.0
    """... and this much over the highest five minutes that the key has shown."""

    enumerate_models_page: int = 8
    enumerate_models_ticket: int = 5
    """Models new to the key, first tried within one hour: attackers list what a key can do before they use it."""
    errors_min: int = 30
    errors_page: float = 3.0
    """Errors of an hour: at least so many, and so much over the key's own record of surprise."""

    side_after_min: int = 180
    side_requests: float = 15.0
    side_share_many: float = 0.35
    side_share_one: float = 0.2
    """Small lasting side traffic by a new network (ticket): after an hour, a minority of the key's calls."""

    repeat_min: int = 60
    close_min: int = 6 * 60
    """An incident that goes on is told again after an hour; six quiet hours close it."""
    adapt_min: int = 3 * DAY_MIN
    """After three days an incident is the new normal, and is learnt."""


DEFAULT = DetectorSettings()
