"""What README and manual tell people to type works: commands are parsed, `sh` blocks are run, links lead somewhere.

Fences: `sh` blocks are run, in order, in one directory a page, as a person would who has an installation in ./data with
October's usage. A `text` block right after one is what it prints. A `yaml` block that begins with `# file: NAME` is
written to NAME first. `bash` blocks need a server that runs: tests/integration/cli/test_manual_live.py runs those, with
those of LIVE.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from pipeline.ledger import Ledger
from schemas.instants import parse_instant
from schemas.usage_event import USAGE_TYPE, Delivery, Evidence
from tollhouse.cli.main import cli
from tollhouse.cli.pure import read_catalog

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
TODAY = "2026-11-05T12:00:00Z"


@dataclass(frozen=True)
class Block:
    """One fenced block and where it stands."""

    page: Path
    language: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """The page's fenced blocks, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        indent, language, body = match.groups()
        lines = [line.removeprefix(indent) for line in body.splitlines()]
        found.append(Block(page, language, "\n".join(lines), text.count("\n", 0, match.start()) + 1))
    return found


def name_of(page: Path) -> str:
    """The page as the repository names it."""
    return page.relative_to(ROOT).as_posix()


def _commands(block: Block) -> list[list[str]]:
    """The words of each `tollhouse …` line; continued lines are joined, pipes and redirections end a command."""
    text = block.text.replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        for part in re.split(r"\|\||&&|[|;]|(?<!\S)>{1,2}", line):
            if not re.match(r"\s*([A-Z_]+=\S* )*tollhouse\b", part):
                continue
            words = shlex.split(part.replace("…", "x").strip(), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            if words and words[0] == "tollhouse":
                found.append([word for word in words[1:] if word != "&"])
    return found


def _parse(words: list[str]) -> None:
    """As click does, without running anything: an unknown command, option or a missing argument raises."""
    command: click.Command = cli
    context = click.Context(cli, info_name="tollhouse")
    while isinstance(command, click.Group) and words:
        if words[0] in ("--help", "--version"):
            return
        found = command.get_command(context, words[0])
        assert found is not None, f"no such command: {words[0]}"
        command, words = found, words[1:]
    if "--help" not in words:
        command.make_context("tollhouse", list(words), parent=context)


PARSED = [
    pytest.param(words, id=f"{name_of(block.page)}:{block.line} {' '.join(words)[:50]}")
    for page in PAGES
    for block in blocks_of(page)
    if block.language in ("sh", "bash", "")
    for words in _commands(block)
]


@pytest.mark.parametrize("words", PARSED)
def test_every_command_in_the_documents_is_one(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in words:  # files that an option wants to exist
        if re.fullmatch(r"[\w./-]+\.(yaml|parquet|ndjson|jsonl)", word) and not word.startswith("/"):
            path = tmp_path / word
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    _parse(words)


def installation(directory: Path) -> None:
    """./examples, and ./data with the example catalog and some of October's usage."""
    (directory / "examples").symlink_to(ROOT / "examples")
    (directory / "data").mkdir()
    ledger = Ledger(f"sqlite:///{directory / 'data' / 'tollhouse.db'}")
    ledger.create()
    ledger.apply(read_catalog(ROOT / "examples" / "catalog.yaml"), parse_instant("2026-09-15T00:00:00Z"), "test")
    calls = [
        ("acme", "openai-pool-1", "openai", "gpt-5", {"input": 2_000_000, "cache_read": 500_000, "output": 1_500_000}),
        ("acme", "anthropic-pool-1", "anthropic", "claude-haiku-4-5", {"input": 900_000, "output": 60_000}),
        ("globex", "openai-pool-1", "openai", "gpt-5-mini", {"input": 5_000_000, "output": 800_000}),
        ("kathmandu-labs", "openai-pool-1", "openai", "gpt-5-mini", {"input": 30_000, "output": 4_000}),
        ("wayne", "wayne-own-google", "google", "gemini-2.5-pro", {"input": 700_000, "output": 90_000}),
    ]
    for number, (tenant, key, provider, model, tokens) in enumerate(calls):
        at = f"2026-10-{number + 5:02d}T09:30:00Z"
        data = {"key": key, "provider": provider, "model": model, "tokens": tokens}
        head = {"specversion": "1.0", "type": USAGE_TYPE, "source": "proxy/eu-1", "id": f"c{number}", "time": at}
        body = json.dumps({**head, "subject": tenant, "data": data}).encode()
        arrival_us = parse_instant(at) + 1_000_000
        ledger.take([Delivery(body, arrival_us, Evidence("usage.events", 0, number, 0))], arrival_us)
    ledger.close()


LIVE = ("docs/http.md",)
"""Pages whose `sh` blocks speak with the server as well."""
RUN = [page for page in PAGES if name_of(page) not in LIVE and any(block.language == "sh" for block in blocks_of(page))]


@pytest.mark.timeout(300)  # a page may have two dozen commands, each a process
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_every_block_that_can_be_run_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    installation(tmp_path)
    blocks = blocks_of(page)
    offset_s = parse_instant(TODAY) // 1_000_000 - int(time.time())
    keep = ("HOME", "LANG", "LC_ALL", "TMPDIR")
    environment = {name: os.environ[name] for name in keep if name in os.environ} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk")]),
        "TOLLHOUSE_CLOCK_OFFSET_S": str(offset_s),
        "TOLLHOUSE_BROKER": "127.0.0.1:9",
    }
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language == "yaml" and (name := re.match(r"# file: (\S+)\n", block.text)):
            (tmp_path / name.group(1)).write_text(block.text + "\n")
        if block.language != "sh":
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        where = f"{name_of(page)}:{block.line}"
        assert done.returncode == 0, f"{where}\n{block.text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{where}\n{done.stderr}"
        if after is not None and after.language == "text":
            printed = [line.rstrip() for line in done.stdout.splitlines()]
            assert printed == [line.rstrip() for line in after.text.splitlines()], f"{where} prints otherwise"


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", head.lower()) for head in heads]
    return {head.replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for first, second in LINK.findall(text):
        target = first or second
        if re.match(r"https?://|mailto:|reference/", target):  # reference/ is made by `make docs`, which checks it
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in _anchors(path)):
            broken.append(target)
    assert broken == []


def test_the_pages_show_what_they_promise() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.index("docs/images/dashboard.png") < readme.index("make demo") < readme.index("tollhouse up")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)", changelog, re.MULTILINE)[0] == "Money"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_fence_is_closed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(blocks_of(page))
