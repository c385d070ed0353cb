"""Entries to rows and back, and the few statements of the hot path, on both databases.

SQLite takes many rows a statement, PostgreSQL by COPY and by arrays (unnest): measured 5 to 20 times faster than
statement by statement.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, LargeBinary, SmallInteger, Table

from pipeline.fold import HELD, Entry
from pipeline.ledger.engine import driver, is_sqlite
from pipeline.ledger.tables import events
from pipeline.screen import Identity, Screened
from schemas.tokens import CLASSES
from schemas.usage_event import Evidence

EVENT_COLUMNS: Final = tuple(column.name for column in events.columns)
_CLASSES_AT: Final = EVENT_COLUMNS.index(CLASSES[0])


def row_of(entry: Entry) -> tuple[Any, ...]:
    """The entry in the order of EVENT_COLUMNS."""
    e = entry.event
    by = entry.by or (None, None)
    replaced = entry.replaced_by or (None, None)
    target = e.target or (None, None, None)
    return (
        *e.identity,
        e.digest,
        e.kind,
        entry.state,
        entry.time_us,
        e.time_us,
        e.arrival_us,
        *e.evidence,
        e.key,
        e.provider,
        e.api,
        e.model,
        e.service_tier,
        e.status,
        int(e.cache_hit),
        int(e.estimated),
        int(e.pooled),
        e.size_band,
        *e.classes,
        e.requests,
        e.upstream_id,
        e.reservation,
        e.user,
        e.network,
        e.agent,
        e.labels,
        target[1],
        target[2],
        e.reason,
        by[0],
        by[1],
        replaced[0],
        replaced[1],
        entry.redelivered,
        e.raw if entry.state == HELD else None,
    )


def entry_of(row: Sequence[Any]) -> Entry:
    """The entry of a row in the order of EVENT_COLUMNS."""
    c = dict(zip(EVENT_COLUMNS, row, strict=True))
    target = Identity(c["tenant"], c["target_source"], c["target_id"]) if c["target_id"] is not None else None
    event = Screened(
        identity=Identity(c["tenant"], c["source"], c["id"]),
        digest=bytes(c["digest"]),
        kind=c["kind"],
        time_us=c["sent_us"],
        arrival_us=c["arrival_us"],
        evidence=Evidence(c["topic"], c["partition"], c["offset"], c["item"]),
        key=c["key"],
        provider=c["provider"],
        api=c["api"],
        model=c["model"],
        service_tier=c["service_tier"],
        status=c["status"],
        cache_hit=bool(c["cache_hit"]),
        estimated=bool(c["estimated"]),
        pooled=bool(c["pooled"]),
        size_band=c["size_band"],
        classes=tuple(row[_CLASSES_AT : _CLASSES_AT + len(CLASSES)]),
        requests=c["requests"],
        upstream_id=c["upstream_id"],
        reservation=c["reservation"],
        user=c["user"],
        network=c["network"],
        agent=c["agent"],
        labels=c["labels"],
        target=target,
        reason=c["reason"],
        late="",
        raw=bytes(c["raw"] or b""),
    )
    by = (c["by_source"], c["by_id"]) if c["by_id"] is not None else None
    replaced = (c["replaced_source"], c["replaced_id"]) if c["replaced_id"] is not None else None
    return Entry(event, c["state"], c["time_us"], by, replaced, c["redelivered"])


_SELECT: Final = ", ".join(f'e."{name}"' for name in EVENT_COLUMNS)


def find_identities(connection: Connection, identities: Sequence[Identity]) -> list[Entry]:
    """The entries with these identities, as far as there are any."""
    return _find(connection, identities, ("tenant", "source", "id"), index=None)


def find_upstream(connection: Connection, triples: Sequence[tuple[str, str, str]]) -> list[Entry]:
    """The entries with these (tenant, provider, upstream id)."""
    return _find(connection, triples, ("tenant", "provider", "upstream_id"), index="events_by_upstream")


def find_places(
    connection: Connection, identities: Sequence[Identity]
) -> dict[Identity, tuple[bytes, str, int, int, int]]:
    """Digest, topic, partition, offset and item of the entries with these identities, as far as there are any."""
    rows = _find_rows(connection, identities, ("tenant", "source", "id"), None, _PLACE)
    return {Identity(*row[:3]): (bytes(row[3]), *row[4:]) for row in rows}


_PLACE: Final = ", ".join(
    f'e."{name}"' for name in ("tenant", "source", "id", "digest", "topic", "partition", "offset", "item")
)


def _find(
    connection: Connection, keys: Sequence[tuple[str, ...]], columns: tuple[str, ...], index: str | None
) -> list[Entry]:
    return [entry_of(row) for row in _find_rows(connection, keys, columns, index, _SELECT)]


def _find_rows(
    connection: Connection, keys: Sequence[tuple[str, ...]], columns: tuple[str, ...], index: str | None, select: str
) -> list[Any]:
    if not keys:
        return []
    on = " AND ".join(f'e."{name}" = s.{"abc"[i]}' for i, name in enumerate(columns))
    raw = driver(connection)
    if is_sqlite(connection):
        cursor = raw.cursor()
        cursor.execute("CREATE TEMP TABLE IF NOT EXISTS sought (a TEXT, b TEXT, c TEXT)")
        cursor.execute("DELETE FROM sought")
        insert_many(connection, "INSERT INTO sought VALUES", 3, keys)
        # CROSS JOIN: few keys outside, a look-up each inside. The index is named, since without statistics the planner
        # takes the primary key's first column alone and reads all of a tenant's events for each key.
        by = f"INDEXED BY {index}" if index else ""
        cursor.execute(f"SELECT {select} FROM sought s CROSS JOIN events e {by} ON {on}")
        rows: list[Any] = cursor.fetchall()
        cursor.close()
        return rows
    lists, values = zip(*(_text_list(column) for column in zip(*keys, strict=True)), strict=True)
    # OFFSET 0 keeps it one look into the index for each key. A plain join reads the whole table while that seems
    # cheaper: as long as it has less than some million rows, and again whenever its statistics are old.
    with raw.cursor() as cursor:
        cursor.execute(
            f"SELECT {select} FROM unnest({', '.join(lists)}) AS s(a, b, c) "
            f"CROSS JOIN LATERAL (SELECT * FROM events e WHERE {on} OFFSET 0) e",
            values,
        )
        found: list[Any] = cursor.fetchall()
    return found


_BETWEEN: Final = "\x1f"


def _text_list(column: Sequence[str]) -> tuple[str, str | list[str]]:
    """Texts as a parameter of PostgreSQL: one text to be cut there, which costs a tenth of an array made here; an array
    where a text is empty or holds what stands between them."""
    joined = _BETWEEN.join(column)
    if all(column) and joined.count(_BETWEEN) == len(column) - 1:
        return "string_to_array(%s, chr(31))", joined
    return "%s::text[]", list(column)


def find_held(
    connection: Connection, tenants: Iterable[str] | None = None, before_us: int | None = None
) -> list[Entry]:
    """Held entries, of some tenants, or that arrived before an instant."""
    sql, values = f"SELECT {_SELECT} FROM events e WHERE e.state = 'held'", []
    if before_us is not None:
        sql, values = sql + " AND e.arrival_us < " + ("?" if is_sqlite(connection) else "%s"), [before_us]
    cursor = driver(connection).cursor()
    cursor.execute(sql, values)
    rows = cursor.fetchall()
    cursor.close()
    wanted = None if tenants is None else set(tenants)
    return [entry_of(row) for row in rows if wanted is None or row[0] in wanted]


def insert_entries(connection: Connection, entries: Sequence[Entry]) -> None:
    """Insert new entries; IntegrityError if one of them is there already (the transaction is then tried again)."""
    insert_rows(connection, events, [row_of(entry) for entry in sorted(entries, key=lambda x: x.event.identity)])


def insert_rows(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Plain inserts in the order of the table's columns."""
    if not rows:
        return
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    if is_sqlite(connection):
        insert_many(connection, f'INSERT INTO "{table.name}" ({names}) VALUES', len(table.columns), rows)
        return
    with driver_errors(connection), driver(connection).cursor() as cursor:  # noqa: SIM117 - the copy needs the cursor
        with cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)


