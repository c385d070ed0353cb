"""The sections about terms: plans with their versions, charges, allowances, and quotas wherever they stand."""

from decimal import Decimal
from typing import Final

from pipeline.catalog.fields import At, Fields
from schemas.catalog import Allowance, Charge, Fee, Plan, PlanVersion, Quota, Tier
from schemas.periods import WINDOWS
from schemas.tokens import METERS

PRICING_MODELS: Final = ("per_unit", "graduated", "volume", "package", "flat", "markup")
PRORATIONS: Final = ("daily", "none")
ACTIONS: Final = ("block", "alert")

SHARE_MAX: Final = 10
"""An alert at more than ten times the limit is a percentage by mistake."""

VERSION_FIELDS: Final = ("from", "fee", "minimum", "allowances", "charges", "quotas")
CHARGE_FIELDS: Final = ("meter", "models", "model", "price", "per", "tiers", "size", "markup")
QUOTA_FIELDS: Final = ("name", "meter", "limit", "window", "action", "models", "alert_at")

# What each pricing model needs, and what it may have beside meter, models and model.
CHARGE_NEEDS: Final = {
    "per_unit": (("price", '"0.30"'),),
    "graduated": (("tiers", '[{up_to: 1000, price: "0.30"}, {price: "0.20"}]'),),
    "volume": (("tiers", '[{up_to: 1000, price: "0.30"}, {price: "0.20"}]'),),
    "package": (("size", "1000"), ("price", '"1.00"')),
    "flat": (("price", '"5.00"'),),
    "markup": (("markup", '"0.20"'),),
}
CHARGE_OPTIONS: Final = {"per_unit": ("per",), "graduated": ("per",), "volume": ("per",)}


def read_plans(fields: Fields, at: At | None) -> dict[str, Plan]:
    """Plans by id; each a mapping, or a list of versions whose dates ascend."""
    return {key: Plan(key, _versions(fields, place)) for key, place in fields.entries(at).items()}


def _versions(fields: Fields, at: At) -> tuple[PlanVersion, ...]:
    if not isinstance(at.node.value, list):
        return (_version(fields, at),)
    if not at.node.value:
        fields.error(at, "a plan needs at least one version: [{from: 2026-10-01, …}]")
    places = list(fields.items(at))
    versions = tuple(_version(fields, place) for place in places)
    check_ascending(fields, [(version.from_us, place) for version, place in zip(versions, places, strict=True)])
    return versions


def check_ascending(fields: Fields, dated: list[tuple[int | None, At]]) -> None:
    """Each `from` after the one before; only the first entry may do without."""
    before: int | None = None
    for i, (from_us, place) in enumerate(dated):
        if from_us is None:
            entry = place.node.value
            given = entry.get("from") if isinstance(entry, dict) else None
            if i > 0 and (given is None or given.value is None):
                fields.error(place, "from is missing: every entry after the first needs its date")
            continue
        if before is not None and from_us <= before:
            fields.error(place, "its from is not after the one before: put the entries in order, each date once")
        before = from_us


def _version(fields: Fields, at: At) -> PlanVersion:
    if at.node.value is None:
        return PlanVersion(None)
    found = fields.mapping(at, VERSION_FIELDS)
    return PlanVersion(
        from_us=fields.instant(found.get("from"), "UTC"),
        fee=_fee(fields, found.get("fee")),
        minimum=fields.amount(found.get("minimum")),
        allowances=tuple(_allowance(fields, place) for place in fields.items(found.get("allowances"))),
        charges=tuple(_charge(fields, place) for place in fields.items(found.get("charges"))),
        quotas=read_quotas(fields, found.get("quotas")),
    )


def _fee(fields: Fields, at: At | None) -> Fee | None:
    if at is None:
        return None
    found = fields.mapping(at, ("amount", "proration"))
    amount = fields.amount(fields.required(at, found, "amount", '"49.00"'))
    return Fee(amount or Decimal(0), fields.choice(found.get("proration"), PRORATIONS, "daily"))


def _meter(fields: Fields, at: At, found: dict[str, At]) -> str:
    return fields.choice(fields.required(at, found, "meter", "tokens"), METERS, "tokens")


def _models(fields: Fields, found: dict[str, At]) -> str:
    """Patterns as one text, alternatives divided by |."""
    return "|".join(fields.globs(found.get("models")))


