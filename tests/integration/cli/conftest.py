"""The installation that the tests of commands share."""

from tests.integration.cli.installation import installation, october

__all__ = ["installation", "october"]
