"""What Stripe takes as an amount in each currency (https://docs.stripe.com/currencies)."""

ZERO_DECIMAL = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
)
WHOLE_ONLY = frozenset({"isk", "ugx"})
"""No minor unit, yet written in hundredths that must be 00."""
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
"""Written in thousandths of which the last digit must be 0."""

MINIMUM_CHARGE = {
    "usd": 50, "eur": 50, "gbp": 30, "chf": 50, "cad": 50, "aud": 50, "nzd": 50, "sgd": 50, "brl": 50, "inr": 50,
    "jpy": 50, "dkk": 250, "nok": 300, "sek": 300, "hkd": 400, "mxn": 1000, "czk": 1500, "huf": 17500, "pln": 200,
    "ron": 200, "aed": 200, "myr": 200, "thb": 1000, "bgn": 100,
}  # fmt: skip
"""Smallest amount that is charged, in minor units; others have none here."""


def problem(amount: int, currency: str) -> str | None:
    """Why the amount cannot be charged in the currency; None if it can."""
    if currency in WHOLE_ONLY and amount % 100:
        return f"{currency.upper()} has no minor unit: the last two digits must be 0"
    if currency in THREE_DECIMAL and amount % 10:
        return f"{currency.upper()} amounts must have 0 as their last digit"
    return None
