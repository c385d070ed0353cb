"""Leak detection: the maths that finds a leaked key by its behaviour, and a pooled key by subtraction. No I/O.

`KeyDetector` judges the minutes of one key, `PoolDetector` the provider's report of a pooled key against what was
metered; `detect` drives both over recorded usage.
"""

from pipeline.leaks.evidence import PAGE, TICKET
from pipeline.leaks.findings import LEAK, RESIDUAL, Finding
from pipeline.leaks.key import KeyDetector, Part
from pipeline.leaks.pool import PoolDetector, PoolSettings
from pipeline.leaks.replay import MinuteRow, ProviderRow, detect
from pipeline.leaks.settings import DetectorSettings

__all__ = [
    "LEAK",
    "PAGE",
    "RESIDUAL",
    "TICKET",
    "DetectorSettings",
    "Finding",
    "KeyDetector",
    "MinuteRow",
    "Part",
    "PoolDetector",
    "PoolSettings",
    "ProviderRow",
    "detect",
]
