"""Questions to a broker that can go away while it is asked."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from aiokafka.errors import KafkaConnectionError

P = ParamSpec("P")
T = TypeVar("T")


def broker_question(ask: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """KafkaConnectionError where asking ends as cancelled and nobody cancelled it.

    aiokafka cancels parts of its own when its broker is killed, and `stop` can let that out. A cancellation passes for
    no error: it goes by every `except Exception`, and ends the thread of who asked.
    """

    @wraps(ask)
    async def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await ask(*args, **kwargs)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise KafkaConnectionError("the broker went away while it was asked") from None

    return asked
