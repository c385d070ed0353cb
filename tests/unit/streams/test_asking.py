"""A broker that goes away while it is asked is an error like others, and somebody's own cancellation still is one."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError

from streams.asking import broker_question
from streams.evidence import read_message
from streams.offsets import end_offsets


@pytest.mark.parametrize("ask", [lambda: end_offsets("b:1", "t"), lambda: read_message("b:1", "t", 0, 0)])
def test_a_client_that_cancels_itself_as_it_stops(ask: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found: it came out of `stop`, after the question itself had failed, and ended the thread that asked."""

    async def fails(_consumer: AIOKafkaConsumer) -> None:
        raise KafkaConnectionError("killed")

    async def stops(_consumer: AIOKafkaConsumer) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(AIOKafkaConsumer, "start", fails)
    monkeypatch.setattr(AIOKafkaConsumer, "stop", stops)

    async def question() -> None:
        await ask()  # type: ignore[operator]

    with pytest.raises(KafkaConnectionError, match="went away"):
        asyncio.run(question())


def test_who_is_cancelled_is_cancelled() -> None:
    @broker_question
    async def waits() -> None:
        await asyncio.sleep(60)

    async def story() -> None:
        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
