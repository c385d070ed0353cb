"""Secrets are cut out wherever they stand; names of things are left alone. All secrets here are made up at run time."""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.context import Context
from pipeline.redact import MARK, redact, redact_bytes, redact_text, suspicious
from pipeline.screen import Refused, screen
from schemas.usage_event import Delivery, Evidence
from tests.unit.pipeline.events import ARRIVAL_US, context, event

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
URLSAFE = ALNUM + "-_"
BASE64 = ALNUM + "+/"


def _made(seed: str, letters: str, length: int) -> str:
    """Random letters, the same in each run, always with a digit and a capital."""
    rng = random.Random(seed)
    body = "".join(rng.choice(letters) for _ in range(length - 2))
    return body + ("7f" if letters == HEX else "7F")


def _kinds() -> dict[str, tuple[str, str]]:
    """Kind of secret -> (the whole text as a proxy might log it, the part that must never be seen again)."""
    made: dict[str, tuple[str, str]] = {}

    def add(kind: str, prefix: str, letters: str, length: int, shape: str = "{}") -> None:
        body = _made(kind, letters, length)
        made[kind] = (shape.format(prefix + body), body)

    add("openai-legacy", "sk-", ALNUM, 48)
    add("openai-project", "sk-proj-", URLSAFE, 124)
    add("openai-service-account", "sk-svcacct-", URLSAFE, 100)
    add("openai-admin", "sk-admin-", URLSAFE, 100)
    add("openai-session", "sess-", ALNUM, 40)
    add("anthropic", "sk-ant-api03-", URLSAFE, 93)
    add("anthropic-admin", "sk-ant-admin01-", URLSAFE, 93)
    add("deepseek", "sk-", HEX, 32)
    add("moonshot", "sk-", ALNUM, 48)
    add("openrouter", "sk-or-v1-", HEX, 64)
    add("litellm", "sk-", URLSAFE, 22)
    add("langfuse", "sk-lf-", HEX, 36)
    add("google-api", "AIza", URLSAFE, 35)
    add("google-api-new", "AQ.", URLSAFE, 50)
    add("google-oauth", "ya29.", URLSAFE, 120)
    add("google-client", "GOCSPX-", URLSAFE, 28)
    add("google-refresh", "1//0", URLSAFE, 60)
    add("aws-key-id", "AKIA", string.ascii_uppercase + "234567", 16)
    add("aws-session-id", "ASIA", string.ascii_uppercase + "234567", 16)
    add("aws-secret", "", BASE64, 40, "aws_secret_access_key={}")
    add("bedrock", "ABSK", BASE64, 128)
    add("bedrock-short", "bedrock-api-key-", BASE64, 80)
    add("azure-openai", "", ALNUM, 52, "{}" + "JQQJ99" + "BCACYeBjFXJ3w3AAAAACOGab12")
    add("azure-storage", "", BASE64, 86, "DefaultEndpointsProtocol=https;AccountKey={}==;")
    add("groq", "gsk_", ALNUM, 52)
    add("xai", "xai-", ALNUM, 80)
    add("fireworks", "fw_", ALNUM, 24)
    add("perplexity", "pplx-", ALNUM, 48)
    add("hugging-face", "hf_", ALNUM, 34)
    add("replicate", "r8_", ALNUM, 37)
    add("nvidia", "nvapi-", URLSAFE, 64)
    add("together", "tgp_v1_", URLSAFE, 43)
    add("cerebras", "csk-", HEX, 48)
    add("pinecone", "pcsk_", ALNUM, 60)
    add("voyage", "pa-", URLSAFE, 43)
    add("jina", "jina_", ALNUM, 50)
    add("anyscale", "esecret_", ALNUM, 26)
    add("tavily", "tvly-", ALNUM, 32)
    add("langsmith", "lsv2_pt_", HEX, 44)
    add("databricks", "dapi", HEX, 32)
    add("github", "ghp_", ALNUM, 36)
    add("github-fine", "github_pat_", ALNUM + "_", 82)
    add("gitlab", "glpat-", URLSAFE, 20)
    add("slack", "xoxb-", string.digits + "-", 40)
    add("sendgrid", "SG.", URLSAFE, 43, "{}." + _made("sendgrid-2", URLSAFE, 43))
    add("twilio", "SK", HEX, 32)
    add("stripe", "sk_live_", ALNUM, 24)
    add("stripe-restricted", "rk_test_", ALNUM, 24)
    add("stripe-webhook", "whsec_", ALNUM, 32)
    add("npm", "npm_", ALNUM, 36)
    add("pypi", "pypi-", URLSAFE, 160)
    add("vault", "hvs.", URLSAFE, 90)
    add("jwt", "eyJ", URLSAFE, 33, "{}." + "eyJ" + _made("jwt-2", URLSAFE, 60) + "." + _made("jwt-3", URLSAFE, 43))
    add(
        "jwt-in-text", "eyJ", URLSAFE, 33, "token={}." + _made("jwt-4", URLSAFE, 60) + "." + _made("jwt-5", URLSAFE, 43)
    )
    add("bearer", "", ALNUM, 40, "Authorization: Bearer {}")
    add("bearer-small", "", ALNUM + "._~+/", 20, "bearer   {}")
    add("basic", "", BASE64, 32, "Authorization: Basic {}==")
    add("pem", "", BASE64, 64, "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----")
    add("pem-cut-short", "", BASE64, 64, "-----BEGIN PRIVATE KEY-----\n{}")
    add("openssh", "", BASE64, 64, "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----")
    add("pgp", "", BASE64, 64, "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{}\n-----END PGP PRIVATE KEY BLOCK-----")
    add("password-in-url", "", ALNUM, 16, "postgresql://billing:{}@db.example:5432/ledger")
    add("password-stated", "", ALNUM, 12, "password={}")
    add("api-key-stated", "", HEX, 32, "api-key: {}")
    add("json-in-text", "", ALNUM, 20, '{{"client_secret": "{}"}}')
    return made


