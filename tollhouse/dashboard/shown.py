"""Figures as people read them. Filters of the templates."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from schemas.instants import format_instant
from schemas.money import Money

PLACES_SHOWN: Final = 12


def count(value: int) -> str:
    """1 234 567 with thin spaces, which no reader takes for a decimal comma."""
    return f"{value:,}".replace(",", "\u202f")


def short(value: int) -> str:
    """About how much: 44.8 M. The exact figure stands beside it or in its title."""
    for limit, suffix in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= limit:
            return f"{Decimal(value * 10 // limit) / 10} {suffix}"
    return str(value)


def money(value: Money | None) -> str:
    """Rounded half up to the minor unit, for reading only; a dash for what is unknown."""
    if value is None:
        return "unknown"
    text = value.rounded().text()
    whole, point, rest = text.lstrip("-").partition(".")
    sign = "\u2212" if text.startswith("-") else ""
    return f"{sign}{count(int(whole))}{point}{rest} {value.currency}"


def cost(value: Decimal | None) -> str:
    """What providers charge, in USD."""
    return money(None if value is None else Money(value, "USD"))


def amount(text: str) -> str:
    """A decimal string with its thousands apart."""
    whole, point, rest = text.lstrip("-").partition(".")
    sign = "\u2212" if text.startswith("-") else ""
    return f"{sign}{count(int(whole))}{point}{rest}"


def exact(text: str) -> str:
    """An exact decimal with its thousands apart, without idle zeros; an endless one ends with an ellipsis."""
    whole, point, fraction = amount(text).partition(".")
    if len(fraction) > PLACES_SHOWN:
        return f"{whole}{point}{fraction[:PLACES_SHOWN]}…"
    return f"{whole}{point}{fraction[:2]}{fraction[2:].rstrip('0')}"


def instant(text: str) -> str:
    """An RFC 3339 time to the minute, in UTC."""
    return f"{text[:10]} {text[11:16]}"


def in_currency(value: Decimal, currency: str) -> str:
    """An invoice's amount, exact."""
    return money(Money(value, currency))


def made_of(part: Mapping[str, Any]) -> str:
    """What a part of an invoice line is: tier, models, the price's date, a note."""
    tier = f"tier {part['tier']}" if part["tier"] else ""
    models = ", ".join(part["models"])
    since = f"price of {part['version_from'][:10]}" if part["version_from"] else ""
    return ", ".join(text for text in (tier, models, since, part["note"]) if text)


def when(at_us: int | None) -> str:
    """A UTC instant in microseconds to the minute; a dash for never."""
    return "–" if at_us is None else instant(format_instant(at_us))


def fact(name: str, value: Any) -> str:
    """A fact of an alert as text: instants as times, lists with commas, groups as `name: values`."""
    if isinstance(value, int) and name.endswith("_us"):
        return f"{when(value)} UTC"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {fact(str(key), part)}" for key, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(part) for part in value) or "none"
    return count(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def status_tag(status: str) -> str:
    """The colour class of an invoice's or a key's state; the text beside it says the same."""
    return {
        "paid": "good", "active": "good",
        "void": "page", "uncollectible": "page", "revoked": "page", "suspended": "page",
        "draft": "ticket", "rotating": "ticket", "throttled": "ticket",
    }.get(status, "")  # fmt: skip


def score(milli: int) -> str:
    """A leak score in thousandths: two places, or whole where it is large."""
    return count(milli // 1000) if milli >= 100_000 else str(Decimal(milli // 10) / 100)


def score_tag(milli: int) -> str:
    """Above its record a key is worth a look; where alerts begin is the detector's business."""
    return "page" if milli >= 2000 else "ticket" if milli >= 1000 else ""


def signed(value: int) -> str:
    """A difference, with its sign."""
    return f"+{count(value)}" if value > 0 else f"\u2212{count(-value)}" if value else "0"
