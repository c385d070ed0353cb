"""What a LiteLLM call says about itself, as an event. Reads plain mappings; does not import LiteLLM.

Fields come from one list below and nowhere else: never the messages, never a header, never a provider's secret.
"""

import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tollhouse_client.events import Event, format_time, usage_event
from tollhouse_client.publisher import DEFAULT_TOPIC, UsagePublisher
from tollhouse_client.slots import open_in_free_slot

UNASSIGNED: Final = "unassigned"
"""Tenant or key of a call that names none: not in any catalog, so the service rejects the event and keeps it."""
UPSTREAM_ID_LENGTH_MIN: Final = 20
"""Some servers number responses with a few digits; only a long id is one of its kind."""
SERVICE_TIERS: Final = frozenset({"standard", "batch", "flex", "priority"})
_NO_USAGE_UNASKED: Final = frozenset(
    {"openai", "azure", "azure_ai", "custom_openai", "openai_like", "text-completion-openai", "hosted_vllm", "vllm"}
)
"""Providers that end a stream without usage unless asked by stream_options; LiteLLM then counts by itself."""


@dataclass(frozen=True, slots=True)
class LoggerSettings:
    """Whom to charge by default, and how the catalog names our provider keys."""

    tenant: str | None = None
    keys: dict[str, str] = field(default_factory=dict)
    broker: str = ""
    source: str = ""
    spool_dir: str = ""
    topic: str = DEFAULT_TOPIC
    kafka: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "LoggerSettings":
        """TOLLHOUSE_BROKER (host:port) is needed. TOLLHOUSE_SPOOL_DIR: parent of a directory for each worker
        (./tollhouse-spool); TOLLHOUSE_SOURCE (litellm/<host>); TOLLHOUSE_TOPIC; TOLLHOUSE_TENANT: the default
        tenant; TOLLHOUSE_KEYS: JSON, LiteLLM provider to key; TOLLHOUSE_KAFKA: JSON, more producer settings."""
        broker = environment.get("TOLLHOUSE_BROKER", "")
        if not broker:
            raise ValueError("TOLLHOUSE_BROKER is not set; give it the host:port of Kafka")
        return cls(
            tenant=environment.get("TOLLHOUSE_TENANT") or None,
            keys=_json_object(environment, "TOLLHOUSE_KEYS"),
            broker=broker,
            source=environment.get("TOLLHOUSE_SOURCE") or f"litellm/{socket.gethostname()}",
            spool_dir=environment.get("TOLLHOUSE_SPOOL_DIR") or "tollhouse-spool",
            topic=environment.get("TOLLHOUSE_TOPIC") or DEFAULT_TOPIC,
            kafka=_json_object(environment, "TOLLHOUSE_KAFKA"),
        )

    def open_publisher(self) -> UsagePublisher:
        """The publisher of this process, in a spool directory of its own."""
        return open_in_free_slot(
            self.spool_dir,
            lambda directory: UsagePublisher(
                self.broker, source=self.source, spool_dir=directory, topic=self.topic, kafka=self.kafka
            ),
        )


