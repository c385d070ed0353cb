"""Who may call: tokens (issue, revoke) and the keys that sign them."""

import getpass
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click

from schemas.instants import SECOND_US, format_instant, parse_instant
from tollhouse.cli.shared import dir_option, json_option, open_ledger, print_json, print_table, settings_of
from tollhouse.errors import UserError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType):
    """90s, 15m, 1h or 7d, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds; a usage error for anything else."""
        text = str(value)
        if len(text) < 2 or text[-1] not in _UNITS or not text[:-1].isascii() or not text[:-1].isdigit():
            self.fail(f"{text!r} is no duration: write 90s, 15m, 1h or 7d", param, ctx)
        seconds = int(text[:-1]) * _UNITS[text[-1]]
        if seconds == 0:
            self.fail("a duration is at least a second", param, ctx)
        return seconds


def who() -> str:
    """The audit log's name for the person at this terminal."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container may have no name for its user
        return "cli"


def now_of(settings: Any) -> int:
    """The installation's clock."""
    from tollhouse.clock import clock

    return clock(settings.clock_offset_s)()


def _one_of(**given: str | None) -> tuple[str, str]:
    """The one option that was given, as (kind, name)."""
    found = [(kind, name) for kind, name in given.items() if name is not None]
    if len(found) != 1:
        raise UserError(f"give exactly one of {', '.join('--' + kind for kind in given)}", code=2)
    return found[0]


@click.group()
def token() -> None:
    """Tokens of tenants, proxies and operators, and the keys that sign them."""


