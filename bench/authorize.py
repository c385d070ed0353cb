"""`POST /v1/authorize` under open load, as `tollhouse bench --gate` measures it.

    TOLLHOUSE_DATABASE_URL=postgresql+psycopg://… python -m bench.authorize [--rate 300] [--seconds 20] [--json]

A database of its own is made on that server and dropped afterwards. p99 is the machine's as well: what an ask costs in
CPU is the figure to compare where others work on the same cores.
"""

import argparse
import json
import os

from tollhouse.bench.gate import run_gate_bench


def main() -> None:
    """Measure, and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default=os.environ.get("TOLLHOUSE_DATABASE_URL", ""), help="default: SQLite")
    parser.add_argument("--rate", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run_gate_bench(arguments.database, arguments.rate, arguments.seconds)
    if arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name:22} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
