"""A route without machinery between request and function, for the one that every call of every tenant waits for."""

from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute


class Direct(APIRoute):
    """The function takes the request and gives the response: FastAPI describes it in the OpenAPI document, and is not
    in its way. Its other parameters are for the description only, and have defaults."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        return cast("Callable[[Request], Coroutine[Any, Any, Response]]", self.endpoint)
