"""python -m tollhouse.stripe_double [PORT]: serve the double until interrupted."""

import sys
from threading import Event

from tollhouse.stripe_double.server import start


def main() -> None:
    """Print the address, then serve."""
    with start(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as handle:
        sys.stdout.write(handle.url + "\n")
        sys.stdout.flush()
        try:
            Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
