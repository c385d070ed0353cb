"""Provider keys: their states, and which key an id stands for."""

from pathlib import Path
from typing import Any, Final

import click

from tollhouse.cli.access import now_of, who
from tollhouse.cli.shared import dir_option, json_option, open_ledger, print_json, print_table, settings_of

STATES: Final = {"suspend": "suspended", "resume": "active", "revoke": "revoked", "rotate": "rotating"}
"""What a command makes of a key."""


@click.group()
def keys() -> None:
    """Provider keys: their states, and how to suspend, resume, revoke and rotate them."""


@keys.command("list")
@dir_option
@json_option
def list_keys(directory: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """All provider keys of the catalog with their states.

    \b
    Example:
      tollhouse keys list --json
    """
    from tollhouse.api.provider_keys import key_list

    settings = settings_of(directory)
    found = key_list(open_ledger(settings))
    if as_json:
        print_json(found)
        return
    columns = ("key", "provider", "kind", "tenant", "state", "changed_at", "changed_by", "reason")
    print_table(columns, [[row[name] for name in columns] for row in found])


@keys.command("register")
@click.argument("key")
@click.argument("source", type=click.File("r"), default="-")
@dir_option
@json_option
def register_key(key: str, source: Any, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Register which provider key an id of the catalog stands for: SOURCE (default: standard input) holds the key.

    Kept are a keyed hash and the last four characters, never the key: so that the gate recognises it where it is sent
    by mistake, and people can tell two keys apart.

    \b
    Example:
      tollhouse keys register acme-own-1 < provider.key
    """
    from tollhouse.own_keys import register as note

    settings = settings_of(directory)
    found = note(settings, open_ledger(settings), key, source.read(2048).strip(), now_of(settings), who())
    if as_json:
        print_json(found)
    else:
        click.echo(f"key {key} is registered: {found['fingerprint'][:15]}…, ends in {found['last_four']}")


def _change(verb: str) -> click.Command:
    example = f"tollhouse keys {verb} openai-pool-1 --reason 'seen in a public repository'"

    @click.argument("key")
    @click.option("--reason", default="", help="Why, for the audit log and for whoever asks later.")
    @dir_option
    @json_option
    def command(key: str, reason: str, directory: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's way
        from tollhouse.api.provider_keys import change_key

        settings = settings_of(directory)
        row = change_key(open_ledger(settings), key, STATES[verb], now_of(settings), who(), reason)
        if as_json:
            print_json(row)
        else:
            click.echo(f"key {key} is {row['state']}")
        if row.get("successors") == []:
            click.echo(
                f"no other active key takes the new calls of {key}: they are refused as key_unavailable "
                "until its successor is in the catalog",
                err=True,
            )

    command.__doc__ = f"{_MEANS[verb]}\n\n\b\nExample:\n  {example}\n"
    return click.command(verb)(command)


_MEANS: Final = {
    "suspend": "Suspend a key: it takes no new calls until it is resumed.",
    "resume": "Resume a suspended or rotating key.",
    "revoke": "Revoke a key for good: it takes no calls, and usage that still arrives on it raises an alert.",
    "rotate": "Let a key drain: it takes no new calls, what is under way ends; put its successor into the catalog.",
}
for _verb in STATES:
    keys.add_command(_change(_verb))
