"""LiteLLM's proxy behind the gate: tenants call it with their JWT, and each call is admitted before it goes out.

`config.yaml`::

    general_settings: {custom_auth: tollhouse_client.litellm_gate.user_api_key_auth}
    litellm_settings: {callbacks: [tollhouse_client.litellm_gate.gate_hook, tollhouse_client.litellm_callback.logger]}

In the environment: TOLLHOUSE_GATE_URL (the API), TOLLHOUSE_PROXY_TOKEN (or the name of its file in
TOLLHOUSE_PROXY_TOKEN_FILE), TOLLHOUSE_GATE_FAIL_MODE (closed, open:N), TOLLHOUSE_GATE_OUTPUT_TOKENS (what a call that
names no maximum is held to bring at most), TOLLHOUSE_GATE_TTL_S (how long a call is held, 600; a stream that goes on is
held on), and what the callback needs. A deployment names the catalog's key in
`model_info: {tollhouse_key: …}`; where several deployments serve a model, the one with the admitted key is taken.
"""

import asyncio
import hashlib
import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth

from tollhouse_client.decisions import GateDecision
from tollhouse_client.errors import GateRefusedError, GateUnavailableError
from tollhouse_client.gate import Gate
from tollhouse_client.litellm_estimate import estimate_of

__all__ = ["GateHook", "gate_hook", "user_api_key_auth"]

TTL_S: Final = 600
TOKENS_MAX: Final = 10_000
_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TRUSTED: Final = ("user_api_key_auth_metadata", "user_api_key_metadata")
"""Where the callback looks for who is charged; a client must not write there."""

_log = logging.getLogger("tollhouse_client")
_tokens: OrderedDict[str, str] = OrderedDict()
_lock = threading.Lock()


async def user_api_key_auth(request: Any, api_key: str) -> UserAPIKeyAuth:  # noqa: ARG001 - LiteLLM's signature
    """LiteLLM's custom auth: takes what has the form of a JWT; whether it counts, the gate says before the call.

    LiteLLM gets the token's digest as the name of the caller, so that the token is in no log and no callback.
    """
    token = api_key.removeprefix("Bearer ").strip()
    if len(token) > 8192 or not _FORM.fullmatch(token):
        raise HTTPException(401, {"error": "token_invalid", "detail": "send the tenant's token, not a provider's key"})
    digest = hashlib.sha256(token.encode()).hexdigest()
    with _lock:
        _tokens[digest] = token
        _tokens.move_to_end(digest)
        if len(_tokens) > TOKENS_MAX:
            _tokens.popitem(last=False)
    return UserAPIKeyAuth(api_key=digest)


class GateHook(CustomLogger):
    """Asks the gate before each call. gate: None opens one from the environment at the first call. ttl_s: how long a
    call is held; a stream that goes on is held on."""

    def __init__(self, gate: Gate | None = None, *, output_tokens: int | None = None, ttl_s: int | None = None) -> None:
        super().__init__()
        self._gate, self._output_tokens = gate, output_tokens
        self._ttl_s = ttl_s or int(os.environ.get("TOLLHOUSE_GATE_TTL_S") or TTL_S)
        self._opening = threading.Lock()

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> Any:  # noqa: ARG002
        """Admit, mark the call with tenant, reservation and key, and choose the deployment; or refuse."""
        with _lock:
            token = _tokens.get(str(user_api_key_dict.api_key))
        if token is None:
            raise HTTPException(401, {"error": "token_invalid", "detail": "this call has no tenant's token"})
        deployments = _deployments(str(data.get("model") or ""))
        model = _model(data, deployments)
        try:
            decision = await asyncio.to_thread(
                self._authorize, token, model, data, deployments[0] if deployments else {}
            )
        except (GateUnavailableError, GateRefusedError) as error:
            raise HTTPException(503, {"error": "gate_unavailable", "detail": str(error)}) from None
        if not decision.allowed:
            raise _refusal(decision)
        _mark(data, decision)
        for deployment in deployments if len(deployments) > 1 else ():
            info = deployment.get("model_info") or {}
            if info.get("tollhouse_key") == decision.key and info.get("id"):
                data["model"] = info["id"]
                break
        return data

    def _authorize(
        self, token: str, model: str, data: Mapping[str, Any], deployment: Mapping[str, Any]
    ) -> GateDecision:
        with self._opening:
            if self._gate is None:
                self._gate = _open()
            gate = self._gate
        parameters = deployment.get("litellm_params") or {}
        estimate = estimate_of(
            data,
            model,
            priced_as=str(parameters.get("model") or model),
            own_prices={**(deployment.get("model_info") or {}), **parameters},
            output_tokens=self._output_tokens,
        )
        return gate.authorize(token, model, estimate, ttl_s=self._ttl_s)

    async def async_post_call_streaming_iterator_hook(
        self,
        user_api_key_dict: Any,  # noqa: ARG002 - LiteLLM's signature
        response: Any,
        request_data: Any,
    ) -> AsyncGenerator[Any, None]:
        """Passes the stream on, and has its hold live as long as it does."""
        said = _marked(request_data)
        keeping = None
        if self._gate is not None and "tollhouse_reservation" in said:
            keeping = asyncio.create_task(self._keep(said["tollhouse_reservation"], said["tollhouse_tenant"]))
        try:
            async for chunk in response:
                yield chunk
        finally:
            if keeping is not None:
                keeping.cancel()

    async def _keep(self, reservation: str, tenant: str) -> None:
        assert self._gate is not None  # it admitted the call
        while True:
            await asyncio.sleep(self._ttl_s / 2)
            try:
                if await asyncio.to_thread(self._gate.extend, reservation, self._ttl_s, tenant=tenant) is None:
                    return  # it has ended
            except (GateUnavailableError, GateRefusedError) as error:
                _log.warning("the hold of a running stream was not extended: %s", error)