def add_sums(
    connection: Connection, table: Table, key: Sequence[str], sums: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Add to counters, making the rows that are missing. rows: key columns, then sums; each key once, sorted."""
    if not rows:
        return
    names = (*key, *sums)
    columns = ", ".join(f'"{name}"' for name in names)
    conflict = ", ".join(f'"{name}"' for name in key)
    adds = ", ".join(f'"{name}" = "{table.name}"."{name}" + excluded."{name}"' for name in sums)
    if is_sqlite(connection):
        after = f"ON CONFLICT ({conflict}) DO UPDATE SET {adds}"
        insert_many(connection, f'INSERT INTO "{table.name}" ({columns}) VALUES', len(names), rows, after)
        return
    arrays = [list(column) for column in zip(*rows, strict=True)]
    casts = ", ".join(f"%s::{_pg_type(table, name)}[]" for name in names)
    sql = (
        f'INSERT INTO "{table.name}" ({columns}) SELECT * FROM unnest({casts}) '
        f"ON CONFLICT ({conflict}) DO UPDATE SET {adds}"
    )
    with driver_errors(connection), driver(connection).cursor() as cursor:
        cursor.execute(sql, arrays)


def _pg_type(table: Table, name: str) -> str:
    kind = table.columns[name].type
    if isinstance(kind, SmallInteger):
        return "smallint"
    if isinstance(kind, BigInteger):
        return "bigint"
    return "bytea" if isinstance(kind, LargeBinary) else "text"


VARIABLES_MAX: Final = 32_000
"""SQLite takes 32,766 values a statement."""


def insert_many(connection: Connection, head: str, width: int, rows: Sequence[Sequence[Any]], after: str = "") -> None:
    """Many rows a statement: the driver gives the interpreter away at each statement, and gets it back late when other
    threads are busy (a worker's are), which cost half of the rate with a statement a row."""
    height = max(1, VARIABLES_MAX // width)
    one = f"({', '.join('?' * width)})"
    with driver_errors(connection):
        cursor = driver(connection).cursor()
        for start in range(0, len(rows), height):
            part = rows[start : start + height]
            cursor.execute(f"{head} {', '.join([one] * len(part))} {after}", [value for row in part for value in row])
        cursor.close()


def insert_new(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], returning: Sequence[str]
) -> list[Any]:
    """Insert the rows that are not there yet (all have the same names); these columns of those that were new.

    The text is made here: a statement of many rows is compiled by SQLAlchemy each time anew, at 300 µs a row.
    """
    if not rows:
        return []
    names = list(rows[0])
    mark = "?" if is_sqlite(connection) else "%s"
    one = f"({', '.join([mark] * len(names))})"
    columns, back = (", ".join(f'"{name}"' for name in of) for of in (names, returning))
    height = VARIABLES_MAX // len(names)
    found: list[Any] = []
    with driver_errors(connection):
        cursor = driver(connection).cursor()
        for start in range(0, len(rows), height):
            part = rows[start : start + height]
            values = ", ".join([one] * len(part))
            sql = f'INSERT INTO "{table.name}" ({columns}) VALUES {values} ON CONFLICT DO NOTHING RETURNING {back}'
            cursor.execute(sql, [row[name] for row in part for name in names])
            found += cursor.fetchall()
        cursor.close()
    return found


def _execute_many(connection: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
    with driver_errors(connection):
        cursor = driver(connection).cursor()
        cursor.executemany(sql, rows)
        cursor.close()


class driver_errors:  # noqa: N801 - reads as a statement: with driver_errors(connection)
    """Driver exceptions as SQLAlchemy's, so that one rule decides what is tried again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - only on the error path

        dbapi = self._connection.dialect.dbapi
        if error is not None and dbapi is not None and isinstance(error, dbapi.Error):
            raise DBAPIError.instance("hot path", None, error, dbapi.Error, dialect=self._connection.dialect) from error


STATE_COLUMNS: Final = (
    "state",
    "time_us",
    "by_source",
    "by_id",
    "replaced_source",
    "replaced_id",
    "redelivered",
    "raw",
)


def update_entries(connection: Connection, entries: Sequence[Entry]) -> None:
    """Write the state of entries that were in the ledger before: what a correction or a redelivery changes."""
    if not entries:
        return
    mark = "?" if is_sqlite(connection) else "%s"
    sets = ", ".join(f'"{name}" = {mark}' for name in STATE_COLUMNS)
    sql = f"UPDATE events SET {sets} WHERE tenant = {mark} AND source = {mark} AND id = {mark}"
    at = [EVENT_COLUMNS.index(name) for name in STATE_COLUMNS]
    rows = []
    for entry in sorted(entries, key=lambda x: x.event.identity):
        row = row_of(entry)
        rows.append((*(row[i] for i in at), *entry.event.identity))
    _execute_many(connection, sql, rows)


def delete_entries(connection: Connection, identities: Sequence[Identity]) -> None:
    """Take held entries out again (their wait was over)."""
    if identities:
        mark = "?" if is_sqlite(connection) else "%s"
        sql = f"DELETE FROM events WHERE tenant = {mark} AND source = {mark} AND id = {mark} AND state = 'held'"
        _execute_many(connection, sql, list(identities))