def _allowance(fields: Fields, at: At) -> Allowance:
    found = fields.mapping(at, ("meter", "models", "amount"))
    meter = _meter(fields, at, found)
    if meter == "cost":
        fields.error(found["meter"], "an allowance counts units, not cost: use a token class, tokens or requests")
    amount = fields.integer(fields.required(at, found, "amount", "1000000"))
    return Allowance(meter, _models(fields, found), amount or 0)


def _charge(fields: Fields, at: At) -> Charge:
    found = fields.mapping(at, CHARGE_FIELDS)
    meter = _meter(fields, at, found)
    model = fields.choice(fields.required(at, found, "model", "per_unit"), PRICING_MODELS, "")
    if "meter" in found and model and (meter == "cost") != (model == "markup"):
        fields.error(found["meter"], "the meter cost and the model markup belong together: a markup is a share of cost")
    if model:
        needed = CHARGE_NEEDS[model]
        for name, example in needed:
            fields.required(at, found, name, example)
        allowed = {"meter", "models", "model", *(name for name, _ in needed), *CHARGE_OPTIONS.get(model, ())}
        for name, place in found.items():
            if name not in allowed:
                fields.error(place, f"{name} has no meaning for the model {model}: remove it")
    return Charge(
        meter=meter,
        models=_models(fields, found),
        model=model,
        price=fields.amount(found.get("price")),
        per=fields.per(found.get("per"), 1),
        tiers=_tiers(fields, found.get("tiers")),
        size=fields.integer(found.get("size"), least=1),
        markup=fields.amount(found.get("markup"), least=Decimal(-1)),
    )


def _tiers(fields: Fields, at: At | None) -> tuple[Tier, ...]:
    if at is None:
        return ()
    tiers: list[Tier] = []
    places = list(fields.items(at))
    if not places and isinstance(at.node.value, list):
        fields.error(at, 'needs at least one tier: [{price: "0.30"}]')
    before = 0
    for i, place in enumerate(places):
        found = fields.mapping(place, ("up_to", "price"))
        price = fields.amount(fields.required(place, found, "price", '"0.20"'))
        up_to = fields.integer(found.get("up_to"), least=1)
        last = i == len(places) - 1
        if last and "up_to" in found:
            fields.error(found["up_to"], "the last tier must be open, or usage beyond it has no price: remove up_to")
        elif not last and "up_to" not in found and isinstance(place.node.value, dict):
            fields.error(place, "only the last tier is open: add up_to, the number of its last unit")
        if up_to is not None:
            if up_to <= before:
                fields.error(found["up_to"], f"{up_to} is not above the tier before ({before}): put tiers in order")
            before = max(before, up_to)
        tiers.append(Tier(up_to, price if price is not None else Decimal(0)))
    return tuple(tiers)


def read_quotas(fields: Fields, at: At | None) -> tuple[Quota, ...]:
    """Quotas, each with a name of its own in its list."""
    places = list(fields.items(at))
    quotas = tuple(_quota(fields, place) for place in places)
    named = [(quota.name, place) for quota, place in zip(quotas, places, strict=True) if quota.name]
    fields.unique(named, "a quota of this name")
    return quotas


def _share(fields: Fields, at: At) -> Decimal | None:
    share = fields.amount(at, above=True)
    if share is not None and share > SHARE_MAX:
        fields.error(at, "is a share of the limit, not a percentage: write 0.8 for 80 %")
    return share


def _quota(fields: Fields, at: At) -> Quota:
    found = fields.mapping(at, QUOTA_FIELDS)
    name = fields.name(fields.required(at, found, "name", "daily"))
    meter = _meter(fields, at, found)
    limit = fields.amount(found.get("limit"))
    if limit is not None and meter != "cost" and limit != limit.to_integral_value():
        fields.error(found["limit"], f"{meter} are counted in whole units: a fraction has no meaning")
    shares = [_share(fields, place) for place in fields.items(found.get("alert_at"))]
    return Quota(
        name=name,
        meter=meter,
        limit=limit,
        window=fields.choice(fields.required(at, found, "window", "day"), WINDOWS, "day"),
        action=fields.choice(found.get("action"), ACTIONS, "block"),
        models=_models(fields, found),
        alert_at=tuple(sorted({share for share in shares if share is not None})),
    )