def _open() -> Gate:
    environment = os.environ
    url, token = environment.get("TOLLHOUSE_GATE_URL", ""), environment.get("TOLLHOUSE_PROXY_TOKEN", "")
    if file := environment.get("TOLLHOUSE_PROXY_TOKEN_FILE"):
        token = token or Path(file).read_text(encoding="utf-8").strip()
    if not url or not token:
        raise GateRefusedError("set TOLLHOUSE_GATE_URL and TOLLHOUSE_PROXY_TOKEN (or TOLLHOUSE_PROXY_TOKEN_FILE)")
    return Gate(url, token, fail_mode=environment.get("TOLLHOUSE_GATE_FAIL_MODE") or "closed")


def _deployments(group: str) -> list[Mapping[str, Any]]:
    """What the proxy's router has under the name that the client gave."""
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it is the running server, which imports this module

    router = proxy_server.llm_router
    return list(router.get_model_list(model_name=group) or []) if router is not None else []


def _model(data: Mapping[str, Any], deployments: list[Mapping[str, Any]]) -> str:
    """The provider's name of the model, by which the catalog knows it."""
    name = str(data.get("model") or "")
    if deployments:
        name = str((deployments[0].get("litellm_params") or {}).get("model") or name)
    return name.partition("/")[2] or name


def _mark(data: Any, decision: GateDecision) -> None:
    """Where the callback finds whom to charge; what a client wrote in that place is dropped."""
    ours = "litellm_metadata" if isinstance(data.get("litellm_metadata"), dict) else "metadata"
    for name in ("metadata", "litellm_metadata"):
        for trusted in _TRUSTED if isinstance(data.get(name), dict) else ():
            data[name].pop(trusted, None)
    said = {"tollhouse_tenant": decision.tenant}
    said |= {"tollhouse_reservation": decision.reservation} if decision.reservation else {}
    said |= {"tollhouse_key": decision.key} if decision.key else {}
    data.setdefault(ours, {})["user_api_key_auth_metadata"] = said


def _marked(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `_mark` wrote."""
    for name in ("litellm_metadata", "metadata"):
        said = (data.get(name) or {}).get("user_api_key_auth_metadata")
        if isinstance(said, dict) and "tollhouse_tenant" in said:
            return said
    return {}


def _refusal(decision: GateDecision) -> HTTPException:
    headers = {"Retry-After": str(decision.retry_after_s)} if decision.retry_after_s is not None else None
    detail = {"error": decision.reason, "quota": decision.quota, "detail": decision.detail}
    return HTTPException(decision.http_status, {k: v for k, v in detail.items() if v}, headers)


gate_hook = GateHook()
"""For the proxy server's configuration."""
