"""A key over time: its leak scores by the hour, and what its provider reports against what was metered."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import leak_scores, residuals, rollups
from pipeline.watch import KeyHour
from schemas.instants import DAY_US
from schemas.tokens import TOKEN_CLASSES

_s, _x, _r = leak_scores.c, residuals.c, rollups.c

KEPT_US: Final = 90 * DAY_US
"""Scores are for looking at; what is older says nothing about how a key is used now."""
CHUNK: Final = 500
"""Names in one statement, well below SQLite's 32,766 bound values."""
REPORT: Final = "report"
WATCH: Final = "watch"


class Score(NamedTuple):
    """The highest score of an hour, in thousandths of the key's own record, and whose use it was."""

    hour_us: int
    tenant: str
    score_milli: int


class Residual(NamedTuple):
    """Tokens in [start_us, end_us): by the provider's report, and as metered."""

    start_us: int
    end_us: int
    reported: int
    metered: int
    kind: str = REPORT

    @property
    def difference(self) -> int:
        """reported − metered."""
        return self.reported - self.metered


def keep_scores(connection: Connection, peaks: Mapping[KeyHour, int]) -> None:
    """Raise the hours' scores to these; what is older than KEPT_US before a key's newest goes."""
    lite = is_sqlite(connection)
    statement = (sqlite if lite else postgresql).insert(leak_scores)
    later = func.max if lite else func.greatest
    statement = statement.on_conflict_do_update(
        index_elements=["key", "hour_us", "tenant"],
        set_={"score_milli": later(_s.score_milli, statement.excluded.score_milli)},
    )
    rows = [{**hour._asdict(), "score_milli": score} for hour, score in sorted(peaks.items())]
    if not rows:
        return
    connection.execute(statement, rows)
    newest: dict[str, int] = {}
    for hour in peaks:
        newest[hour.key] = max(hour.hour_us, newest.get(hour.key, 0))
    for key, hour_us in sorted(newest.items()):
        connection.execute(delete(leak_scores).where(_s.key == key, _s.hour_us < hour_us - KEPT_US))


def scores(connection: Connection, key: str, since_us: int, tenants_max: int) -> list[Score]:
    """The key's scores from an instant on, in order of hours and tenants: of the tenants with the highest ones, and
    each hour's highest of all the others under an empty name."""
    chosen = (_s.key == key, _s.hour_us >= since_us)
    highest = func.max(_s.score_milli)
    top = select(_s.tenant).where(*chosen).group_by(_s.tenant).order_by(highest.desc(), _s.tenant).limit(tenants_max)
    names = list(connection.execute(top).scalars())
    own = select(_s.hour_us, _s.tenant, _s.score_milli).where(*chosen, _s.tenant.in_(names))
    rest = select(_s.hour_us, highest).where(*chosen, _s.tenant.not_in(names)).group_by(_s.hour_us)
    found = [Score(*row) for row in connection.execute(own)]
    found += [Score(int(hour_us), "", int(score)) for hour_us, score in connection.execute(rest)]
    return sorted(found)


def highest_scores(connection: Connection, keys: Sequence[str], since_us: int) -> dict[str, int]:
    """Each key's highest score from an instant on, in thousandths; keys without one are left out."""
    found: dict[str, int] = {}
    for first in range(0, len(keys), CHUNK):
        chosen = _s.key.in_(keys[first : first + CHUNK])
        query = select(_s.key, func.max(_s.score_milli)).where(chosen, _s.hour_us >= since_us).group_by(_s.key)
        found |= {key: int(score) for key, score in connection.execute(query)}
    return found


def keep_residuals(connection: Connection, key: str, found: Iterable[Residual]) -> None:
    """A report's rows take the place of those before them; a watch's are added to what its hour has."""
    for row in found:
        insert = (sqlite if is_sqlite(connection) else postgresql).insert(residuals)
        statement = insert.values(key=key, **row._asdict())
        new: dict[str, Any] = {"end_us": row.end_us, "reported": row.reported, "metered": row.metered}
        if row.kind == WATCH:
            new |= {"reported": _x.reported + row.reported, "metered": _x.metered + row.metered}
        connection.execute(statement.on_conflict_do_update(index_elements=["key", "kind", "start_us"], set_=new))


def residuals_of(connection: Connection, key: str, since_us: int) -> list[Residual]:
    """The key's residuals from an instant on, in order of time; of a time that both kinds know, each."""
    query = select(_x.start_us, _x.end_us, _x.reported, _x.metered, _x.kind).where(
        _x.key == key, _x.start_us >= since_us
    )
    return [Residual(*row) for row in connection.execute(query.order_by(_x.start_us, _x.kind))]


def key_tokens(
    connection: Connection, tenants: Sequence[str] | None, start_us: int, end_us: int, width_us: int
) -> dict[tuple[str, int], tuple[int, int]]:
    """(key, start of a bucket) to tokens and requests in [start_us, end_us). Buckets are counted from start_us and are
    of whole quarters of an hour. tenants: those whose use counts, so that their part of the index is read and no other;
    None for all there ever were."""
    tokens = sum((rollups.c[name] for name in TOKEN_CLASSES[1:]), rollups.c[TOKEN_CLASSES[0]])
    bucket = _r.quarter_us - (_r.quarter_us - start_us) % width_us
    query = (
        select(_r.key, bucket, func.sum(tokens), func.sum(_r.requests))
        .where(_r.quarter_us >= start_us, _r.quarter_us < end_us)
        .group_by(_r.key, bucket)
    )
    parts = [query]
    if tenants is not None:
        starts = range(0, len(tenants), CHUNK)
        parts = [query.where(_r.tenant.in_(tenants[first : first + CHUNK])) for first in starts]
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for part in parts:
        for key, at_us, count, requests in connection.execute(part):
            before = found.get((key, int(at_us)), (0, 0))
            found[key, int(at_us)] = (before[0] + int(count), before[1] + int(requests))
    return found
