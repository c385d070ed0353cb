"""Usage events from LiteLLM, in its SDK and in its proxy server.

SDK::

    litellm.callbacks = [TollhouseLogger(publisher, keys={"openai": "openai-pool-1"})]
    litellm.completion(model="openai/gpt-5-mini", messages=[…], metadata={"tollhouse_tenant": "acme"})

Proxy server, `config.yaml`, with the settings in the environment (see `LoggerSettings.from_environment`)::

    litellm_settings: {callbacks: tollhouse_client.litellm_callback.logger}

LiteLLM calls the synchronous and the asynchronous hook of some calls, retries under one call id, and lets a client
choose that id. So an event has an id of its own, and hooks of one call are told by call, response and start together.
"""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

import litellm
from litellm.integrations.custom_logger import CustomLogger

from tollhouse_client.errors import ClientError, SpoolFullError
from tollhouse_client.litellm_reading import UNASSIGNED, LoggerSettings, read_call
from tollhouse_client.publisher import UsagePublisher

__all__ = ["CallRefusedError", "LoggerSettings", "TollhouseLogger", "logger"]

SEEN_CALLS_MAX: Final = 10_000
"""Hooks of one call come within seconds of one another; this many calls are in between at most."""
BACKLOG_MAX: Final = 1_000
"""Events of calls that were on their way when the spool became full; new calls are refused from then on."""

_log = logging.getLogger("tollhouse_client")


class CallRefusedError(SpoolFullError):
    """A call that could not be metered; LiteLLM's proxy answers with this status."""

    status_code = 503


class TollhouseLogger(CustomLogger):
    """Publishes one event for each call that LiteLLM finished, failed, or saw its client abandon.

    `publisher`, or a function that opens one at the first call (after a server has forked its workers). `tenant` is
    whom to charge where a call names nobody; `keys` names our key for each LiteLLM provider. Never raises into
    LiteLLM, but for `async_pre_call_hook`: the proxy refuses new calls while the spool is full.
    """

    def __init__(
        self,
        publisher: UsagePublisher | Callable[[], UsagePublisher],
        *,
        tenant: str | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._open = publisher if callable(publisher) else lambda: publisher
        self._publisher: UsagePublisher | None = None
        self._settings = LoggerSettings(tenant=tenant, keys=dict(keys or {}))
        self._seen: OrderedDict[tuple[Any, ...], None] = OrderedDict()
        self._backlog: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls) -> "TollhouseLogger":
        """As `LoggerSettings.from_environment` says; the environment is read at the first call."""
        made = cls(lambda: _settle_settings(made))
        return made

    # --- LiteLLM's hooks ----------------------------------------------------------------------------------------

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call ended well, without an event loop."""
        self._record(kwargs, response_obj, "ok")

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call ended well, or LiteLLM's proxy settled a stream whose client went away."""
        self._record(kwargs, response_obj, "ok")

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call failed, without an event loop."""
        self._record(kwargs, None, "error")

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call failed."""
        self._record(kwargs, None, "error")

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> None:
        """Refuse what could not be metered: the spool is full, because the broker was away too long."""
        if self._backlog and not self._empty_backlog():
            raise CallRefusedError("usage cannot be recorded at present, so no calls are taken; try again later")

    # --- streams that the caller of the SDK leaves --------------------------------------------------------------

    def watch(self, stream: Any) -> Iterator[Any]:
        """The chunks of a LiteLLM stream; left before its end, it is recorded as aborted, with estimated usage.

        LiteLLM itself calls no hook for a stream that its caller abandons (its proxy server does).
        """
        try:
            for chunk in stream:  # noqa: UP028  the generator must know that it was closed
                yield chunk
        except GeneratorExit:
            self._record_left(stream)
            raise

    async def awatch(self, stream: Any) -> AsyncIterator[Any]:
        """`watch` for an asynchronous stream; also records the cancellation of the task that reads it."""
        finished = False
        try:
            async for chunk in stream:
                yield chunk
            finished = True
        except Exception:
            finished = True  # LiteLLM reports a failure by its own hook
            raise
        finally:
            if not finished:
                self._record_left(stream)

    def _record_left(self, stream: Any) -> None:
        chunks, details = getattr(stream, "chunks", None), getattr(stream, "logging_obj", None)
        if not chunks or details is None:
            return  # nothing came, so nothing can be estimated
        try:
            partial = litellm.stream_chunk_builder(chunks, messages=getattr(stream, "messages", None))
        except Exception:  # noqa: BLE001  whatever LiteLLM raises, the stream is over
            _log.exception("the usage of an abandoned stream cannot be estimated")
            return
        self._record(details.model_call_details, partial, "aborted")

    # --- recording ----------------------------------------------------------------------------------------------

    def _record(self, kwargs: Mapping[str, Any], response: Any, status: str) -> None:
        try:
            mark = (
                kwargs.get("litellm_call_id"),
                getattr(response, "id", None),
                str(kwargs.get("start_time")),
                status == "error",
            )
            with self._lock:
                if mark in self._seen:
                    return
                self._seen[mark] = None
                if len(self._seen) > SEEN_CALLS_MAX:
                    self._seen.popitem(last=False)
            publisher = self._opened()
            event = read_call(
                kwargs,
                response,
                status,
                source=publisher.source,
                settings=self._settings,
                estimate=lambda: _count_text(kwargs, response),
            )
            if event is None:
                return
            if event["subject"] == UNASSIGNED:
                _log.error("call %s names no tenant; its usage goes to the rejected list", mark[0])
            self._publish(publisher, event)
        except ClientError as error:
            _log.error("the usage of a call was not recorded: %s", error)
        except Exception:  # noqa: BLE001  a fault of ours must not become a fault of the call
            _log.exception("the usage of a call was not recorded")

    def _publish(self, publisher: UsagePublisher, event: dict[str, Any]) -> None:
        try:
            publisher.publish(event)
        except SpoolFullError:
            if len(self._backlog) >= BACKLOG_MAX:
                raise
            self._backlog.append(event)

    def _empty_backlog(self) -> bool:
        """Whether the events that found the spool full are in it now."""
        publisher = self._opened()
        with self._lock:
            while self._backlog:
                try:
                    publisher.publish(self._backlog[0])
                except SpoolFullError:
                    return False
                self._backlog.popleft()
        return True

    def _opened(self) -> UsagePublisher:
        with self._lock:
            if self._publisher is None:
                self._publisher = self._open()
            return self._publisher

    def close(self, timeout_s: float = 10.0) -> int:
        """Close the publisher, if a call opened it; the number of events left in the spool."""
        return self._publisher.close(timeout_s) if self._publisher is not None else 0


def _count_text(kwargs: Mapping[str, Any], response: Any) -> dict[str, int]:
    """A chat usage counted from the text, with LiteLLM's tokenizer for the model."""
    model = str(kwargs.get("model") or "")
    said: list[str] = []
    for choice in getattr(response, "choices", None) or ():
        message = getattr(choice, "message", None)
        said.append(getattr(message, "content", None) or "")
        said += [call.function.arguments or "" for call in getattr(message, "tool_calls", None) or ()]
    messages = kwargs.get("messages")
    prompt = litellm.token_counter(model=model, messages=messages) if isinstance(messages, list) else 0
    completion = litellm.token_counter(model=model, text="".join(said), count_response_tokens=True)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _settle_settings(made: TollhouseLogger) -> UsagePublisher:
    made._settings = LoggerSettings.from_environment()  # noqa: SLF001  the other half of from_environment
    return made._settings.open_publisher()  # noqa: SLF001


logger = TollhouseLogger.from_environment()
"""For the proxy server's configuration."""
