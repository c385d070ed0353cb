"""How fast `tollhouse rate` prices lines on one core: JSON in, JSON out, exact decimals between.

    python bench/rating.py [--lines 300000] [--json]

`plain`: one call of four token classes under per-unit prices. `cost`: the same under a markup on the provider's cost.
`command`: the plain lines through the program, start included. `mixed`: an allowance, tiers and the markup together,
one or two calls a line: heavier, shown without a target. Lines repeat a month's days, as a stream of a month does.
Exit 1 if the target is missed.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from pipeline.catalog import parse_data
from pipeline.rating.ndjson import RateStream
from schemas.catalog import Catalog

TARGET_PER_S: Final = 100_000
"""Lines a second on one core: what the money path promises."""
BATCH: Final = 1000

_CLASSES: Final = ("input", "cache_read", "output", "reasoning")
CATALOG: Final[dict[str, Any]] = {
    "currency": "USD",
    "seller": {"name": "Seller Ltd", "address": "1 Example Street", "country": "IE", "email": "billing@seller.example"},
    "tenants": {"acme": {"name": "Acme", "plan": "plain"}},
    "keys": {"k": {"provider": "openai", "kind": "pooled"}},
    "provider_prices": [
        {
            "provider": "openai",
            "model": f"m-{name}",
            "from": "2026-01-01",
            "per": 1000000,
            "input": "0.25",
            "cache_read": "0.025",
            "output": "2.00",
        }
        for name in ("small", "large")
    ],
    "plans": {
        "plain": {
            "charges": [
                {"meter": meter, "models": "*", "model": "per_unit", "price": price, "per": 1000000}
                for meter, price in (("input", "0.30"), ("cache_read", "0.03"), ("output", "2.40"))
            ]
        },
        "cost": {"charges": [{"meter": "cost", "models": "*", "model": "markup", "markup": "0.20"}]},
        "mixed": {
            "allowances": [{"meter": "input", "models": "*-small", "amount": 100}],
            "charges": [
                {"meter": "input", "models": "*", "model": "per_unit", "price": "0.30", "per": 1000000},
                {
                    "meter": "output",
                    "models": "*",
                    "model": "graduated",
                    "per": 1000000,
                    "tiers": [{"up_to": 500, "price": "2.40"}, {"price": "2.00"}],
                },
                {"meter": "cost", "models": "*", "model": "markup", "markup": "0.20"},
            ],
        },
    },
}


def lines_of(plan: str, count: int, calls: int) -> list[bytes]:
    """Lines of the plan, with 1 to `calls` calls each; seeded."""
    chance = random.Random(6)
    made = []
    for number in range(count):
        usage = [
            {
                "model": chance.choice(("m-small", "m-large")),
                "provider": "openai",
                "tokens": {name: chance.randint(0, 4000) for name in _CLASSES},
            }
            for _ in range(chance.randint(1, calls))
        ]
        at = f"2026-10-{chance.randint(1, 28):02d}T00:00:00Z"
        made.append(json.dumps({"id": number, "plan": plan, "at": at, "usage": usage}).encode())
    return made


def in_process(catalog: Catalog, lines: list[bytes]) -> float:
    """Lines a second of CPU time."""
    stream = RateStream(catalog)
    stream.answers(lines[:BATCH])
    started = time.process_time()
    for start in range(0, len(lines), BATCH):
        answers = stream.answers(lines[start : start + BATCH])
        assert b'"error"' not in answers[0], answers[0]
    return len(lines) / (time.process_time() - started)


def through_the_command(lines: list[bytes]) -> float:
    """Lines a second of CPU time of the whole program, its start included."""
    with tempfile.TemporaryDirectory() as folder:
        catalog, file = Path(folder) / "catalog.yaml", Path(folder) / "lines.ndjson"
        catalog.write_text(json.dumps(CATALOG))
        file.write_bytes(b"\n".join([*lines, b""]))
        command = [sys.executable, "-m", "tollhouse", "rate", "--catalog", str(catalog), str(file)]
        before = os.times()
        done = subprocess.run(command, capture_output=True, check=True)
        after = os.times()
        took = after.children_user + after.children_system - before.children_user - before.children_system
    assert done.stdout.count(b"\n") == len(lines)
    return len(lines) / took


def main() -> int:
    """Run; 0 if all but the heavy mix make the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=300_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    catalog = parse_data(CATALOG)
    assert isinstance(catalog, Catalog), catalog
    found = {}
    for plan, calls in (("plain", 1), ("cost", 1), ("mixed", 2)):
        lines = lines_of(plan, options.lines, calls)
        found[plan] = round(in_process(catalog, lines))
    found["command"] = round(through_the_command(lines_of("plain", options.lines, 1)))
    if options.json:
        print(json.dumps({"lines_per_s": found, "target_per_s": TARGET_PER_S}))
    else:
        for name, rate in found.items():
            print(
                f"{name:8} {rate:>9,} lines/s{'' if rate >= TARGET_PER_S or name == 'mixed' else '  below the target'}"
            )
    return 0 if min(rate for name, rate in found.items() if name != "mixed") >= TARGET_PER_S else 1


if __name__ == "__main__":
    sys.exit(main())
