"""Every command explains itself: help with an example, and one line for a wrong use."""

from collections.abc import Iterator

import click
import pytest

from tests.unit.cli.command import refused, tollhouse
from tollhouse.cli.main import COMMANDS, cli

CONTRACT = {
    "demo", "up", "worker", "api", "publish", "normalize", "rate", "simulate", "detect", "apply", "schema", "usage",
    "invoices", "stripe", "explain", "token", "keys", "quotas", "alerts", "rejected", "doctor",
}  # fmt: skip


def _walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _walk(child, (*path, name))


TREE = {path: command for path, command in _walk(cli, ()) if path}
LEAVES = {path: command for path, command in TREE.items() if not isinstance(command, click.Group)}


def test_every_promised_command_is_there() -> None:
    assert set(COMMANDS) >= CONTRACT


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_help_answers_on_standard_output(path: tuple[str, ...]) -> None:
    result = tollhouse(*path, "--help")
    assert result.code == 0
    assert result.err == ""
    assert f"Usage: cli {' '.join(path)}" in result.out or f"Usage: tollhouse {' '.join(path)}" in result.out


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_help_has_an_example_that_names_the_command(path: tuple[str, ...]) -> None:
    text = tollhouse(*path, "--help").out
    _, mark, examples = text.partition("Example")
    assert mark, text
    examples = examples.partition("Options:")[0]
    assert f"tollhouse {' '.join(path)}" in examples


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_an_unknown_option_is_wrong_use(path: tuple[str, ...]) -> None:
    result = tollhouse(*path, "--no-such-option")
    line = refused(result, 2)
    assert "No such option" in line
    assert f"(see `tollhouse {' '.join(path)} --help`)" in line


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    options = [p for p in TREE[path].params if isinstance(p, click.Option)]
    assert [o.name for o in options if not o.help and not o.hidden] == []


def test_an_unknown_command_is_wrong_use() -> None:
    assert "No such command 'bill'" in refused(tollhouse("bill"), 2)


def test_no_command_shows_the_help() -> None:
    result = tollhouse()
    assert result.code == 2
    assert "Commands:" in result.out + result.err


def test_the_version_is_told() -> None:
    result = tollhouse("--version")
    assert result.code == 0
    assert result.out.strip().split()[-1][0].isdigit()