KINDS = _kinds()
PLACES: dict[str, Callable[[dict[str, Any], str], None]] = {
    "agent": lambda e, s: e["data"].update(agent=s),
    "user": lambda e, s: e["data"].update(user=f"user {s} end"),
    "label": lambda e, s: e["data"].update(labels={"note": s}),
    "deep": lambda e, s: e["data"].update(labels={"a": [{"b": [s]}]}),
    "member-name": lambda e, s: e["data"].update(labels={s: 1}),
    "id": lambda e, s: e.update(id=s.replace("\n", " ")[:256]),
    "source": lambda e, s: e.update(source=s.replace("\n", " ")[:256]),
    "subject": lambda e, s: e.update(subject=s),
    "key": lambda e, s: e["data"].update(key=s),
    "unknown-field": lambda e, s: e.update(extension=s),
    "usage": lambda e, s: e["data"].update(usage={"input_tokens": 1, "output_tokens": 1, "note": s}, tokens=None),
    "reason": lambda e, s: e["data"].update(reason=s),
}


def _all_of(document: dict[str, Any], ctx: Context) -> tuple[str, bool]:
    """Everything that screening lets out about the event, and whether it noted a leak."""
    raw = json.dumps(document).encode()
    verdict, leak = screen(Delivery(raw, ARRIVAL_US, Evidence("t", 0, 0, 0)), ctx)
    return repr(verdict) + repr(leak) + verdict.raw.decode(), leak is not None


def test_there_are_forty_kinds_and_more() -> None:
    assert len(KINDS) >= 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_cut_from_text(kind: str) -> None:
    text, body = KINDS[kind]
    for around in ("{}", "before {} after", "x={}", "line\n{}\nline", "({})", '"{}"', "_{}"):
        cut, found = redact_text(around.format(text))
        assert found, around
        assert body not in cut, around
        assert MARK in cut


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_never_leaves_screening(kind: str, place: str) -> None:
    text, body = KINDS[kind]
    document = event("e1", input=1)
    PLACES[place](document, text)
    out, leaked = _all_of(document, context())
    assert leaked
    assert body not in out


@pytest.mark.parametrize("kind", KINDS)
def test_an_escaped_secret_is_seen(kind: str) -> None:
    text, body = KINDS[kind]
    document = event("e1", input=1)
    document["data"]["agent"] = "@@"
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in text)
    raw = json.dumps(document).replace("@@", escaped).encode()
    verdict, leak = screen(Delivery(raw, ARRIVAL_US, Evidence("t", 0, 0, 0)), context())
    assert leak is not None
    assert leak.fields == ("data.agent",)
    assert body not in repr(verdict)


@pytest.mark.parametrize("kind", KINDS)
def test_broken_json_is_kept_without_its_secret(kind: str) -> None:
    text, body = KINDS[kind]
    broken = json.dumps({"id": "e1", "data": {"agent": text}}).encode()[:-1]
    for raw in (
        broken,
        broken.replace(b"/", b"\\/"),
        b'{"a": "' + "".join(f"\\u{ord(c):04x}" for c in text).encode() + b'"',
        b'\xff{"a": ' + json.dumps(text).encode(),
        json.dumps({"a": text}).encode("utf-16-le"),
    ):
        verdict, leak = screen(Delivery(raw, ARRIVAL_US, Evidence("t", 0, 0, 0)), context())
        assert isinstance(verdict, Refused)
        assert leak is not None, raw
        assert body not in repr(verdict).replace("\\\\", "").replace("\\/", "/").replace("\\x00", "")


def test_an_event_that_cannot_be_stored_is_kept_without_its_secret() -> None:
    text, body = KINDS["anthropic"]
    document = event("e1", input=1)
    document["data"]["labels"] = {"a": "\0", text: "\0", "b": text}
    out, leaked = _all_of(document, context())
    assert leaked
    assert body not in out


