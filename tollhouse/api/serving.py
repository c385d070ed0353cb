"""How connections are served: the API's own certificate, and bounds on what somebody can hold open without asking."""

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from tollhouse.errors import UserError
from tollhouse.settings import Settings, check_private


def server_options(settings: Settings) -> dict[str, Any]:
    """Arguments of uvicorn.Config. UserError for a certificate or key that cannot be used."""
    options: dict[str, Any] = {"http": bounded(settings.request_timeout_s, settings.connections_max)}
    if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
        raise UserError("tls_cert_file and tls_key_file go together: set both or neither", code=2)
    if settings.tls_cert_file:
        context = _server_context(Path(settings.tls_cert_file), Path(settings.tls_key_file))
        options["ssl_context_factory"] = lambda _config, _default: context
    return options


def _server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    check_private(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise UserError(f"{certificate} and {key}: not a certificate and its key ({reason})") from None
    return context


def bounded(head_s: float, connections_max: int) -> type[H11Protocol]:
    """uvicorn's HTTP with two bounds that it lacks.

    head_s: a request's line and headers are here within it, from the connection or from their first byte; otherwise a
    few bytes a minute would hold a connection for ever. connections_max: one more is closed at once, and those that
    are there go on (uvicorn's own limit would refuse every request, also of those who came first).
    """

    class Bounded(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn narrows it in the same way
            super().connection_made(transport)
            if len(self.connections) > connections_max:
                transport.abort()
                return
            self._await_head()

        def data_received(self, data: bytes) -> None:
            before = cast("RequestResponseCycle | None", self.cycle)  # uvicorn starts with None, and says nothing of it
            idle = before is None or before.response_complete
            super().data_received(data)
            if self.cycle is not before:
                self._head_is_here()
            elif self._late is None and idle:
                self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_is_here()
            super().connection_lost(exc)

        def _await_head(self) -> None:
            self._late = self.loop.call_later(head_s, self.transport.close)

        def _head_is_here(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Bounded
