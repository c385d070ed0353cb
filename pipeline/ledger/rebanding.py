"""When a catalog brings new size thresholds for a model, its rollups are made anew from the events.

A rollup keeps the band of its requests' sizes, since providers price long requests apart. The events keep the exact
token counts, so a new threshold can be applied to what is already in the ledger.
"""

from collections import defaultdict

from sqlalchemy import Connection, delete, select, update

from pipeline.context import Context
from pipeline.ledger.compaction import mark_model, take_turn
from pipeline.ledger.dropped import rollup_is_dropped
from pipeline.ledger.rows import add_sums
from pipeline.ledger.tables import ROLLUP_KEY, ROLLUP_SUMS, events, rollups
from schemas.instants import quarter_of
from schemas.tokens import CLASSES, ZERO, input_side

_e, _r = events.c, rollups.c


def reband(connection: Connection, old: Context, new: Context) -> int:
    """Apply new thresholds to the events and rollups in the ledger; how many (provider, model) changed."""
    models = connection.execute(select(_r.provider, _r.model).distinct()).all()
    changed = [
        (provider, model)
        for provider, model in models
        if old.prices.thresholds(provider, model) != new.prices.thresholds(provider, model)
    ]
    if changed:
        take_turn(connection)
    for provider, model in changed:
        mark_model(connection, provider, model)
        _reband_model(connection, provider, model, new)
    return len(changed)


def _reband_model(connection: Connection, provider: str, model: str, context: Context) -> None:
    of_model = (_e.provider == provider, _e.model == model, _e.kind == "usage")
    sums: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0] * len(ROLLUP_SUMS))
    for row in connection.execute(select(events).where(*of_model)).mappings().all():
        classes = tuple(row[name] for name in CLASSES)
        band = context.prices.size_band(provider, model, input_side(classes))
        if band != row["size_band"]:
            connection.execute(
                update(events)
                .where(_e.tenant == row["tenant"], _e.source == row["source"], _e.id == row["id"])
                .values(size_band=band)
            )
        if row["state"] != "counted":
            continue
        billable = ZERO if row["cache_hit"] or row["status"] == "error" else classes
        key = (
            row["tenant"],
            row["key"],
            provider,
            model,
            row["service_tier"],
            band,
            row["pooled"],
            quarter_of(row["time_us"]),
        )
        total = sums[key]
        for i, n in enumerate((*billable, row["requests"], int(row["status"] == "error"), 1)):
            total[i] += n
    # Of a month whose events were dropped, the rollups stay as they are: there is nothing to make them of.
    connection.execute(delete(rollups).where(_r.provider == provider, _r.model == model, ~rollup_is_dropped()))
    rows = [(*key, *total) for key, total in sorted(sums.items(), key=lambda item: str(item[0]))]
    add_sums(connection, rollups, ROLLUP_KEY, ROLLUP_SUMS, rows)