LEFT_ALONE = [
    "gpt-5-mini-2026-05-01",
    "claude-sonnet-4-5-20250929",
    "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "accounts/fireworks/models/llama-v3p1-70b-instruct",
    "ft:gpt-4o-mini-2024-07-18:org::9xYzABCD",
    "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0",
    "projects/p-1/locations/europe-west4/publishers/google/models/gemini-2.5-pro",
    "req_01HZX3V9K2M4N5P6Q7R8S9T0AB",
    "resp_68a1b2c3d4e5f60718293a4b5c6d7e8f",
    "msg_01XFDUDYJgAACzvnptvVoYEL",
    "chatcmpl-9xYzABCDEFGHIJKLMNOPQRSTUV",
    "550e8400-e29b-41d4-a716-446655440000",
    "0198c1f0-7f3a-7c1e-9b2d-3f4a5b6c7d8e",
    "task-550e8400-e29b-41d4-a716-446655440000",
    "task-1234567890abcdef1234",
    "risk-assessment-2026-q3",
    "disk-space-monitoring-agent-v2",
    "desk_live_chat_widget_number_12",
    "europa-west-1-production-cluster-number-7",
    "spa-booking-assistant-for-hotels-in-austria-2026",
    "key-value-store-for-the-european-union-1",
    "openai-pool-1",
    "key_abc",
    "basic auth",
    "Basic authentication",
    "a basic introduction to billing",
    "bearer authentication works",
    "the secret: simplicity and patience",
    "secret of success",
    "password policy",
    "tokens: 123456789012345678",
    "input_tokens=12345678901234567890",
    "https://proxy.example/v1/messages?beta=true",
    "https://proxy.example:8443/v1/@latest",
    "AS3320/DE",
    "codex-cli/1.4 (Linux; x86_64)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "sk-learn",
    "SKU-1234",
    "ACCOUNTING",
    "hf_hub",
    "eyJust a text",
]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_names_of_things_are_left_alone(text: str) -> None:
    assert redact_text(text) == (text, False)
    assert redact({"agent": text, "labels": {"project": text}}) == ({"agent": text, "labels": {"project": text}}, ())


@pytest.mark.parametrize(
    ("name", "value", "cut"),
    [
        ("password", "hunter", True),
        ("db_password", "correct horse", True),
        ("client_secret", "abcdef", True),
        ("AWS_SECRET_ACCESS_KEY", "abcdefgh", True),
        ("api_key", "0123456789abcdef0123", True),
        ("x-api-key", "0123456789abcdef0123", True),
        ("access_token", "abcdefghij0123456789", True),
        ("api_key", "openai-pool-1", False),
        ("api_key_alias", "team-blue-production-2026", False),
        ("key", "openai-pool-1-of-the-second-account", False),
        ("tokens", "0123456789abcdef0123", False),
        ("secretary", "Margaret Hamilton", False),
        ("password_policy", "rotate-every-90-days", False),
    ],
)
def test_a_name_can_give_a_value_away(name: str, value: str, cut: bool) -> None:
    document = event("e1", input=1)
    document["data"]["labels"] = {name: value}
    raw = json.dumps(document).encode()
    verdict, leak = screen(Delivery(raw, ARRIVAL_US, Evidence("t", 0, 0, 0)), context())
    assert (leak is not None) == cut
    assert (value not in repr(verdict)) == cut
    if leak is not None:
        assert leak.fields == (f"data.labels.{name}",)


def test_two_ids_that_hold_secrets_stay_two_ids() -> None:
    first, second = (f"call {KINDS[kind][0]}" for kind in ("groq", "xai"))
    found = []
    for name in (first, second, first):
        document = event("e", input=1)
        document["id"] = name
        document["data"]["replaces"] = {"source": "s", "id": first}
        found.append(redact(document)[0])
    assert found[0]["id"] != found[1]["id"]
    assert found[0]["id"] == found[2]["id"] == found[1]["data"]["replaces"]["id"]


def test_two_secret_member_names_stay_two_members() -> None:
    labels = {KINDS["groq"][0]: "a", KINDS["xai"][0]: "b"}
    safe, fields = redact(labels)
    assert sorted(safe.values()) == ["a", "b"]
    assert len(fields) == 2


def test_a_clean_event_is_not_looked_at_twice() -> None:
    assert not suspicious(json.dumps(event("e1", input=1200, cache_read=3)).encode())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_leaves_a_trace_in_the_raw_bytes(kind: str) -> None:
    text, _ = KINDS[kind]
    for around in (text, f"a\n{text}", f"a\t{text}", f"é{text}"):
        assert suspicious(json.dumps({"a": around}).encode())
        assert suspicious(json.dumps({"a": around}, ensure_ascii=False).encode())


HOSTILE = ["eyJ_", "sk-a-", "password ", "bearer ", "pa-a", "a", "://a", "A1", "secret:", "-----BEGIN A", "token="]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_long_texts_made_to_be_slow_are_not(hostile: str) -> None:
    text = hostile * (200_000 // len(hostile))
    started_s = time.process_time()
    redact_text(text)
    redact_bytes(text.encode())
    suspicious(text.encode())
    assert time.process_time() - started_s < 20  # a quarter of a second on an idle machine; quadratic takes minutes
