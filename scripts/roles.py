"""Write deploy/postgres/roles.sql out of what pipeline.ledger.roles says."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.ledger.roles import roles_sql

FILE = Path(__file__).resolve().parents[1] / "deploy" / "postgres" / "roles.sql"


def main() -> int:
    """Write the file; the exit status."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(roles_sql(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
