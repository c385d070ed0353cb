"""Settings: `tollhouse.toml`, overridden by the environment, overridden by flags. Secrets only from the environment or
from files that only their owner can read; they are never printed."""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tollhouse.errors import UserError

FILE: Final = "tollhouse.toml"
DATABASE: Final = "tollhouse.db"
RUNTIME: Final = "runtime.toml"
"""What `up` writes into its directory while it runs: where its broker and API are."""

SECRETS: Final = (
    "STRIPE_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "TOLLHOUSE_BROKER_PASSWORD",
    "TOLLHOUSE_DATABASE_PASSWORD",
    "TOLLHOUSE_FINGERPRINT_KEY",
    "TOLLHOUSE_SIGNING_KEY",
    "TOLLHOUSE_SIGN_IN_CLIENT_SECRET",
    "TOLLHOUSE_WEBHOOK_SECRET",
)
_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_WORDS: Final = {
    "broker_security": ("plaintext", "ssl", "sasl_ssl"),
    "broker_sasl": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    "stripe_tax": ("line", "rates"),
    "log_level": ("debug", "info", "warning", "error", "critical"),
    "log_format": ("auto", "json", "text"),
    "tracing": ("off", "otlp"),
}
_BOUNDS: Final = {
    "partitions": (1, 10_000),
    "port": (0, 65_535),
    "worker_port": (0, 65_535),
    "open_dashboard": (0, 1),
    "allow_local_sinks": (0, 1),
    "oidc_allow_local": (0, 1),
    "session_idle_s": (60, 30 * 86_400),
    "session_max_s": (60, 30 * 86_400),
    "leak_release_s": (0, 366 * 86_400),
    "retention_months": (0, 1200),
    "request_timeout_s": (1, 3600),
    "connections_max": (1, 1_000_000),
    "proxy_requests_per_s": (0, 1_000_000),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, with its default. The environment's names are TOLLHOUSE_ and the name in capitals.

    dir: the directory of an installation on one machine (database, spool, keys). partitions: of usage.events.
    open_dashboard: 1 opens the dashboard without sign-in, for a process on a loopback address. clock_offset_s moves the
    clock; the demo sets it, so that last month is over and its grace too. allow_local_sinks: 1 lets webhooks go to
    private addresses. retention_months: single events are kept for so many whole months; 0: for ever. audit_at: when
    the nightly audit runs, in UTC; empty: never. leak_release_s: after so many seconds a response to a leak ends by
    itself; 0: when a person says. session_idle_s, session_max_s: a session of the dashboard ends so long after it was
    last used, and after it began.
    broker_security: how the broker is reached (see streams.transport); the files are PEM. tls_cert_file, tls_key_file:
    the API's own certificate; without them it speaks HTTP, for a proxy with TLS in front. request_timeout_s: a
    request's head, and then its body, is here within it. proxy_requests_per_s: of one proxy to one process; 0: no
    bound. connections_max: of one process of the API. worker_port: where a worker answers /healthz, /readyz and
    /metrics; 0: nowhere. tracing: otlp sends a worker's spans where OpenTelemetry's own variables say.
    """

    dir: Path = Path()
    database_url: str = field(default="", repr=False)  # it may hold a password
    broker: str = "127.0.0.1:9092"
    broker_security: str = "plaintext"
    broker_ca_file: str = ""
    broker_cert_file: str = ""
    broker_key_file: str = ""
    broker_sasl: str = "SCRAM-SHA-512"
    broker_user: str = ""
    partitions: int = 4
    app_id: str = "tollhouse"
    topic_prefix: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    worker_port: int = 0
    base_url: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    request_timeout_s: int = 30
    connections_max: int = 1000
    proxy_requests_per_s: int = 0
    stripe_api_base: str = ""
    stripe_tax: str = "line"
    issuer: str = "tollhouse"
    audience: str = "tollhouse"
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_tenant_claim: str = "tenant"
    oidc_tenants: str = ""
    oidc_allow_local: int = 0
    sign_in_issuer: str = ""
    sign_in_client_id: str = ""
    sign_in_scope: str = "openid"
    sign_in_name_claim: str = "sub"
    sign_in_role_claim: str = "groups"
    sign_in_roles: str = ""
    session_idle_s: int = 3600
    session_max_s: int = 43_200
    fail_mode: str = "closed"
    open_dashboard: int = 0
    clock_offset_s: int = 0
    allow_local_sinks: int = 0
    leak_release_s: int = 0
    retention_months: int = 0
    audit_at: str = "03:30"
    log_level: str = "info"
    log_format: str = "auto"
    tracing: str = "off"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def database(self) -> str:
        """The ledger's SQLAlchemy URL: what was set, or a SQLite file in the directory.

        The password is put in where it was given apart (TOLLHOUSE_DATABASE_PASSWORD): then the URL is no secret.
        """
        name = "TOLLHOUSE_DATABASE_PASSWORD"
        if not self.database_url.startswith("postgresql") or not self.has_secret(name):
            return self.database_url or f"sqlite:///{self.dir / DATABASE}"
        from pipeline.ledger.engine import with_password  # noqa: PLC0415 - commands without a ledger do without it

        try:
            return with_password(self.database_url, self.secret(name))
        except ValueError:
            raise UserError("TOLLHOUSE_DATABASE_URL is no URL of a database", code=2) from None

    def has_secret(self, name: str) -> bool:
        """Whether a secret was given, be it good or not."""
        return bool(self.environment.get(name) or self.environment.get(f"{name}_FILE"))

    def secret(self, name: str) -> str:
        """A secret: from the environment, or from the file that NAME_FILE names; UserError where it is missing or open.

        name: one of SECRETS.
        """
        if value := self.environment.get(name, ""):
            return value
        if file := self.environment.get(f"{name}_FILE", ""):
            return read_secret(Path(file))
        raise UserError(f"{name} is not set: put it into the environment, or its file's name into {name}_FILE")


def read_secret(path: Path) -> str:
    """A secret file's content; UserError if others can read it."""
    try:
        check_private(path)
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text: a secret is a line of text") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def check_private(path: Path) -> None:
    """UserError unless the file is there and its owner alone can read it."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if mode & _OTHERS:
        raise UserError(f"{path} can be read by others: run chmod 600 {path}")


def load(
    directory: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings in force. directory: --dir; without it, the working directory's tollhouse.toml is read."""
    environment = os.environ if environment is None else environment
    known = {f.name: f.type for f in fields(Settings) if f.name not in ("dir", "environment")}
    values: dict[str, Any] = {}
    base = directory or Path(environment.get("TOLLHOUSE_DIR", "."))
    for name in (RUNTIME, FILE):
        values |= _file(base / name, known)
    for name in known:
        if (text := environment.get(f"TOLLHOUSE_{name.upper()}")) is not None:
            values[name] = text
    values |= {name: value for name, value in (overrides or {}).items() if value is not None}
    typed = {name: _typed(name, value, known[name]) for name, value in values.items()}
    return replace(Settings(), dir=base, environment=dict(environment), **typed)


def allowed(name: str) -> tuple[tuple[str, ...], tuple[int, int] | None]:
    """The words a setting takes, () for any; and the bounds of a number, None for none."""
    return _WORDS.get(name, ()), _BOUNDS.get(name)


def _file(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    for name in values:
        if name not in known:
            secret = (
                "; secrets belong into the environment" if "KEY" in name.upper() or "SECRET" in name.upper() else ""
            )
            raise UserError(f"{path}: unknown setting {name!r}: use {', '.join(sorted(known))}{secret}")
    if _has_password(values.get("database_url")) and path.stat().st_mode & _OTHERS:
        raise UserError(
            f"{path} holds a database's password and can be read by others: run chmod 600 {path}, "
            "or give the password as TOLLHOUSE_DATABASE_PASSWORD"
        )
    return values


def _has_password(url: object) -> bool:
    try:
        return isinstance(url, str) and bool(urlsplit(url).password)
    except ValueError:
        return False  # no URL at all: whoever opens it says so


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value in the setting's type and bounds; UserError for any other: a default would be a guess."""
    if kind in ("int", int):
        return _whole(name, value)
    if not isinstance(value, str):
        raise UserError(f"setting {name}: {value!r} is not text: put it in quotes")
    if name == "audit_at" and value and not _TIME.fullmatch(value):
        raise UserError(f"setting {name}: {value!r} is no time of day like 03:30")
    if name in _WORDS and value not in _WORDS[name]:
        raise UserError(f"setting {name}: {value!r} is none of {', '.join(_WORDS[name])}")
    return value


def _whole(name: str, value: Any) -> int:
    try:
        if not isinstance(value, int | str) or isinstance(value, bool):
            raise ValueError
        number = int(value)
    except ValueError:
        raise UserError(f"setting {name}: {value!r} is not a whole number") from None
    low, high = _BOUNDS.get(name, (number, number))
    if not low <= number <= high:
        raise UserError(f"setting {name}: {number} is not between {low:,} and {high:,}")
    return number
