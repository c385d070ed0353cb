"""Write `docs/configuration.md` and `docs/metrics.md` out of the settings and the figures themselves.

python scripts/operating.py            # write
python scripts/operating.py --check    # exit 1 and name the pages that no longer say what the code does
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import NamedTuple

from prometheus_client.registry import Collector

from pipeline.ledger import Ledger
from streams.delivery import Deliverer
from streams.figures import WorkerFigures, WorkerState
from streams.progress import Place, Progress
from tollhouse import settings
from tollhouse.api.health import state_of
from tollhouse.api.metrics import Metrics
from tollhouse.api.state import Api
from tollhouse.settings_help import HELP, SECRET_HELP

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


class Exported(NamedTuple):
    """A metric as Prometheus has it. names: of its samples."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str
    names: tuple[str, ...]


def main(arguments: list[str]) -> int:
    """Write or check; the exit status."""
    if arguments not in ([], ["--check"]):
        print("usage: operating.py [--check]", file=sys.stderr)
        return 2
    stale = []
    for name, text in pages().items():
        page = DOCS / name
        if not arguments:
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            stale.append(name)
            print(f"docs/{name} is out of date: run python scripts/operating.py", file=sys.stderr)
    return 1 if stale else 0


def pages() -> dict[str, str]:
    """Both pages by their names."""
    return {"configuration.md": configuration_page(), "metrics.md": metrics_page()}


# --- settings ---


def configuration_page() -> str:
    """Every setting with its default, its values and what it means; every secret."""
    parts = [
        "# Configuration",
        "",
        "Made by `python scripts/operating.py` from the settings themselves.",
        "",
        "A setting comes from `tollhouse.toml` in the installation's directory (`--dir`, or `TOLLHOUSE_DIR`), over it",
        "from the environment (`TOLLHOUSE_` and the name in capitals), over it from a flag. An unknown name or a wrong",
        "value is an error, not a default.",
        "",
        "| setting | environment | default | values | means |",
        "|---|---|---|---|---|",
        *(_setting(name, default) for name, default in defaults().items()),
        "",
        "## Secrets",
        "",
        "From the environment, or from a file that only its owner can read, whose name is in the variable with `_FILE`",
        "at its end. They are never in `tollhouse.toml`, and never printed or logged.",
        "",
        "| variable | is |",
        "|---|---|",
        *(f"| `{name}` | {SECRET_HELP[name]} |" for name in settings.SECRETS),
        "",
    ]
    return "\n".join(parts)


def defaults() -> dict[str, object]:
    """Every setting that a file, the environment or a flag can give, with its default."""
    return {
        f.name: f.default
        for f in fields(settings.Settings)
        if f.name not in ("dir", "environment") and f.default is not MISSING
    }


def _setting(name: str, default: object) -> str:
    words, bounds = settings.allowed(name)
    values = ", ".join(f"`{word}`" for word in words) if words else ""
    if bounds:
        values = f"{bounds[0]:,} to {bounds[1]:,}"
    shown = "" if default == "" else f"`{default}`"
    return f"| `{name}` | `TOLLHOUSE_{name.upper()}` | {shown} | {values} | {HELP[name]} |"


# --- figures ---


def metrics_page() -> str:
    """Every metric by who exports it."""
    parts = [
        "# Metrics",
        "",
        "Made by `python scripts/operating.py` from the figures themselves. No label names a tenant. Alert rules and a",
        "dashboard over them are in `deploy/`, what they mean in [Operate](operate.md).",
        "",
        "The ledger's figures come from every process of the API and are the same: take their `max`. Those of requests",
        "and spools, and a worker's, are each process's own: take their `sum`.",
    ]
    for title, found in exported().items():
        parts += ["", f"## {title}", "", "| metric | type | labels | means |", "|---|---|---|---|"]
        parts += [
            f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.text} |" for m in found
        ]
    return "\n".join([*parts, ""])


def exported() -> dict[str, list[Exported]]:
    """Every metric of our own, by who exports it, in order of name."""
    found = {"A process of the API": _api(), "A worker": _worker()}
    return {who: sorted(metrics) for who, metrics in found.items()}


def _api() -> list[Exported]:
    with tempfile.TemporaryDirectory() as place:
        ledger = Ledger(f"sqlite:///{place}/ledger.db")  # a file: the checks ask at once, each with a connection
        ledger.create()
        # Nobody listens there: the page does not depend on what runs on this machine.
        api = Api(settings.Settings(dir=Path(place), broker="127.0.0.1:1"), ledger, lambda: 0)
        try:
            return [*_of(collectors(Metrics().registry)), *_of(collectors(state_of(api)))]
        finally:
            ledger.close()


def _worker() -> list[Exported]:
    progress = Progress(dict, dict, dict, list, dict, lambda work: work())
    progress.places = {0: Place(0, 0)}
    ledger = Ledger("sqlite://")
    deliverer = Deliverer(ledger, lambda: 0, lambda _url, _notice: None)
    state = WorkerState(progress, lambda: 0, lambda: 0.0, deliverer)
    try:
        return _of([*collectors(WorkerFigures().registry), state])
    finally:
        ledger.close()


def collectors(registry: object) -> list[Collector]:
    """What a registry asks when it is asked."""
    return list(getattr(registry, "_collector_to_names"))  # noqa: B009 - the library gives no other way


def _of(found: Iterable[Collector]) -> list[Exported]:
    return [metric for collector in found for metric in _families(collector) if metric.name.startswith("tollhouse_")]


def _families(collector: Collector) -> Iterator[Exported]:
    for family in collector.collect():
        labels = tuple(getattr(collector, "_labelnames", ())) or tuple(
            dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        )
        name = f"{family.name}_total" if family.type == "counter" else family.name
        names = (
            tuple(f"{family.name}_{end}" for end in ("bucket", "sum", "count"))
            if family.type == "histogram"
            else (name,)
        )
        yield Exported(name, family.type, labels, family.documentation, names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
