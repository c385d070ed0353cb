"""The detectors driven over recorded usage in time order: the same classes as the stream agent's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter

from pipeline.leaks.findings import Finding
from pipeline.leaks.key import KeyDetector, Part
from pipeline.leaks.pool import DEFAULT_POOL, PoolDetector, PoolSettings
from pipeline.leaks.settings import DEFAULT, DetectorSettings

MinuteRow = tuple[int, str, str, str, str, str, int, int]
"""(minute_us, key, pool, network, model, agent, requests, tokens), in order of minute_us."""
ProviderRow = tuple[int, int, str, int]
"""(available_us, minute_us, pool, tokens), in order of available_us."""


def detect(
    minutes: Iterable[MinuteRow],
    provider: Iterable[ProviderRow],
    settings: DetectorSettings = DEFAULT,
    pool_settings: PoolSettings = DEFAULT_POOL,
) -> Iterator[Finding]:
    """Findings over recorded usage, in the order in which they could be told.

    A provider row is used from its available_us on, when every metered minute before that is in. The record does not
    say when a key was issued: keys are taken to exist since its first minute.
    """
    keys: dict[str, KeyDetector] = {}
    pools: dict[str, PoolDetector] = {}
    reports = iter(provider)
    report = next(reports, None)
    start: int | None = None
    for minute_us, rows in groupby(minutes, key=itemgetter(0)):
        if start is None:
            start = minute_us
        while report is not None and report[0] < minute_us:
            yield from _report(pools, report, pool_settings)
            report = next(reports, None)
        for (key, pool), parts in groupby(rows, key=itemgetter(1, 2)):
            batch: list[Part] = [(r[3], r[4], r[5], r[6], r[7], 0) for r in parts]
            detector = keys.get(key)
            if detector is None:
                detector = keys[key] = KeyDetector(key, settings, start)
            yield from detector.observe(minute_us, batch)
            if pool:
                _pool(pools, pool, pool_settings).meter(minute_us, sum(part[4] for part in batch))
    for late in chain([] if report is None else [report], reports):
        yield from _report(pools, late, pool_settings)


def _pool(pools: dict[str, PoolDetector], name: str, settings: PoolSettings) -> PoolDetector:
    detector = pools.get(name)
    if detector is None:
        detector = pools[name] = PoolDetector(name, settings)
    return detector


def _report(pools: dict[str, PoolDetector], row: ProviderRow, settings: PoolSettings) -> list[Finding]:
    available_us, minute_us, pool, tokens = row
    return _pool(pools, pool, settings).report(minute_us, tokens, available_us)