def _json_object(environment: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(environment.get(name) or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object")
    return value


def read_call(
    kwargs: Mapping[str, Any],
    response: Any,
    status: str,
    *,
    source: str,
    settings: LoggerSettings,
    estimate: Callable[[], dict[str, Any]],
) -> Event | None:
    """The event of a call, from what LiteLLM gives its hooks; None for a failure that concerns no tenant.

    `estimate` counts the text of the call: asked where a stream brought no usage and LiteLLM reports zeros for it.
    """
    parameters = _mapping(kwargs.get("litellm_params"))
    # Some routes keep the proxy's own entries under the second name, because the first is the provider's field.
    metadata = {**_mapping(parameters.get("litellm_metadata")), **_mapping(parameters.get("metadata"))}
    standard = _mapping(kwargs.get("standard_logging_object"))
    provider = str(standard.get("custom_llm_provider") or kwargs.get("custom_llm_provider") or "") or None
    said = _trusted(metadata)
    tenant = said("tenant") or metadata.get("user_api_key_team_id") or settings.tenant
    if status == "error" and tenant is None:
        return None  # a stranger whom the proxy turned away
    if metadata.get("client_disconnected") and status == "ok":
        status = "aborted"
    usage = _usage(response)
    cache_hit = kwargs.get("cache_hit") is True or standard.get("cache_hit") is True
    estimated = usage is not None and not cache_hit and (status == "aborted" or _counted_by_litellm(kwargs, provider))
    if usage is not None and kwargs.get("stream") and not cache_hit and not usage.get("total_tokens", 1):
        usage, estimated = estimate(), True
    return usage_event(
        source=source,
        tenant=str(tenant or UNASSIGNED),
        key=str(_key(parameters, metadata, provider, said, settings)),
        provider=provider or UNASSIGNED,
        api=_api(str(kwargs.get("call_type") or standard.get("call_type") or ""), usage),
        model=str(kwargs.get("model") or standard.get("model") or UNASSIGNED),
        usage=usage,
        status=status,
        time=_time(kwargs.get("start_time")),
        upstream_id=None if cache_hit else _upstream_id(response),
        request_id=_text(kwargs.get("litellm_call_id")),
        reservation=_text(said("reservation")),
        service_tier=_service_tier(response, usage),
        cache_hit=cache_hit,
        estimated=estimated,
        user=_text(standard.get("end_user") or metadata.get("user_api_key_user_id")),
        agent=_text(standard.get("user_agent") or metadata.get("user_agent")),
    )


def _trusted(metadata: Mapping[str, Any]) -> Any:
    """Looks up `tollhouse_<name>` where only we or the operator can have written it.

    In the proxy server a client writes the request's own metadata, so there the virtual key's metadata counts.
    """
    behind_proxy = "user_api_key_hash" in metadata or "user_api_key" in metadata
    sources = (
        (metadata.get("user_api_key_auth_metadata"), metadata.get("user_api_key_metadata"))
        if behind_proxy
        else (metadata,)
    )
    places = [place for place in sources if isinstance(place, Mapping)]
    return lambda name: next((place[f"tollhouse_{name}"] for place in places if place.get(f"tollhouse_{name}")), None)


def _key(
    parameters: Mapping[str, Any],
    metadata: Mapping[str, Any],
    provider: str | None,
    said: Any,
    settings: LoggerSettings,
) -> Any:
    """The catalog's name of the provider key: what the deployment says, then the call, then the settings."""
    deployment = {**_mapping(metadata.get("model_info")), **_mapping(parameters.get("model_info"))}
    return deployment.get("tollhouse_key") or said("key") or settings.keys.get(provider or "") or UNASSIGNED


def _usage(response: Any) -> dict[str, Any] | None:
    """LiteLLM's usage object as JSON, nulls left out; None when the response has none."""
    usage = response.get("usage") if isinstance(response, Mapping) else getattr(response, "usage", None)
    if usage is None:
        return None
    plain = usage if isinstance(usage, Mapping) else usage.model_dump(mode="json")
    return _without_nulls(plain)


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_nulls(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if value is not None
    }


def _api(call_type: str, usage: Mapping[str, Any] | None) -> str | None:
    """What shape the usage has: LiteLLM brings most calls to chat's. None lets the service recognise it."""
    if "embedding" in call_type:
        return "embeddings"
    if usage is None or "prompt_tokens" in usage:
        return "chat"
    return "responses" if "responses" in call_type else None


def _counted_by_litellm(kwargs: Mapping[str, Any], provider: str | None) -> bool:
    """Whether the provider sent no usage, so that the figures are LiteLLM's own count of the text."""
    if not kwargs.get("stream") or "responses" in str(kwargs.get("call_type")):
        return False
    options = kwargs.get("stream_options") or _mapping(kwargs.get("optional_params")).get("stream_options")
    return provider in _NO_USAGE_UNASKED and not _mapping(options).get("include_usage")


def _service_tier(response: Any, usage: Mapping[str, Any] | None) -> str | None:
    tier = getattr(response, "service_tier", None) or (usage or {}).get("service_tier")
    return tier if tier in SERVICE_TIERS else None


def _upstream_id(response: Any) -> str | None:
    found = response.get("id") if isinstance(response, Mapping) else getattr(response, "id", None)
    return found if isinstance(found, str) and len(found) >= UPSTREAM_ID_LENGTH_MIN else None


def _time(value: Any) -> str:
    """When the call began, as its quota window is that of the reservation. LiteLLM's times are local and naive."""
    return format_time(value.astimezone() if isinstance(value, datetime) else None)


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