@token.command()
@click.option("--tenant", help="For a tenant: it calls models by way of the proxy, and sees its own usage.")
@click.option("--proxy", help="For a proxy: it sends events and asks for admission.")
@click.option("--operator", help="For a person or program that operates this installation.")
@click.option("--role", type=click.Choice(["viewer", "finance", "oncall", "admin"]), help="Of an operator.")
@click.option(
    "--ttl", type=Duration(), help="Time to live: 90s, 15m, 1h, 7d. Default: tenant 1h, operator 12h, proxy 90d."
)
@click.option("--models", help="Patterns of models that a tenant's token allows, with commas between.")
@click.option("--limit", "limits", multiple=True, help="Upper bound of one call's estimate: METER=AMOUNT.")
@click.option("--label", "labels", multiple=True, help="NAME=TEXT, handed through.")
@dir_option
@json_option
def issue(
    tenant: str | None,
    proxy: str | None,
    operator: str | None,
    role: str | None,
    ttl: int | None,
    models: str | None,
    limits: tuple[str, ...],
    labels: tuple[str, ...],
    directory: Path | None,
    as_json: bool,  # noqa: FBT001 - click's way
) -> None:
    """Issue a token and print it alone on one line.

    \b
    Examples:
      tollhouse token issue --tenant acme --ttl 1h --models 'gpt-5*,claude-*'
      tollhouse token issue --proxy eu-1
      tollhouse token issue --operator ada --role finance
    """
    from pipeline.ledger.catalogs import NoCatalog, audit
    from tollhouse.tokens import Claims
    from tollhouse.tokens.issue import TTL_MAX_S, TTL_S
    from tollhouse.tokens.issue import issue as sign
    from tollhouse.tokens.keys import signing_key

    kind, subject = _one_of(tenant=tenant, proxy=proxy, operator=operator)
    _check_options(kind, subject, role, models, limits)
    lifetime_s = TTL_S[kind] if ttl is None else ttl
    if lifetime_s > TTL_MAX_S:
        raise UserError(f"--ttl: a token lives {TTL_MAX_S // 86_400} days at most", code=2)
    settings = settings_of(directory)
    ledger = open_ledger(settings)
    now = now_of(settings)
    if kind == "tenant":
        try:
            known = ledger.context().catalog.tenants
        except NoCatalog:
            known = None  # tokens may be made before the first catalog
        if known is not None and subject not in known:
            raise UserError(f"{subject!r} is no tenant of the catalog: it has {', '.join(sorted(known)) or 'none'}")
    claims = Claims(
        kind=kind,
        subject=subject,
        jti=str(uuid.uuid4()),
        issued_us=now,
        expires_us=now + lifetime_s * SECOND_US,
        role=role or "",
        models=tuple(part.strip() for part in models.split(",")) if models else ("*",),
        limits=_limits(limits),
        labels=dict(_pairs("--label", labels)),
    )
    key = signing_key(settings, ledger, now, who())
    text = sign(key, claims, issuer=settings.issuer, audience=settings.audience)
    until = format_instant(claims.expires_us // SECOND_US * SECOND_US)
    note = f"jti {claims.jti}, until {until}" + (f", role {role}" if role else "")
    ledger.write(lambda connection: audit(connection, now, who(), "token.issue", claims.who, note))
    if as_json:
        print_json({"token": text, "jti": claims.jti, "kind": kind, "subject": subject, "expires_at": until})
    else:
        click.echo(text)


def _check_options(kind: str, subject: str, role: str | None, models: str | None, limits: tuple[str, ...]) -> None:
    from schemas.usage_event import is_identifier

    if not is_identifier(subject):
        raise UserError(f"--{kind}: a name has 1 to 256 printable characters", code=2)
    if kind == "operator" and role is None:
        raise UserError("--operator needs --role viewer, finance, oncall or admin", code=2)
    if kind != "operator" and role is not None:
        raise UserError("--role is for --operator only", code=2)
    if kind != "tenant" and (models or limits):
        raise UserError("--models and --limit are for --tenant only", code=2)
    if models is not None and not all(part.strip() for part in models.split(",")):
        raise UserError("--models: write patterns with commas between, like 'gpt-5*,claude-*'", code=2)


def _pairs(option: str, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts]
    if any(not name or not equals for name, equals, _ in pairs):
        raise UserError(f"{option}: write NAME=VALUE", code=2)
    return [(name, value) for name, _, value in pairs]


def _limits(texts: tuple[str, ...]) -> dict[str, Decimal]:
    from schemas.money import decimal
    from schemas.tokens import METERS

    limits = {}
    for meter, amount in _pairs("--limit", texts):
        if meter not in METERS:
            raise UserError(f"--limit: {meter!r} is no meter: use one of {', '.join(METERS)}", code=2)
        try:
            limits[meter] = decimal(amount)
        except ValueError as error:
            raise UserError(f"--limit {meter}: {error}", code=2) from None
    return limits


@token.command()
@click.argument("jti", required=False)
@click.option("--tenant", help="All tokens of the tenant.")
@click.option("--proxy", help="All tokens of the proxy.")
@click.option("--operator", help="All tokens of the operator.")
@click.option("--before", default="now", show_default=True, help="Those issued before: now, or an RFC 3339 time.")
@dir_option
@json_option
def revoke(
    jti: str | None,
    tenant: str | None,
    proxy: str | None,
    operator: str | None,
    before: str,
    directory: Path | None,
    as_json: bool,  # noqa: FBT001 - click's way
) -> None:
    """Revoke one token by its id (jti), or all tokens of a subject issued before an instant.

    \b
    Examples:
      tollhouse token revoke 5b0f6f6e-1f0e-4c3d-9a53-0d9d2a1c2f10
      tollhouse token revoke --tenant acme --before now
    """
    from pipeline.redact import redact_text
    from tollhouse.tokens.revoked import revoke_before, revoke_jti

    kind, name = _one_of(jti=jti, tenant=tenant, proxy=proxy, operator=operator)
    settings = settings_of(directory)
    ledger = open_ledger(settings)
    now = now_of(settings)
    if kind == "jti":
        if redact_text(name)[1]:
            raise UserError("that looks like a whole token: give its jti, as `token issue --json` shows it", code=2)
        revoke_jti(ledger, name, now, who())
        what = {"revoked": "jti", "jti": name, "at": format_instant(now)}
    else:
        try:
            before_us = now if before == "now" else parse_instant(before)
        except ValueError as error:
            raise UserError(f"--before: {error}", code=2) from None
        revoke_before(ledger, f"{kind}:{name}", before_us, now, who())
        what = {"revoked": "before", kind: name, "before": format_instant(before_us)}
    if as_json:
        print_json(what)
    else:
        click.echo(f"revoked: {kind} {name}" + (f", issued before {what['before']}" if kind != "jti" else ""))


@token.group("keys", invoke_without_command=True)
@dir_option
@json_option
@click.pass_context
def signing_keys(ctx: click.Context, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """The keys that sign tokens: list them, or rotate with overlap.

    \b
    Examples:
      tollhouse token keys list
      tollhouse token keys rotate --overlap 7d
    """
    if ctx.invoked_subcommand is None:
        _list_signing_keys(directory, as_json=as_json)


@signing_keys.command("list")
@dir_option
@json_option
def list_signing_keys(directory: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """The signing keys that ever were, the newest first.

    \b
    Example:
      tollhouse token keys list --json
    """
    _list_signing_keys(directory, as_json=as_json)


def _list_signing_keys(directory: Path | None, *, as_json: bool) -> None:
    from tollhouse.tokens import keys as store

    settings = settings_of(directory)
    now = now_of(settings)
    found = [
        {
            "kid": row["kid"],
            "algorithm": row["algorithm"],
            "created_at": format_instant(row["created_us"]),
            "retired_at": None if row["retired_us"] is None else format_instant(row["retired_us"]),
            "state": _signing_state(row["retired_us"], now),
        }
        for row in store.rows(open_ledger(settings))
    ]
    if as_json:
        print_json(found)
    else:
        print_table(("kid", "algorithm", "created", "retired", "state"), [tuple(row.values()) for row in found])


def _signing_state(retired_us: int | None, now_us: int) -> str:
    if retired_us is None:
        return "signs"
    return "counts until retired" if now_us < retired_us else "retired"


@signing_keys.command("rotate")
@click.option("--overlap", type=Duration(), help="How long tokens of the old key go on counting. Default 7d.")
@click.option(
    "--algorithm", type=click.Choice(["EdDSA", "ES256"]), default="EdDSA", show_default=True, help="Of the new key."
)
@dir_option
@json_option
def rotate_signing_key(
    overlap: int | None,
    algorithm: str,
    directory: Path | None,
    as_json: bool,  # noqa: FBT001 - click's way
) -> None:
    """Make a new signing key; the old one's tokens go on counting until the overlap ends.

    \b
    Example:
      tollhouse token keys rotate --overlap 24h --algorithm ES256
    """
    from tollhouse.tokens.keys import DEFAULT_OVERLAP_S
    from tollhouse.tokens.keys import rotate as rotate_key

    settings = settings_of(directory)
    overlap_us = (DEFAULT_OVERLAP_S if overlap is None else overlap) * SECOND_US
    now = now_of(settings)
    key, retired = rotate_key(
        settings, open_ledger(settings), now, algorithm=algorithm, overlap_us=overlap_us, who=who()
    )
    until = format_instant(now + overlap_us)
    if as_json:
        print_json({"kid": key.kid, "algorithm": key.algorithm, "replaces": retired, "overlap_until": until})
    else:
        click.echo(f"new signing key {key.kid} ({key.algorithm})")
        for name in retired:
            click.echo(f"tokens of {name} count until {until}")
