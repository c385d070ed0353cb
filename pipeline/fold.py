"""The fold: what a batch of screened events does to the ledger, given what the ledger already knows.

Pure and linear: events are taken one by one, in order of arrival; each changes the book of entries, and at the end the
difference between the entries before and after is what has to be added to the totals. So a batch cut in two gives the
same as one batch, and a redelivered event changes nothing.

An entry counts unless it was voided, replaced, is a void itself, or still waits for the event that it names. A void of
an event takes back its replacements too; a replacement of a voided event counts nothing: so the order in which
corrections arrive does not matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from pipeline.screen import Identity, Refused, Screened
from schemas.instants import DAY_US, format_instant
from schemas.usage_event import Evidence

HOLD_US: Final = DAY_US
"""How long a void or replacement may wait for its event (contract: 24 hours)."""

COUNTED, REPLACED, VOIDED, HELD, APPLIED = "counted", "replaced", "voided", "held", "applied"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in the ledger. time_us: the time that decides its window and price; a replacement has its original's.

    by: the identity of the event that replaced or voided it. redelivered: how often it came again.
    """

    event: Screened
    state: str
    time_us: int
    by: tuple[str, str] | None = None
    replaced_by: tuple[str, str] | None = None
    redelivered: int = 0

    @property
    def counts(self) -> bool:
        """Whether its usage is in the totals."""
        return self.state == COUNTED and self.event.kind == "usage"


class Outcome(NamedTuple):
    """How one delivery ended: counted, duplicate, held, rejected or reread (a message that was taken before)."""

    verdict: str
    event: Screened | Refused


