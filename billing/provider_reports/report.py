"""What every connector offers."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from pipeline.reconcile.rows import CostRow, ReportRow


class Connector(Protocol):
    """A provider's reports. has: classes that it tells apart. settle_us: after which a bucket is taken as final.

    key_variable: environment variable of the admin key. width_s: of the finest buckets; costs come by day.
    """

    has: ClassVar[tuple[str, ...]]
    settle_us: ClassVar[int]
    key_variable: ClassVar[str]
    costs_by_key: ClassVar[bool]
    finest_s: ClassVar[int]

    def usage(self, start_us: int, end_us: int, width_s: int, keys: Sequence[str]) -> list[ReportRow]:
        """Usage in [start_us, end_us), in order of time. keys: the provider's ids, where it must be asked by key."""

    def costs(self, start_us: int, end_us: int) -> list[CostRow]:
        """The provider's bill for the days that the period touches; empty where it has none to ask for."""
