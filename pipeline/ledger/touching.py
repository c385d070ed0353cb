"""Which plain events of a batch touch nothing else, and everything in the ledger that the rest of it can touch."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter

from sqlalchemy import Connection

from pipeline.fold import Book, Entry
from pipeline.ledger.rows import find_held, find_identities, find_places, find_upstream
from pipeline.plain import Batch, Plain
from pipeline.screen import Identity, Refused, Screened


def part(
    connection: Connection, book: Book, batch: Batch, marks: Mapping[tuple[str, int], int], tenants: Collection[str]
) -> tuple[list[Plain], list[Screened | Refused], int]:
    """The plain events that touch nothing else; the rest in its order, and the book holds all that the rest can touch;
    and how many were read again and are in the ledger as they are here, so that there is nothing more to do.

    A plain event touches another one if both have its identity or its upstream id, if a correction names it, or if its
    message was taken before. Then it is taken like any other event; by itself it only adds.

    tenants: whose events the batch has.
    """
    odd = [item for _, item, _ in batch.odd if isinstance(item, Screened)]
    all_new = all(message.offset >= marks[message.topic, message.partition] for message, _ in batch.messages)
    new, known = (batch.plain, 0) if all_new else _unread(connection, batch, marks)
    alone, touching = _apart(new, odd, marks, all_new=all_new)
    _load(connection, book, alone, [*odd, *(batch.again(event) for event in touching)], tenants)
    plain: list[Plain] = []
    if not book.entries and not book.waiting and not book.upstream:
        plain, alone = alone, []
    for event in alone:
        named = event.identity in book.entries or event.identity in book.waiting
        if named or event.upstream in book.upstream:
            touching.append(event)
        else:
            plain.append(event)
    rest = [(at, item) for at, item, _ in batch.odd]
    rest += [(event.at, batch.again(event)) for event in touching]
    return plain, [item for _, item in sorted(rest, key=itemgetter(0))], known


def _unread(connection: Connection, batch: Batch, marks: Mapping[tuple[str, int], int]) -> tuple[list[Plain], int]:
    """The plain events without those that were read before and are in the ledger from the same place with the same
    content; how many those are. After a rebalance they can be most of a batch."""
    again = [e for e in batch.plain if e.message.offset < marks[e.message.topic, e.message.partition]]
    places = find_places(connection, [event.identity for event in again])
    known = set()
    for event in again:
        message = event.message
        place = (event.digest, message.topic, message.partition, message.offset, event.item)
        if places.get(event.identity) == place:
            known.add(event.at)
    return [event for event in batch.plain if event.at not in known], len(known)


def _apart(
    events: Sequence[Plain], odd: Sequence[Screened], marks: Mapping[tuple[str, int], int], *, all_new: bool
) -> tuple[list[Plain], list[Plain]]:
    """Plain events that no other event of the batch touches, and those that one does.

    all_new: none of the messages was taken before.
    """
    named: set[object] = {e.identity for e in odd} | {e.target for e in odd}
    named |= {_upstream(e) for e in odd if e.upstream_id is not None}
    upstream = [event.upstream for event in events if event.upstream is not None]
    for names in ([event.identity for event in events], upstream):
        if len(set(names)) < len(names):
            named |= {name for name, n in Counter(names).items() if n > 1}
    named.discard(None)  # no target
    if not named and all_new:
        return list(events), []
    alone, touching = [], []
    for event in events:
        message = event.message
        if (
            event.identity in named
            or event.upstream in named
            or message.offset < marks[message.topic, message.partition]
        ):
            touching.append(event)
        else:
            alone.append(event)
    return alone, touching


def _load(
    connection: Connection,
    book: Book,
    alone: Sequence[Plain],
    screened: Sequence[Screened],
    tenants: Collection[str],
) -> None:
    """Everything the batch can touch: its identities, what they correct, what corrects those, what waits for them."""
    seen: set[Identity] = set()
    wanted = {event.identity for event in screened} | {event.target for event in screened if event.target is not None}
    upstream = {_upstream(e) for e in screened if e.upstream_id is not None}
    triples = sorted(upstream) + [event.upstream for event in alone if event.upstream is not None]
    book.load(find_upstream(connection, triples))
    held = find_held(connection, tenants)
    book.load(held)
    book.load(find_upstream(connection, sorted({_upstream(e.event) for e in held if e.event.upstream_id is not None})))
    wanted |= _neighbours(book.entries.values())
    names = sorted(wanted) + [event.identity for event in alone]
    while names:
        seen |= wanted
        book.load(find_identities(connection, names))
        wanted = _neighbours(book.entries.values()) - seen
        names = sorted(wanted)


def _upstream(event: Screened) -> tuple[str, str, str]:
    return event.identity.tenant, event.provider, event.upstream_id or ""


def _neighbours(entries: Iterable[Entry]) -> set[Identity]:
    found: set[Identity] = set()
    for entry in list(entries):
        if entry.event.target is not None:
            found.add(entry.event.target)
        if entry.replaced_by is not None:
            found.add(Identity(entry.event.identity.tenant, *entry.replaced_by))
    return found
