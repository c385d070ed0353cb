"""The leak detector on the leak benchmark, against its targets: `python bench/leaks.py --seeds 101-106 [--json]`.

For each seed: generate 200 keys over 28 days (cached in --work), run `tollhouse detect`'s own code, score, average.
About a minute and a half a seed on one core. Seeds 1 to 20 are for tuning; report others.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GENERATE = ROOT / "bench" / "leakbench" / "generate.py"
sys.path[:0] = [str(ROOT), str(ROOT / "bench" / "leakbench")]

from score import score  # type: ignore[import-not-found]  # noqa: E402  as above

from tollhouse.detect import run  # noqa: E402  after the path is set

PAGE_TARGETS = (
    ("sudden_10x", "within_5", 0.98),
    ("sudden_50x", "within_5", 0.98),
    ("dormant_wake", "within_5", 0.90),
    ("dormant_wake", "within_15", 1.00),
    ("offhours_low", "within_60", 0.95),
    ("sudden_3x", "within_15", 0.75),
    ("slow_ramp", "recall", 0.80),
    ("pooled_unmetered", "within_60", 0.90),
)
BOTH_TARGETS = (("new_fp_only", "recall", 0.80), ("in_bursty", "recall", 0.80), ("slow_ramp", "recall", 0.90))
FALSE_PAGES_MAX, FALSE_ORDINARY_MAX, FALSE_BOTH_MAX, FALSE_POOL_MAX, SECONDS_MAX = 8.0, 3.0, 16.0, 10.0, 120.0


def seeds_of(text: str) -> list[int]:
    """[101, 102, 103, 7] of "101-103,7"."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def one(seed: int, folder: Path, keys: int, days: int, per_kind: int) -> dict[str, Any]:
    """Scores of one seed, pages alone and with tickets, and the processor time of detection."""
    if not (folder / "labels.json").exists():
        subprocess.run(
            [
                sys.executable,
                str(GENERATE),
                "--seed",
                str(seed),
                "--out",
                str(folder),
                "--keys",
                str(keys),
                "--days",
                str(days),
                "--per-kind",
                str(per_kind),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    started_s = time.process_time()
    run(folder / "minutes.parquet", folder / "provider.parquet", folder / "findings.ndjson")
    seconds = time.process_time() - started_s
    labels = json.loads((folder / "labels.json").read_text())
    findings = [json.loads(text) for text in (folder / "findings.ndjson").read_text().splitlines()]
    pages = [f for f in findings if f["severity"] == "page"]
    return {"seed": seed, "seconds": seconds, "page": score(labels, pages), "both": score(labels, findings)}


def average(results: list[dict[str, Any]], which: str) -> dict[str, Any]:
    """Mean over seeds of every figure of a score."""
    scores = [result[which] for result in results]
    mean = lambda values: sum(values) / len(scores)  # noqa: E731  used in three lines
    return {
        "kinds": {
            kind: {
                name: round(mean([s["kinds"][kind][name] for s in scores]), 3)
                for name in ("recall", "within_5", "within_15", "within_60")
            }
            for kind in scores[0]["kinds"]
        },
        "false_keys": round(mean([s["false_alarms_per_1000_key_days"] for s in scores]), 2),
        "false_pools": round(mean([s["false_alarms_per_1000_pool_days"] for s in scores]), 2),
        "reasons": {
            reason: mean([s["reasons"].get(reason, 0) for s in scores])
            for reason in sorted({r for s in scores for r in s["reasons"]})
        },
    }


def main() -> int:
    """Print the table; exit 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="101-106", help="like 101-106 or 3,7 (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="folder that keeps generated data (default: a temporary one)")
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--per-kind", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = a.work or Path(temporary)
        results = []
        for seed in seeds_of(a.seeds):
            results.append(one(seed, work / f"seed-{seed}", a.keys, a.days, a.per_kind))
            print(f"seed {seed}: {results[-1]['seconds']:.0f} s", file=sys.stderr)
    page, both = average(results, "page"), average(results, "both")
    ordinary = 1000 * page["reasons"].get("ordinary", 0.0) / (a.keys * (a.days - 7))
    checks = [(f"{kind} {figure}", page["kinds"][kind][figure], ">=", least) for kind, figure, least in PAGE_TARGETS]
    checks += [
        (f"{kind} {figure} with tickets", both["kinds"][kind][figure], ">=", least)
        for kind, figure, least in BOTH_TARGETS
    ]
    checks += [
        ("false pages in 1,000 key-days", page["false_keys"], "<=", FALSE_PAGES_MAX),
        ("of them from ordinary traffic", round(ordinary, 2), "<=", FALSE_ORDINARY_MAX),
        ("false alarms with tickets", both["false_keys"], "<=", FALSE_BOTH_MAX),
        ("false alarms in 1,000 pool-days", page["false_pools"], "<=", FALSE_POOL_MAX),
        ("slowest seed, seconds", round(max(r["seconds"] for r in results), 1), "<=", SECONDS_MAX),
    ]
    missed = [c for c in checks if not (c[1] >= c[3] if c[2] == ">=" else c[1] <= c[3])]
    if a.json:
        result = {"seeds": seeds_of(a.seeds), "page": page, "both": both, "missed": [c[0] for c in missed]}
        print(json.dumps(result, indent=1))
        return 1 if missed else 0
    for title, table in (("pages", page), ("pages and tickets", both)):
        print(f"\n{title}\n{'':18}{'recall':>8}{'5 min':>8}{'15 min':>8}{'60 min':>8}")
        for kind, row in table["kinds"].items():
            print(f"{kind:18}" + "".join(f"{row[n]:8.3f}" for n in ("recall", "within_5", "within_15", "within_60")))
    print()
    for name, value, sign, bound in checks:
        print(f"{'missed' if (name, value, sign, bound) in missed else 'ok':8}{name:44}{value:8.3f} {sign} {bound}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
