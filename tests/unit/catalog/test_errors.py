"""Every mistake is named at once, with its line, its path, and what to do."""

import pytest

from pipeline.catalog import CatalogError, parse_data, parse_yaml

TENANT = "plans: {team: {}}\ntenants:\n  acme:\n    %s\n"
CHARGE = "plans:\n  p:\n    charges:\n      - {%s}\n"
PRICE = "provider_prices:\n  - {%s}\n"
QUOTA = "tenants:\n  a:\n    quotas:\n      - {%s}\n"

# Document, line, path, a part of the message.
BROKEN = [
    ("", 1, "", "empty"),
    ("- a\n- b\n", 1, "", "needs a mapping"),
    ("tennants: {}\n", 1, "tennants", "did you mean 'tenants'?"),
    ("currency: usd\n", 1, "currency", "write USD"),
    ("currency: Dollar\n", 1, "currency", "not a currency code"),
    ("seller: {country: Ireland}\n", 1, "seller.country", "not a country code"),
    ("seller: {adress: x}\n", 1, "seller.adress", "did you mean 'address'?"),
    ("a: 1\nb: [\n", 3, "", "not valid YAML"),
    ("plans: {}\nplans: {}\n", 2, "plans", "already stands on line 1"),
    ("plans: {p: {minimum: 1, minimum: 2}}\n", 1, "plans.p.minimum", "already stands"),
    ("a: 1\n---\nb: 2\n", 2, "", "second document"),
    ("plans: *nowhere\n", 1, "plans", "nowhere"),
    ("plans: &a {p: *a}\n", 1, "plans.p", "contains itself"),
    ("plans: !!python/object:os.system {}\n", 1, "plans", "tag"),
    ("plans:\n  p: {minimum: !money 5}\n", 2, "plans.p.minimum", "tag"),
    ("plans:\n  p: {<<: 5}\n", 2, "plans.p", "merge key"),
    ("? [a, b]\n: 1\n", 1, "", "a key must be plain text"),
    (TENANT % "plan: tema", 4, "tenants.acme.plan", "unknown plan 'tema': did you mean 'team'?"),
    (TENANT % "plan: [{plan: team}, {plan: team}]", 4, "tenants.acme.plan[1]", "from is missing"),
    (TENANT % "plan: [{from: 2026-01-01}]", 4, "tenants.acme.plan[0]", "plan is missing"),
    (
        TENANT % "plan: [{plan: team, from: 2026-02-01}, {plan: team, from: 2026-01-01}]",
        4,
        "tenants.acme.plan[1]",
        "not after the one before",
    ),
    (TENANT % "plan: [{plan: team, from: 2026-02-30}]", 4, "tenants.acme.plan[0].from", "not a date"),
    (TENANT % "plan: [{plan: team, from: 20260230}]", 4, "tenants.acme.plan[0].from", "needs a date"),
    (TENANT % "tier: standart", 4, "tenants.acme.tier", "did you mean 'standard'?"),
    (TENANT % "timezone: Europe/Berln", 4, "tenants.acme.timezone", "not a time zone"),
    (TENANT % "models: []", 4, "tenants.acme.models", "matches no model"),
    (TENANT % "models: ['gpt 5']", 4, "tenants.acme.models[0]", "white space"),
    (TENANT % "billing: {collection: auto}", 4, "tenants.acme.billing.collection", "use send_invoice"),
    (TENANT % "billing: {days_until_due: -1}", 4, "tenants.acme.billing.days_until_due", "at least 0"),
    (TENANT % "billing: {reverse_charge: yes}", 4, "tenants.acme.billing.reverse_charge", "true or false"),
    (TENANT % "name: ' '", 4, "tenants.acme.name", "blank"),
    ("tenants:\n  ' ': {}\n", 2, "tenants. ", "printable"),
    ("tenants: [a]\n", 1, "tenants", "mapping of ids"),
    ("keys:\n  k: {kind: pooled}\n", 2, "keys.k", "provider is missing"),
    ("keys:\n  k: {provider: openai}\n", 2, "keys.k", "kind is missing"),
    ("keys:\n  k: {provider: openai, kind: pool}\n", 2, "keys.k.kind", "did you mean 'pooled'?"),
    (
        "keys:\n  k: {provider: openai, kind: pooled, provider_key_id: sk-proj-abcdefghijklmnopqrstuvwx}\n",
        2,
        "keys.k.provider_key_id",
        "looks like a secret",
    ),
    ("keys:\n  sk-abcdefghijklmnopqrstuvwx: {provider: openai, kind: pooled}\n", 2, "keys", "looks like a secret"),
    ("keys:\n  k: {provider: openai, kind: byok}\n", 2, "keys.k", "tenant is missing"),
    ("keys:\n  k: {provider: openai, kind: byok, tenant: nobody}\n", 2, "keys.k.tenant", "unknown tenant 'nobody'"),
    ("tenants: {a: }\nkeys:\n  k: {provider: openai, kind: pooled, tenant: a}\n", 3, "keys.k.tenant", "no tenant"),
    ("plans:\n  p: []\n", 2, "plans.p", "at least one version"),
    ("plans:\n  p: 5\n", 2, "plans.p", "needs a mapping"),
    ("plans:\n  p: {fee: {}}\n", 2, "plans.p.fee", "amount is missing"),
    ("plans:\n  p: {fee: {amount: '-1'}}\n", 2, "plans.p.fee.amount", "at least 0"),
    ("plans:\n  p: {fee: {amount: '1', proration: weekly}}\n", 2, "plans.p.fee.proration", "use daily, none"),
    ("plans:\n  p: {minimum: abc}\n", 2, "plans.p.minimum", "not a decimal"),
    ("plans:\n  p: {minimum: '1e3'}\n", 2, "plans.p.minimum", "not a decimal"),
    ("plans:\n  p: {minimum: 0.1234567890123456789}\n", 2, "plans.p.minimum", "18 behind the point"),
    ("plans:\n  p: {allowances: [{meter: cost, amount: 1}]}\n", 2, "plans.p.allowances[0].meter", "not cost"),
    ("plans:\n  p: {allowances: [{meter: tokens, amount: 1.5}]}\n", 2, "plans.p.allowances[0].amount", "whole number"),
    ("plans:\n  p: [{from: 2026-01-01}, {from: 2026-01-01}]\n", 2, "plans.p[1]", "not after the one before"),
    (CHARGE % "meter: inptu, model: flat, price: 1", 4, "plans.p.charges[0].meter", "did you mean 'input'?"),
    (CHARGE % "meter: input, price: 1", 4, "plans.p.charges[0]", "model is missing"),
    (CHARGE % "meter: input, model: tiered, price: 1", 4, "plans.p.charges[0].model", "not known"),
    (CHARGE % "meter: input, model: per_unit", 4, "plans.p.charges[0]", "price is missing"),
    (CHARGE % "meter: input, model: per_unit, price: -1", 4, "plans.p.charges[0].price", "at least 0"),
    (CHARGE % "meter: input, model: per_unit, price: 1, per: 3", 4, "plans.p.charges[0].per", "exactly"),
    (CHARGE % "meter: input, model: per_unit, price: 1, per: 0", 4, "plans.p.charges[0].per", "at least 1"),
    (CHARGE % "meter: input, model: flat, price: 1, size: 5", 4, "plans.p.charges[0].size", "no meaning"),
    (CHARGE % "meter: input, model: package, price: 1", 4, "plans.p.charges[0]", "size is missing"),
    (CHARGE % "meter: input, model: markup, markup: 1", 4, "plans.p.charges[0].meter", "belong together"),
    (CHARGE % "meter: cost, model: per_unit, price: 1", 4, "plans.p.charges[0].meter", "belong together"),
    (CHARGE % "meter: input, model: volume, tiers: []", 4, "plans.p.charges[0].tiers", "at least one tier"),
    (
        CHARGE % "meter: input, model: volume, tiers: [{up_to: 5, price: 1}]",
        4,
        "plans.p.charges[0].tiers[0].up_to",
        "last tier must be open",
    ),
    (
        CHARGE % "meter: input, model: volume, tiers: [{price: 1}, {price: 2}]",
        4,
        "plans.p.charges[0].tiers[0]",
        "only the last tier is open",
    ),
    (
        CHARGE % "meter: input, model: graduated, tiers: [{up_to: 5, price: 1}, {up_to: 5, price: 1}, {price: 2}]",
        4,
        "plans.p.charges[0].tiers[1].up_to",
        "not above the tier before",
    ),
    (QUOTA % "meter: tokens, window: day", 4, "tenants.a.quotas[0]", "name is missing"),
    (QUOTA % "name: n, meter: tokens, window: week", 4, "tenants.a.quotas[0].window", "use minute, hour, day, month"),
    (QUOTA % "name: n, meter: tokens, limit: 1.5, window: day", 4, "tenants.a.quotas[0].limit", "whole units"),
    (QUOTA % "name: n, meter: tokens, window: day, alert_at: [0]", 4, "tenants.a.quotas[0].alert_at[0]", "above 0"),
    (
        QUOTA % "name: n, meter: tokens, window: day, alert_at: [80]",
        4,
        "tenants.a.quotas[0].alert_at[0]",
        "0.8 for 80 %",
    ),
    (
        QUOTA % "name: n, meter: tokens, window: day}\n      - {name: n, meter: cost, window: day",
        5,
        "tenants.a.quotas[1]",
        "already stands at tenants.a.quotas[0]",
    ),
    (PRICE % "model: m, per: 1, input: 1", 2, "provider_prices[0]", "provider is missing"),
    (PRICE % "provider: openai, model: m, input: 1", 2, "provider_prices[0]", "per is missing"),
    (PRICE % "provider: openai, model: m, per: 1", 2, "provider_prices[0]", "has no price"),
    (PRICE % "provider: openai, model: 'm*', per: 1, input: 1", 2, "provider_prices[0].model", "pattern"),
    (PRICE % "provider: openai, model: m, per: 1, inputs: 1", 2, "provider_prices[0].inputs", "did you mean 'input'?"),
    (
        PRICE % "provider: openai, model: m, per: 1, input: 1, service_tier: fast",
        2,
        "provider_prices[0].service_tier",
        "use",
    ),
    (
        PRICE % "provider: openai, model: m, per: 1, input: 1}\n  - {provider: openai, model: m, per: 1, input: 2",
        3,
        "provider_prices[1]",
        "provider_prices[0] has a price for input from the same date",
    ),
    (
        PRICE % "provider: google, model: m, per: 1, input: 1}\n  - {provider: gemini, model: m, per: 1, input: 2",
        3,
        "provider_prices[1]",
        "from the same date",
    ),
    (
        PRICE % "provider: openai, model: m, per: 1, input: 1}\n"
        "  - {provider: openai, model: m, per: 1, output: 2, currency: EUR",
        3,
        "provider_prices[1]",
        "one currency",
    ),
    ("tenants: {a: }\ncredits:\n  - {tenant: a, amount: 1}\n", 3, "credits[0]", "id is missing"),
    ("tenants: {a: }\ncredits:\n  - {id: c, tenant: a, amount: 0}\n", 3, "credits[0].amount", "above 0"),
    ("credits:\n  - {id: c, tenant: a, amount: 1}\n", 2, "credits[0].tenant", "unknown tenant 'a': there is none"),
    (
        "tenants: {a: }\ncredits:\n  - {id: c, tenant: a, amount: 1, from: 2026-02-01, expires: 2026-02-01}\n",
        3,
        "credits[0].expires",
        "never be valid",
    ),
    (
        "tenants: {a: }\ncredits:\n  - {id: c, tenant: a, amount: 1}\n  - {id: c, tenant: a, amount: 1}\n",
        4,
        "credits[1]",
        "already stands at credits[0]",
    ),
    ("taxes:\n  - {country: DE, rate: 19}\n", 2, "taxes[0].rate", "0.19 for 19 %"),
    ("taxes:\n  - {country: de, rate: '0.19'}\n", 2, "taxes[0].country", "write DE"),
    ("taxes:\n  - {country: DE, rate: 0}\n  - {country: DE, rate: 0}\n", 3, "taxes[1]", "already stands"),
    ("exchange_rates:\n  - {from: USD, to: EUR, rate: 1}\n", 2, "exchange_rates[0]", "date is missing"),
    ("exchange_rates:\n  - {from: USD, to: USD, rate: 1, date: 2026-01-01}\n", 2, "exchange_rates[0].to", "no rate"),
    ("exchange_rates:\n  - {from: USD, to: EUR, rate: 0, date: 2026-01-01}\n", 2, "exchange_rates[0].rate", "above 0"),
    ("invoicing: {grace: 48}\n", 1, "invoicing.grace", "with a unit"),
    ("invoicing: {grace: ''}\n", 1, "invoicing.grace", "with a unit"),
    ("invoicing: {adjust: later}\n", 1, "invoicing.adjust", "use next_invoice, credit_note"),
    ("invoicing: {auto_finalize: true}\n", 1, "invoicing.auto_finalize", "did you mean 'auto_finalise'?"),
    ("alerts: {on_leak: stop}\n", 1, "alerts.on_leak", "use alert, throttle, suspend"),
    ("alerts: {sinks: [{kinds: [leak]}]}\n", 1, "alerts.sinks[0]", "url is missing"),
    ("alerts: {sinks: [{url: 'a', kinds: [leek]}]}\n", 1, "alerts.sinks[0].url", "not a URL"),
]


