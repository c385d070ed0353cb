"""The detector of one key: a minute's usage in, findings out.

Streaming, no look-ahead, pure. Idle minutes cost nothing: they are caught up with the next call. Late rows are counted
into their minute as long as it is within the last hour, and judged with the newest minute. Feeding a minute in several
parts, or a restart from state() between any two calls, gives the same state as feeding it whole.

Levels are in usual requests: the larger of requests and tokens in units of a usual request's tokens (Baseline).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pipeline.leaks.baseline import Baseline
from pipeline.leaks.evidence import Evidence, judge
from pipeline.leaks.explain import key_finding
from pipeline.leaks.findings import Finding, Incident
from pipeline.leaks.fingerprints import WEIGHT, Fingerprints
from pipeline.leaks.numerics import FadingMax, surprise
from pipeline.leaks.settings import DEFAULT, DetectorSettings
from pipeline.leaks.windows import Windows
from schemas.instants import MINUTE_US

Part = tuple[str, str, str, int, int, int]
"""(network, model, agent, requests, tokens, errors) of one minute."""

BLOCK_MIN: Final = 360
_BLOCKS_A_DAY: Final = 4
_CEILING_FLOORS: Final = (5.0, 20.0)
_LONG_AGO: Final = 10**9
_SIDE_GAP_MIN: Final = 180
_NOTHING: Final[list[Finding]] = []
STATE_VERSION: Final = 1


class KeyDetector:
    """Baseline, records and the open incident of one key."""

    __slots__ = (
        "baseline",
        "block",
        "burst",
        "bursts",
        "ceilings",
        "error_record",
        "first",
        "gap",
        "high_hours",
        "incident",
        "known_since",
        "longest_gap",
        "quarters",
        "records",
        "settings",
        "side",
        "sources",
        "subject",
        "surprise",
        "used_to",
        "windows",
        "woke",
    )

    def __init__(self, subject: str, settings: DetectorSettings = DEFAULT, known_since_us: int | None = None) -> None:
        """`known_since_us`: since when the key exists, when that is known; a first use much later is a waking."""
        self.subject = subject
        self.settings = settings
        self.surprise = 0.0
        """Of the minute judged last, in units of the key's own record; no part of the state."""
        self.known_since = None if known_since_us is None else known_since_us // MINUTE_US
        self.windows = Windows()
        self.sources = Fingerprints(settings.new_for_min, settings.values_max)
        self.baseline = Baseline(0)
        self.records = [FadingMax() for _ in range(3)]
        self.quarters = [[0.0, 0.0, 0.0] for _ in range(_BLOCKS_A_DAY)]
        self.ceilings = [FadingMax() for _ in range(2)]
        self.error_record = FadingMax()
        self.first = -1
        self.block = -1
        self.woke = -_LONG_AGO
        self.gap = 0
        self.longest_gap = 0.0
        self.used_to = False
        self.burst = False
        self.bursts = 0.0
        self.high_hours = 0
        self.side = [0, -_LONG_AGO, 0, 0, 0]
        self.incident: Incident | None = None

    def observe(self, minute_us: int, rows: Iterable[Part]) -> list[Finding]:
        """Take in rows of one minute (any instant of it) and judge; most often an empty list.

        rows: (network, model, agent, requests, tokens, errors), counts from 0. Rows of a minute older than an hour are
        only noted as sources.
        """
        minute = minute_us // MINUTE_US
        windows = self.windows
        if self.first < 0:
            self._begin(minute)
        elif minute > windows.minute:
            self._advance(minute)
        learning = minute - self.first < self.settings.learn_min
        same_hour = minute // 60 == self.baseline.hour
        bits_of = self.sources.bits
        for network, model, agent, requests, tokens, errors in rows:
            bits = bits_of((network, model, agent), minute, learning=learning)
            weight = WEIGHT[bits]
            if weight:
                row = (requests, tokens, requests, tokens, requests * weight, errors)
                self._note_side(minute, requests, weight)
            else:
                row = (requests, tokens, 0, 0, 0, errors)
            self.side[3] += requests
            windows.add(minute, row)
            if same_hour:
                self.baseline.add(row)
        return self._score()

    def accept(self, values: Iterable[str]) -> None:
        """An operator says that the open incident and these networks, models and agents are expected: learn them."""
        self.sources.accept(values)
        self.incident = None

    def state(self) -> dict[str, Any]:
        """Everything but the settings, JSON-able: some 10 kB for a key with a full week behind it."""
        return {
            "version": STATE_VERSION,
            "subject": self.subject,
            "known_since": self.known_since,
            "first": self.first,
            "block": self.block,
            "woke": self.woke,
            "gap": self.gap,
            "longest_gap": self.longest_gap,
            "used_to": self.used_to,
            "burst": self.burst,
            "bursts": self.bursts,
            "high_hours": self.high_hours,
            "side": list(self.side),
            "windows": self.windows.state(),
            "sources": self.sources.state(),
            "baseline": self.baseline.state(),
            "records": [r.state() for r in self.records],
            "quarters": [list(q) for q in self.quarters],
            "ceilings": [c.state() for c in self.ceilings],
            "error_record": self.error_record.state(),
            "incident": None if self.incident is None else self.incident.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], settings: DetectorSettings = DEFAULT) -> KeyDetector:
        """Inverse of state(); ValueError for a state of another version (it is a cache: rebuild it from the ledger)."""
        if state.get("version") != STATE_VERSION:
            raise ValueError(f"key detector state of version {state.get('version')!r}, not {STATE_VERSION}: rebuild it")
        detector = cls(str(state["subject"]), settings)
        for name in (
            "known_since",
            "first",
            "block",
            "woke",
            "gap",
            "longest_gap",
            "used_to",
            "burst",
            "bursts",
            "high_hours",
        ):
            setattr(detector, name, state[name])
        detector.side = list(state["side"])
        detector.windows = Windows.from_state(state["windows"])
        detector.sources.load(state["sources"])
        detector.baseline = Baseline.from_state(state["baseline"])
        for record, saved in zip(detector.records, state["records"], strict=True):
            record.load(saved)
        detector.quarters = [list(q) for q in state["quarters"]]
        for ceiling, saved in zip(detector.ceilings, state["ceilings"], strict=True):
            ceiling.load(saved)
        detector.error_record.load(state["error_record"])
        detector.incident = None if state["incident"] is None else Incident.from_state(state["incident"])
        return detector

    def _begin(self, minute: int) -> None:
        self.first = minute
        self.windows.advance(minute)
        self.baseline = Baseline(minute)
        self.block = minute // BLOCK_MIN
        for record in (*self.records, *self.ceilings, self.error_record):
            record.roll(self.block, 1.0)
        if self.known_since is not None and minute - self.known_since >= self.settings.first_use_min:
            self.woke = minute
            self.gap = minute - self.known_since

    def _advance(self, minute: int) -> None:
        """Catch up with the minutes that passed: windows slide, hours are learnt, blocks join the records."""
        s = self.settings
        last = self.windows.minute
        gap = minute - last
        if gap > 1440:
            longest = self.longest_gap * s.fade_ceiling ** (gap / BLOCK_MIN)
            if gap >= s.dormant_min:
                self.woke = minute
                self.gap = gap
                self.used_to = gap < s.dormant_gap_factor * longest
            self.longest_gap = max(longest, gap)
        incident = self.incident
        if incident is not None and minute - incident.fired >= s.close_min:
            self.incident = incident = None
        held = incident is not None and incident.severity == "page" and minute - incident.opened < s.adapt_min
        hours = minute // 60 - last // 60
        if hours:
            total = self.baseline.units(self.windows.long[1], self.windows.long[2])
            high = hours == 1 and total >= s.ticket_lasting * max(self.ceilings[1].past, _CEILING_FLOORS[1])
            self.high_hours = self.high_hours + 1 if high else 0
        self.baseline.advance(minute, self._floor(), s, held=held)
        block = minute // BLOCK_MIN
        if block != self.block:
            self._roll(block, last - self.first)
        self.windows.advance(minute)

    def _roll(self, block: int, age: int) -> None:
        """A 6-hour block is over: its records and ceilings join the past, at most so much higher.

        What surprised before there was a baseline is no record; what surprised in the first week, before each hour of
        the week was seen, is soon forgotten.
        """
        s = self.settings
        young = age <= s.young_min
        fade = s.fade_young if young else s.fade_surprise
        quarter = self.quarters[self.block % _BLOCKS_A_DAY]
        for i in range(3):
            record = self.records[i]
            if age <= s.learn_min:
                record.running = 0.0
            elif not young:
                record.running = min(record.running, s.growth_surprise * max(record.past, s.surprise_floor))
            quarter[i] = max(quarter[i] * fade**_BLOCKS_A_DAY, record.running)
            record.roll(block, fade)
        for i in range(2):
            ceiling = self.ceilings[i]
            if age > s.learn_min:
                ceiling.running = min(ceiling.running, s.growth_ceiling * max(ceiling.past, _CEILING_FLOORS[i]))
            ceiling.roll(block, s.fade_ceiling)
        self.error_record.roll(block, fade)
        self.bursts = (self.bursts + self.burst) * s.fade_bursts ** (block - self.block)
        self.burst = False
        self.block = block

    def _note_side(self, minute: int, requests: int, weight: int) -> None:
        """Running totals of an uninterrupted presence of new sources: since, last, new requests, all, new weight."""
        side = self.side
        if minute - side[1] > _SIDE_GAP_MIN:
            side[0], side[2], side[3], side[4] = minute, 0, 0, 0
        side[1] = max(side[1], minute)
        side[2] += requests
        side[4] += requests * weight

    def _floor(self) -> float:
        """The least level that is expected of the key."""
        floor = self.settings.level_floor
        return max(floor, floor * self.ceilings[1].past / 60)

    def _score(self) -> list[Finding]:
        """Surprise over 1, 5 and 60 minutes against the expectation and the key's own record."""
        s, b, w = self.settings, self.baseline, self.windows
        slot, short, long = w.current(), w.short, w.long
        expected = max(b.envelope, b.recent, self._floor())
        total_1 = 0.0 if slot is None else b.units(slot[1], slot[2])
        total_5 = b.units(short[1], short[2])
        total_60 = b.units(long[1], long[2])
        ratio = here = 0.0
        quarter = self.quarters[self.block % _BLOCKS_A_DAY]
        records = self.records
        for i, total, minutes, shape in (
            (0, total_1, 1, s.shape_1),
            (1, total_5, 5, s.shape_5),
            (2, total_60, 60, s.shape_60),
        ):
            due = expected * minutes
            if total <= due:
                continue
            nats = surprise(total, due, shape)
            record = records[i]
            record.running = max(record.running, nats)
            ratio = max(ratio, nats / max(record.past, s.surprise_floor))
            here = max(here, nats / max(quarter[i], s.surprise_floor))
        # A key that still learns has no record to measure by.
        self.surprise = ratio if w.minute - self.first >= s.learn_min else 0.0
        self.ceilings[0].running = max(self.ceilings[0].running, total_5)
        self.ceilings[1].running = max(self.ceilings[1].running, total_60)
        if (
            ratio >= s.burst
            and expected * 60 < s.quiet_share * self.ceilings[1].past
            and w.minute - self.first > s.learn_min
        ):
            self.burst = True
        if (
            ratio < 0.8
            and here < 1.5
            and not long[3]
            and not long[6]
            and w.minute - self.woke > s.wake_window_min
            and total_60 <= self.ceilings[1].past
        ):
            return _NOTHING
        return self._weigh(expected, total_1, total_5, total_60, ratio, here)

    def _weigh(
        self, expected: float, total_1: float, total_5: float, total_60: float, ratio: float, here: float
    ) -> list[Finding]:
        """Gather the evidence, judge it, and keep the incident."""
        s, b, w = self.settings, self.baseline, self.windows
        slot, short, long = w.current(), w.short, w.long
        new_1 = 0.0 if slot is None else b.units(slot[3], slot[4])
        new_5, new_60 = b.units(short[3], short[4]), b.units(long[3], long[4])
        shares = [0.0]
        for total, new, minutes in ((total_1, new_1, 1), (total_5, new_5, 5), (total_60, new_60, 60)):
            if total > expected * minutes:
                shares.append(new / (total - expected * minutes))
        errors_surprise = 0.0
        if long[6]:
            nats = surprise(long[6], 60 * (b.errors / 60) + 1.0, s.shape_60)
            self.error_record.running = max(self.error_record.running, nats)
            errors_surprise = nats / max(self.error_record.past, s.surprise_floor)
        side = self.side
        evidence = Evidence(
            age_min=w.minute - self.first,
            awake_min=w.minute - self.woke,
            used_to_gaps=self.used_to,
            expected=expected,
            total_1=total_1,
            total_5=total_5,
            total_60=total_60,
            new_1=new_1,
            new_5=new_5,
            new_60=new_60,
            ways=max(short[5] / short[3] if short[3] else 0.0, long[5] / long[3] if long[3] else 0.0),
            ceiling_5=self.ceilings[0].past,
            ceiling_60=self.ceilings[1].past,
            surprise=ratio,
            surprise_here=here,
            bursts=self.bursts,
            high_hours=self.high_hours,
            record_60=max(self.records[2].past, s.surprise_floor),
            new_share=max(shares),
            new_age_min=w.minute - side[0],
            raw_requests_5=short[1],
            raw_tokens_5=short[2],
            models_tried=self.sources.models_first_seen(w.minute - 60) if long[3] or long[6] else 0,
            errors_60=long[6],
            errors_surprise=errors_surprise,
            side_min=side[1] - side[0] if w.minute - side[1] < 60 else 0,
            side_new=side[2],
            side_share=side[2] / max(side[3], 1),
            side_ways=side[4] / max(side[2], 1),
        )
        return self._tell(evidence)

    def _tell(self, evidence: Evidence) -> list[Finding]:
        minute = self.windows.minute
        incident = self.incident
        if incident is not None:
            incident.excess_tokens += self._excess_tokens(evidence.expected, 1)
        verdict = judge(evidence, self.settings)
        if verdict is None:
            return _NOTHING
        if incident is None:
            self.incident = incident = Incident(minute, self._since(evidence, verdict.rule))
            incident.excess_tokens = self._excess_tokens(evidence.expected, 60)
        if not incident.fire(minute, verdict.severity, verdict.rule, verdict.score, self.settings.repeat_min):
            return _NOTHING
        return [key_finding(self, evidence, verdict, incident)]

    def _excess_tokens(self, expected: float, minutes: int) -> float:
        """Tokens over the expectation, of the running minute or (at an opening) of the minutes of the excess."""
        due = expected / self.baseline.per_token if self.baseline.per_token else 0.0
        minute = self.windows.minute
        slots = [s for s in self.windows.ring if s is not None and s[0] > minute - minutes]
        return sum(max(0.0, s[2] - due) for s in slots)

    def _since(self, evidence: Evidence, rule: str) -> int:
        """First minute of the excess: back over the last hour while minutes carry a fair part of it."""
        if rule == "side traffic":
            return self.side[0]
        w, b = self.windows, self.baseline
        least = evidence.expected + 0.25 * max(evidence.total_5 / 5 - evidence.expected, 0.0)
        since = w.minute
        for age in range(60):
            slot = w.ring[(w.minute - age) % 60]
            if slot is not None and b.units(slot[1], slot[2]) > least:
                since = slot[0]
            elif w.minute - age < since - 2:
                break
        return since
