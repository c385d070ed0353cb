"""The providers' own usage and cost reports, read by their APIs or from a file. The only room that asks providers.

`connector(provider, ...)` gives what reads them; `read_csv` reads a file for every other provider.
"""

from billing.provider_reports.anthropic import Anthropic, AnthropicLegacy
from billing.provider_reports.client import Client, Fetch, ReportError
from billing.provider_reports.csv_file import read_csv
from billing.provider_reports.openai import OpenAI
from billing.provider_reports.openrouter import OpenRouter
from billing.provider_reports.report import Connector

CONNECTORS: dict[str, type[OpenAI] | type[Anthropic] | type[OpenRouter]] = {
    "openai": OpenAI,
    "anthropic": Anthropic,
    "anthropic-legacy": AnthropicLegacy,
    "openrouter": OpenRouter,
}
"""By the name that the catalog's keys have as provider; anthropic-legacy only where it is asked for."""

__all__ = [
    "CONNECTORS", "Anthropic", "AnthropicLegacy", "Client", "Connector", "Fetch", "OpenAI", "OpenRouter", "ReportError",
    "read_csv",
]  # fmt: skip
