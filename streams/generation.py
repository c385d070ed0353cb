"""Which generation of the events' topic this is: asked of the broker, entered in the ledger.

See pipeline.ledger.generations for what a generation is. A worker asks before it reads, and looks now and then whether
the topic is still the one that it began with: one that is deleted and made anew, or a broker in memory that was
started again, would otherwise put new messages at the places of old ones.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from pipeline.ledger import Ledger
from pipeline.ledger.generations import Generation, enter

REQUEST_TIMEOUT_MS: Final = 5_000
BOOTSTRAP_TIMEOUT_MS: Final = 3_000
_OK: Final = 0


class NoTopicId(RuntimeError):
    """The broker does not tell the topic's id now; one line that says why."""


class _Admin(KafkaAdminClient):  # type: ignore[misc]  # kafka-python has no types
    """Ends what it began when nobody answers: kafka-python 3.0 leaves a thread behind then, at each question."""

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except BaseException:
            if (net := getattr(self, "_net", None)) is not None:
                net.stop()
            raise


def topic_id(bootstrap: str, topic: str, client: Mapping[str, Any] | None = None) -> str:
    """The id that the broker gave the topic when it was made (Kafka 2.8 and later, and the embedded broker)."""
    try:
        admin = _Admin(
            bootstrap_servers=bootstrap,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
            **(client or {}),
        )
    except (KafkaError, OSError) as error:
        raise NoTopicId(f"no broker answers at {bootstrap}: start it or correct TOLLHOUSE_BROKER") from error
    try:
        (described,) = admin.describe_topics([topic])
    except (KafkaError, OSError, ValueError) as error:
        raise NoTopicId(f"the broker at {bootstrap} does not describe topic {topic}: {error}") from error
    finally:
        admin.close()
    found = described.get("topic_id") if described["error_code"] == _OK else None
    if not found:
        raise NoTopicId(f"the broker at {bootstrap} has no topic {topic}, or gives topics no ids (Kafka 2.8 does)")
    return str(found)


def generation_of(
    bootstrap: str, topic: str, ledger: Ledger, now_us: Callable[[], int], client: Mapping[str, Any] | None = None
) -> Generation:
    """The topic as it is now, entered in the ledger; NoTopicId, LedgerUnavailable."""
    found = topic_id(bootstrap, topic, client)
    return ledger.write(lambda connection: enter(connection, topic, found, now_us()))
