"""The ASGI application: every route, and what holds for all of them."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.ledger import Ledger
from tollhouse.api import (
    alerts,
    authorize,
    events,
    health,
    invoices,
    keys,
    leases,
    own_keys,
    problems,
    rejected,
    reservations,
    usage,
    webhook,
)
from tollhouse.api.bodies import BodyLimit
from tollhouse.api.state import Api, Publisher
from tollhouse.dashboard.routers import ROUTERS
from tollhouse.settings import Settings

VERSION: Final = "1.0.0"
"""Of the HTTP interface: it grows, and what is there keeps working."""
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # no-referrer would blank the Origin of our own forms
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HTTPS_ONLY: Final = "max-age=31536000"


def make_app(
    settings: Settings, ledger: Ledger, now_us: Callable[[], int], publisher: Publisher | None = None
) -> FastAPI:
    """The API with the dashboard. publisher: where events go; without one, to settings.broker by way of a spool."""
    api = Api(settings, ledger, now_us, publisher)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(api.start)
        yield
        await run_in_threadpool(api.stop)

    app = FastAPI(
        title="Tollhouse",
        version=VERSION,
        summary="Usage metering and billing for LLM proxies",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.api = api
    problems.install(app)
    api_parts = (
        authorize,
        reservations,
        leases,
        events,
        usage,
        invoices,
        alerts,
        own_keys,
        keys,
        rejected,
        webhook,
        health,
    )
    for router in (*(part.router for part in api_parts), *ROUTERS):
        app.include_router(router)

    app.add_middleware(Around, api=api)
    app.add_middleware(BodyLimit, timeout_s=settings.request_timeout_s)
    return app


_METHODS: Final = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")


class Around:
    """ASGI: headers that hold for every answer, and the figures of each request."""

    def __init__(self, app: ASGIApp, api: Api) -> None:
        self.app, self.api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":  # our own certificate; a proxy in front says it by itself
                    headers.setdefault("Strict-Transport-Security", _HTTPS_ONLY)
            await send(message)

        try:
            await self.app(scope, receive, dressed)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.api.metrics.requests.labels(route, method, str(status)).inc()
            self.api.metrics.seconds.labels(route).observe(time.perf_counter() - started)
