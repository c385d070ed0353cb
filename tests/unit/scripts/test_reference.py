"""The reference is written from the commands, and a page that lags behind them is named."""

from __future__ import annotations

from pathlib import Path

import click

import reference


@click.group()
def _root() -> None:
    """Meter and bill."""


@_root.group("invoices")
def _invoices() -> None:
    """The month's invoices."""


@_invoices.command("run")
@click.option("--month", help="The month.")
def _run(month: str) -> None:
    """Draft them."""


@_root.command("secret", hidden=True)
def _secret() -> None:
    """Not for people."""


def test_every_command_for_people_has_a_section_with_its_help() -> None:
    page = reference.commands_page(_root)
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == ["# Commands", "## tollhouse", "### tollhouse invoices", "#### tollhouse invoices run"]
    assert "Usage: tollhouse invoices run [OPTIONS]" in page
    assert "--month TEXT  The month." in page


def test_pages_that_are_missing_or_differ_are_stale(tmp_path: Path) -> None:
    (tmp_path / "same.md").write_text("a")
    (tmp_path / "other.md").write_text("b")
    assert reference.stale_pages(tmp_path, {"same.md": "a", "other.md": "c", "absent.md": "d"}) == [
        "absent.md",
        "other.md",
    ]


def test_wrong_use_is_status_2() -> None:
    assert reference.main(["--write"]) == 2


def test_the_front_door_is_what_is_documented() -> None:
    root = reference.root_command()
    assert {"demo", "simulate", "invoices"} <= set(root.list_commands(click.Context(root)))


def test_every_address_of_the_api_has_a_section_with_what_it_takes() -> None:
    document = reference.openapi()
    page = reference.http_page(document)
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"## {method.upper()} {path}\n" in page
    authorize = page.partition("## POST /v1/authorize\n")[2].partition("\n## ")[0]
    assert "| `token` | body | yes | string |" in authorize
    assert "| `ttl_s` | body | no | integer |" in authorize
    usage = page.partition("## GET /v1/tenants/{tenant}/usage\n")[2].partition("\n## ")[0]
    assert "| `tenant` | path | yes | string |" in usage
    assert "| `by` | query | no | string | Groups, with commas between. |" in usage
