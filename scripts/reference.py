"""Write `docs/reference/` out of the code: every command with its help, every address of the API, the JSON Schemas.

python scripts/reference.py            # write
python scripts/reference.py --check    # exit 1 and name the files that no longer say what the code does
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
SCHEMAS = ("event", "catalog", "scenario")
WIDTH = 100
TIMEOUT_S = 60


def main(arguments: list[str]) -> int:
    """Write or check; the exit status."""
    if arguments not in ([], ["--check"]):
        print("usage: reference.py [--check]", file=sys.stderr)
        return 2
    description = openapi()
    pages = {"commands.md": commands_page(root_command()), "http.md": http_page(description)}
    pages["openapi.json"] = json.dumps(description, indent=1, sort_keys=True) + "\n"
    pages |= {f"{name}.schema.json": schema(name) for name in SCHEMAS}
    if arguments:
        stale = stale_pages(REFERENCE, pages)
        for name in stale:
            print(f"docs/reference/{name} is out of date: run make docs", file=sys.stderr)
        return 1 if stale else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


def stale_pages(folder: Path, pages: dict[str, str]) -> list[str]:
    """The names whose file is missing or says something else."""
    return [
        name
        for name, text in sorted(pages.items())
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def root_command() -> click.Group:
    """The `tollhouse` command, out of the front door's module."""
    root = importlib.import_module("tollhouse.cli.main").cli
    if not isinstance(root, click.Group):
        raise TypeError("tollhouse.cli.main.cli is no click group")
    return root


def commands_page(root: click.Group) -> str:
    """One section a command, in alphabetical order, each with what `--help` prints."""
    parts = ["# Commands", "", "Made by `make docs` from the commands themselves.", ""]
    for names, command, context in walk(root, context_of(root, "tollhouse", None)):
        text = command.get_help(context).rstrip()
        parts += [f"{'#' * min(len(names) + 1, 4)} {' '.join(names)}", "", "```text", text, "```", ""]
    return "\n".join(parts)


def openapi() -> dict[str, Any]:
    """What the API serves at /openapi.json. Nothing is opened for it: no file, no database, no broker."""
    ledger = importlib.import_module("pipeline.ledger").Ledger("sqlite://")
    settings = importlib.import_module("tollhouse.settings").Settings()
    app = importlib.import_module("tollhouse.api.app").make_app(settings, ledger, lambda: 0)
    found: dict[str, Any] = app.openapi()
    ledger.close()
    return found


def http_page(document: dict[str, Any]) -> str:
    """One section an address and method, in order, with its parameters, its body and its answers."""
    parts = [
        "# HTTP addresses",
        "",
        "Made by `make docs` from the API itself; `openapi.json` beside it is the same, for",
    ]
    parts += ["programs. What each is for, and who may call it, is in [HTTP](../http.md).", ""]
    for path, methods in sorted(document["paths"].items()):
        for method, operation in sorted(methods.items()):
            parts += [f"## {method.upper()} {path}", "", f"**{operation.get('summary', '')}.**", ""]
            if text := operation.get("description"):
                parts += [" ".join(text.split()), ""]
            parts += _parameters(operation, document)
            parts += [f"Answers: {', '.join(f'`{status}`' for status in sorted(operation['responses']))}.", ""]
    return "\n".join(parts)


def _parameters(operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """A table of the parameters and of the members of a JSON body."""
    rows = []
    for given in operation.get("parameters", ()):
        needed = "yes" if given.get("required") else "no"
        rows.append((given["name"], given["in"], needed, _type(given["schema"]), given.get("description", "")))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    body = _resolved(body, document)
    for name, schema in sorted(body.get("properties", {}).items()):
        needed = "yes" if name in body.get("required", ()) else "no"
        rows.append((name, "body", needed, _type(_resolved(schema, document)), schema.get("description", "")))
    if not rows:
        return []
    lines = [f"| `{name}` | {place} | {needed} | {kind} | {text} |" for name, place, needed, kind, text in rows]
    return ["| name | in | needed | type | |", "|---|---|---|---|---|", *lines, ""]


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference within the document names."""
    found: Any = schema
    if (reference := schema.get("$ref", "")).startswith("#/"):
        found = document
        for name in reference[2:].split("/"):
            found = found[name]
    return dict(found)


def _type(schema: dict[str, Any]) -> str:
    """In a word: string, integer, one of several."""
    kinds: list[str] = [_type(one) for one in schema.get("anyOf", ())]
    own = schema.get("type", "any") if not kinds else []
    kinds += own if isinstance(own, list) else [str(own)]
    return " or ".join(dict.fromkeys(kinds))


def walk(
    command: click.Command, context: click.Context, names: tuple[str, ...] = ("tollhouse",)
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """The command and all below it that are shown to people."""
    yield names, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from walk(below, context_of(below, name, context), (*names, name))


def schema(name: str) -> str:
    """What `tollhouse schema NAME` prints."""
    program = Path(sys.executable).with_name("tollhouse")
    command = [str(program), "schema", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise LookupError(f"tollhouse schema {name}: {done.stderr.strip()}")
    return done.stdout


def context_of(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    """The command's context, with one width whatever the terminal."""
    return click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
