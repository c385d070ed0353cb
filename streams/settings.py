"""Settings of the worker, as values; where they come from is the front door's business."""

from dataclasses import dataclass
from pathlib import Path

from streams.transport import PLAINTEXT, BrokerSecurity


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """broker: host:port[,host:port]. partitions: of usage.events and what goes with it. data_dir: Faust's own files.
    topic_prefix: before every topic's name, for several installations on one cluster (each with an app_id of its own).
    security: how the broker is reached.

    The two timeouts are Faust's; 6 s lets a group on the embedded broker form in about 3 s (60 s would take 30) and
    still outlasts any pause of the event loop here, since the ledger works in a thread of its own.
    """

    broker: str
    data_dir: Path
    app_id: str = "tollhouse"
    topic_prefix: str = ""
    partitions: int = 4
    session_timeout_s: float = 6.0
    rebalance_timeout_s: float = 6.0
    commit_interval_s: float = 0.5
    security: BrokerSecurity = PLAINTEXT
