"""Topics that were made anew: each time is a generation of its own, told apart by the id that its broker gave it.

A topic that is deleted and made again, or whose broker kept its log in memory and was started again, begins its
offsets at 0. The ledger keeps the first generation under the topic's own name and later ones under `name~1`, `name~2`
(Kafka allows no `~` in a name): so (topic, partition, offset) is one message for ever, in events, rejections, intake.
"""

from typing import Final, NamedTuple

from sqlalchemy import Connection, func, select, text

from pipeline.ledger.engine import is_sqlite
from pipeline.ledger.tables import intake, topic_generations

MARK: Final = "~"

_g = topic_generations.c


class Generation(NamedTuple):
    """The `number`th time (from 0) that the topic was made; topic_id is the broker's."""

    topic: str
    number: int
    topic_id: str

    @property
    def name(self) -> str:
        """The topic's name in the ledger."""
        return f"{self.topic}{MARK}{self.number}" if self.number else self.topic


def split_name(name: str) -> tuple[str, int]:
    """The topic and the generation's number of a name in the ledger."""
    topic, mark, number = name.rpartition(MARK)
    return (topic, int(number)) if mark else (name, 0)


def enter(connection: Connection, topic: str, topic_id: str, now_us: int) -> Generation:
    """The generation of the topic with this id, entered if it is new; processes that start at once take turns."""
    if not is_sqlite(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('tollhouse generations'))"))
    known = connection.execute(select(_g.number).where(_g.topic == topic, _g.topic_id == topic_id)).scalar()
    if known is not None:
        return Generation(topic, int(known), topic_id)
    last = connection.execute(select(func.max(_g.number)).where(_g.topic == topic)).scalar()
    made = Generation(topic, 0 if last is None else int(last) + 1, topic_id)
    connection.execute(
        topic_generations.insert().values(topic=topic, number=made.number, topic_id=topic_id, first_us=now_us)
    )
    return made


def newest(connection: Connection, topic: str) -> Generation:
    """The generation that was entered last; number 0 without an id before any was."""
    query = select(_g.number, _g.topic_id).where(_g.topic == topic).order_by(_g.number.desc()).limit(1)
    row = connection.execute(query).first()
    return Generation(topic, 0, "") if row is None else Generation(topic, int(row.number), row.topic_id)


def next_offset(connection: Connection, name: str, partition: int) -> int:
    """The offset up to which the ledger has taken the partition (of a topic by its name in the ledger)."""
    query = select(intake.c.next_offset).where(intake.c.topic == name, intake.c.partition == partition)
    return int(connection.execute(query).scalar() or 0)
