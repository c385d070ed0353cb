"""The plain way as a process: python -m tollhouse.bench.plain BROKER TOPIC APP_ID DATA_DIR DATABASE_URL."""

import sys

from pipeline.ledger.scratch import Reference
from streams.reference import run_plain


def main() -> None:
    """Until SIGTERM."""
    broker, topic, app_id, data_dir, url = sys.argv[1:]
    run_plain(broker, topic, app_id, data_dir, Reference(url).insert_plain)


if __name__ == "__main__":
    main()