@dataclass(slots=True)
class Book:
    """The part of the ledger that a batch touches, and what the batch makes of it.

    before: entries as loaded. entries: as they are now. waiting: held entries by the identity they wait for.
    upstream: (tenant, provider, upstream id) to the entries that carry it.
    """

    before: dict[Identity, Entry] = field(default_factory=dict)
    entries: dict[Identity, Entry] = field(default_factory=dict)
    waiting: dict[Identity, list[Identity]] = field(default_factory=dict)
    upstream: dict[tuple[str, str, str], list[Identity]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    released: list[tuple[str, str]] = field(default_factory=list)
    """(tenant, reservation) whose usage arrived."""

    def load(self, entries: Iterable[Entry]) -> None:
        """Add entries as the ledger has them."""
        for entry in entries:
            identity = entry.event.identity
            if identity not in self.before:
                self.before[identity] = entry
                self._index(entry)
                self.entries[identity] = entry

    def _index(self, entry: Entry) -> None:
        event = entry.event
        if entry.state == HELD and event.target is not None:
            self.waiting.setdefault(event.target, []).append(event.identity)
        if event.upstream_id is not None:
            self.upstream.setdefault((event.identity.tenant, event.provider, event.upstream_id), []).append(
                event.identity
            )

    def added(self) -> list[Entry]:
        """Entries that the ledger has to insert."""
        return [entry for identity, entry in self.entries.items() if not self._same(identity, entry)]

    def changed(self) -> list[Entry]:
        """Entries that the ledger has to update."""
        before = self.before
        return [e for i, e in self.entries.items() if self._same(i, e) and before[i] is not e]

    def dropped(self) -> list[Identity]:
        """Held entries that were rejected in the end and leave the ledger (before `added` enters it)."""
        entries = self.entries
        return [i for i in self.before if i not in entries or not self._same(i, entries[i])]

    def _same(self, identity: Identity, entry: Entry) -> bool:
        """Whether the ledger has the entry already. One that was dropped and delivered anew is another one."""
        old = self.before.get(identity)
        return old is not None and old.event.evidence == entry.event.evidence

    def movements(self) -> Iterable[tuple[Entry, int]]:
        """What the totals have to change by: (entry, +1 or -1)."""
        for identity, entry in self.entries.items():
            old = self.before.get(identity)
            if old is entry:
                continue
            if old is not None and old.counts:
                yield old, -1
            if entry.counts:
                yield entry, 1

    def take(self, event: Screened, *, reread: bool = False) -> None:
        """Take one event. reread: its message was taken before, so that a duplicate is no second delivery."""
        known = self.entries.get(event.identity)
        if known is not None:
            self._again(known, event, reread=reread)
            return
        if event.late:
            self._reject(event, event.late, _time_detail(event))
            return
        held = self._must_wait(event)
        if held:
            self._add(Entry(event, HELD, event.time_us))
        elif not self._apply(event):
            return
        if event.reservation is not None:
            self.released.append((event.identity.tenant, event.reservation))
        self.outcomes.append(Outcome("held" if held else "counted", event))
        if not held:
            self._wake(event.identity, event.arrival_us)

    def refuse(self, refused: Refused) -> None:
        """Note a delivery that screening refused."""
        self.outcomes.append(Outcome("rejected", refused))

    def verdicts(self) -> list[Outcome]:
        """The outcomes, one for each delivery: what waited and was decided within the batch shows its end only."""
        final = []
        for outcome in self.outcomes:
            if outcome.verdict != "held":
                final.append(outcome)
                continue
            assert isinstance(outcome.event, Screened)  # what screening refused is not held
            entry = self.entries.get(outcome.event.identity)
            if entry is not None and entry.event.evidence == outcome.event.evidence:
                final.append(outcome if entry.state == HELD else Outcome("counted", outcome.event))
        return final

    def decided(self) -> list[tuple[Evidence, str]]:
        """Where entries came from that waited before this batch and wait no more: (evidence, counted or rejected)."""
        done = []
        for identity, entry in self.before.items():
            if entry.state != HELD:
                continue
            now = self.entries.get(identity)
            kept = now is not None and now.event.evidence == entry.event.evidence
            if not kept or (now is not None and now.state != HELD):
                done.append((entry.event.evidence, "counted" if kept else "rejected"))
        return done

    def _again(self, known: Entry, event: Screened, *, reread: bool) -> None:
        if known.event.digest != event.digest:
            self._reject(
                event, "conflict", "another event with this subject, source and id, but other content, came first"
            )
        elif reread or known.event.evidence == event.evidence:
            self.outcomes.append(Outcome("reread", event))
        else:
            self.entries[event.identity] = replace(known, redelivered=known.redelivered + 1)
            self.outcomes.append(Outcome("duplicate", event))

    def _apply(self, event: Screened) -> bool:
        """Count an event, or apply a correction whose event is there; False if it was rejected."""
        if (clash := self._upstream_clash(event)) is not None:
            detail = f"data.upstream_id {event.upstream_id!r} was already counted as {clash.source!r}, {clash.id!r}"
            self._reject(event, "duplicate_upstream", detail)
            return False
        if event.target is not None:
            return self._correct(event)
        self._add(Entry(event, COUNTED, event.time_us))
        return True

    def _add(self, entry: Entry) -> None:
        self.entries[entry.event.identity] = entry
        self._index(entry)

    def _reject(self, event: Screened, reason: str, detail: str) -> None:
        self.outcomes.append(Outcome("rejected", _refused(event, reason, detail)))

    def _upstream_clash(self, event: Screened) -> Identity | None:
        """The entry of another call that carries the event's upstream id. A correction that still waits proves no call:
        it is judged when its event has come, and only then is it known to which call it belongs."""
        if event.upstream_id is None:
            return None
        root = self._root(event)
        for holder in self.upstream.get((event.identity.tenant, event.provider, event.upstream_id), ()):
            entry = self.entries.get(holder)
            if entry is not None and entry.state != HELD and self._root(entry.event) != root:
                return holder
        return None

    def _root(self, event: Screened) -> Identity:
        """The first report of the call that the event corrects, directly or over others; the event itself if none."""
        while event.target is not None and (entry := self.entries.get(event.target)) is not None:
            event = entry.event
        return event.identity

    def _must_wait(self, event: Screened) -> bool:
        """Whether the event names one that is not there yet, or that waits itself."""
        if event.target is None:
            return False
        target = self.entries.get(event.target)
        return target is None or target.state == HELD

    def _correct(self, event: Screened) -> bool:
        """Apply a void or a replacement of an event that is there; False if it was rejected."""
        assert event.target is not None  # only corrections come here
        target = self.entries[event.target]
        if target.event.kind == "void":
            self._reject(event, "unknown_event", "it names a void, not a usage event")
            return False
        if event.kind == "void":
            self._void(target, event)
            self._add(Entry(event, APPLIED, event.time_us))
            return True
        return self._replace(target, event)

    def _replace(self, target: Entry, event: Screened) -> bool:
        mark = (event.identity.source, event.identity.id)
        if target.replaced_by is not None:
            source, name = target.replaced_by
            self._reject(event, "conflict", f"the event was already replaced by {source!r}, {name!r}")
            return False
        if target.state == VOIDED:
            self.entries[target.event.identity] = replace(target, replaced_by=mark)
            self._add(Entry(event, VOIDED, target.time_us, by=target.by))
            return True
        self.entries[target.event.identity] = replace(target, state=REPLACED, by=mark, replaced_by=mark)
        self._add(Entry(event, COUNTED, target.time_us))
        return True

    def _void(self, target: Entry, void: Screened) -> None:
        mark = (void.identity.source, void.identity.id)
        entry: Entry | None = target
        while entry is not None:
            if entry.state != VOIDED:
                self.entries[entry.event.identity] = replace(entry, state=VOIDED, by=mark)
            following = entry.replaced_by
            entry = self.entries.get(Identity(entry.event.identity.tenant, *following)) if following else None

    def _wake(self, identity: Identity, arrival_us: int) -> None:
        """Apply what waited for the event, in order of arrival."""
        waiters = self.waiting.pop(identity, [])
        waiting = [entry for waiter in waiters if (entry := self.entries.get(waiter)) is not None]
        for entry in sorted(waiting, key=lambda e: (e.event.arrival_us, e.event.evidence)):
            event, waiter = entry.event, entry.event.identity
            if self.entries.get(waiter) is not entry or entry.state != HELD:
                continue
            del self.entries[waiter]
            if arrival_us - event.arrival_us > HOLD_US:
                self.outcomes.append(Outcome("rejected", overdue(event)))
            elif self._apply(event):
                self.entries[waiter] = replace(self.entries[waiter], redelivered=entry.redelivered)
                self._wake(waiter, arrival_us)


def overdue(event: Screened) -> Refused:
    """The rejection of a correction that waited longer than HOLD_US for its event."""
    assert event.target is not None  # only corrections are held
    detail = (
        f"it {'voids' if event.kind == 'void' else 'replaces'} {event.target.source!r}, {event.target.id!r}, "
        "which did not arrive within 24 hours"
    )
    return _refused(event, "unknown_event", detail)


def _refused(event: Screened, reason: str, detail: str) -> Refused:
    return Refused(event.raw, reason, detail, *event.identity, event.arrival_us, event.evidence)


def _time_detail(event: Screened) -> str:
    when, arrival = format_instant(event.time_us), format_instant(event.arrival_us)
    if event.late == "from_future":
        return f"time {when} is more than 5 minutes ahead of its arrival at {arrival}: check the proxy's clock"
    return f"time {when} is more than 35 days before its arrival at {arrival}"
