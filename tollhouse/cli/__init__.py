"""The command line: `tollhouse COMMAND`."""

from tollhouse.cli.main import main

__all__ = ["main"]