def errors_of(text: str) -> list[CatalogError]:
    found = parse_yaml(text)
    assert isinstance(found, list), "the catalog was accepted"
    return found


@pytest.mark.parametrize(("text", "line", "path", "part"), BROKEN)
def test_a_mistake_is_named_with_line_path_and_what_to_do(text: str, line: int, path: str, part: str) -> None:
    found = errors_of(text)
    matching = [error for error in found if error.path == path and part in error.message]
    assert matching, [str(error) for error in found]
    assert matching[0].line == line


@pytest.mark.parametrize(("text", "line", "path", "part"), BROKEN)
def test_an_error_is_one_line(text: str, line: int, path: str, part: str) -> None:
    assert all("\n" not in str(error) for error in errors_of(text))


def test_one_mistake_is_one_error() -> None:
    noisy = {"alerts: {sinks: [{url: 'a', kinds: [leek]}]}\n"}  # two mistakes on purpose
    for text, _, path, _ in BROKEN:
        if text not in noisy:
            assert len(errors_of(text)) == 1, (path, [str(error) for error in errors_of(text)])


def test_all_mistakes_come_at_once_in_order_of_lines() -> None:
    text = TENANT % "plan: tema" + "taxes: [{country: DE, rate: 19}]\ninvoicing: {grace: soon}\ncurency: USD\n"
    assert [(error.line, error.path) for error in errors_of(text)] == [
        (4, "tenants.acme.plan"),
        (5, "taxes[0].rate"),
        (6, "invoicing.grace"),
        (7, "curency"),
    ]


def test_an_error_reads_as_one_line_for_people() -> None:
    assert str(errors_of(TENANT % "plan: tema")[0]) == (
        "line 4: tenants.acme.plan: unknown plan 'tema': did you mean 'team'?"
    )


def test_a_secret_is_not_repeated_in_the_error() -> None:
    for text in (text for text, *_, part in BROKEN if part == "looks like a secret"):
        assert "abcdefghijklmnop" not in " ".join(str(error) for error in errors_of(text))


def test_an_odd_key_cannot_break_the_line() -> None:
    found = parse_data({"plans": {"a\nb\ud800": {"minimum": "x"}}})
    assert isinstance(found, list)
    assert str(found[0]).startswith("plans.a\\nb\\ud800: an id is 1 to 256 printable characters")


def test_data_has_paths_without_lines() -> None:
    found = parse_data({"plans": {"p": {"minimum": "x"}}, "keys": {"k": {"provider": "openai", "kind": "bare"}}})
    assert isinstance(found, list)
    assert {(error.line, error.path) for error in found} == {(None, "plans.p.minimum"), (None, "keys.k.kind")}


def test_nested_aliases_do_not_grow_beyond_the_bound() -> None:
    layers = ["plans: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"k{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10)]
    found = errors_of("\n".join(layers))
    assert any("values, aliases followed" in error.message for error in found)


def test_depth_is_bounded() -> None:
    assert "nested deeper than 64" in errors_of("plans: " + "[" * 100 + "]" * 100)[0].message
    assert "nested deeper than 64" in errors_of("- " * 5000 + "x")[0].message
    assert len(errors_of("plans: " + "{" * 50_000)) == 1
    nested: list[object] = []
    for _ in range(5000):
        nested = [nested]
    found = parse_data({"plans": nested})
    assert isinstance(found, list)
    assert "nested deeper" in found[0].message
