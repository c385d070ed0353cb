"""Whatever text or data comes, the reader answers with a catalog or with errors, and never raises."""

import json
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog import CatalogError, parse_data, parse_yaml
from pipeline.catalog.amounts import (
    ALERTS_FIELDS,
    CREDIT_FIELDS,
    INVOICING_FIELDS,
    PRICE_FIELDS,
    RATE_FIELDS,
    TAX_FIELDS,
)
from pipeline.catalog.parse import CATALOG_FIELDS
from pipeline.catalog.plans import CHARGE_FIELDS, QUOTA_FIELDS, VERSION_FIELDS
from pipeline.catalog.tenants import BILLING_FIELDS, KEY_FIELDS, PARTY_FIELDS, TENANT_FIELDS
from schemas.catalog import Catalog

EXAMPLE = (Path(__file__).parents[3] / "examples" / "catalog.yaml").read_text(encoding="utf-8")
LINES = EXAMPLE.splitlines()

SNIPPETS = st.sampled_from(
    ["{", "}", "[", "]", ":", ": ", "- ", "&a ", "*a ", "<<: ", "!!int ", "! ", "'", '"', "|", ">", "?", "%", "@", "\t",
     "\n", "---\n", "...\n", "null", "~", "-1", "1e9", "2026-02-30", "9999-12-31", "0000-01-01", "\x00", "\ud800",
     "9" * 400, "per: 3", "from: ", "tiers: []", "up_to: 0", "models: ", "plan: nobody"]
)  # fmt: skip
WORDS = st.sampled_from(
    sorted(
        {
            *(*CATALOG_FIELDS, *TENANT_FIELDS, *BILLING_FIELDS, *PARTY_FIELDS, *KEY_FIELDS, *VERSION_FIELDS),
            *(*CHARGE_FIELDS, *QUOTA_FIELDS, *PRICE_FIELDS, *CREDIT_FIELDS, *TAX_FIELDS, *RATE_FIELDS),
            *(*INVOICING_FIELDS, *ALERTS_FIELDS, "amount", "proration", "up_to", "url", "kinds"),
        }
    )
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.decimals(),
    st.floats(),
    st.text(max_size=12),
    WORDS,
    st.sampled_from(["tokens", "cost", "per_unit", "markup", "pooled", "byok", "USD", "2026-10-01", "*"]),
)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=30,
)


def check(result: Catalog | list[CatalogError]) -> None:
    if isinstance(result, Catalog):
        json.dumps(result.source)
        assert parse_data(result.source) == result
    else:
        assert result
        assert all("\n" not in str(error) for error in result)


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    check(parse_yaml(text))


@settings(deadline=None, max_examples=150)
@given(st.lists(SNIPPETS | WORDS, max_size=40).map("".join))
def test_text_made_of_yaml_signs(text: str) -> None:
    check(parse_yaml(text))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_the_example_with_a_piece_put_in_or_cut_out(data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(LINES) - 1))
    line = LINES[i]
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, len(line)))
    changed = line[:start] + data.draw(SNIPPETS | WORDS | st.just("")) + line[end:]
    check(parse_yaml("\n".join([*LINES[:i], changed, *LINES[i + 1 :]])))


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(WORDS, DATA, max_size=6))
def test_any_data(data: dict[str, object]) -> None:
    check(parse_data(data))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_the_examples_data_with_a_value_replaced(data: st.DataObject) -> None:
    catalog = parse_yaml(EXAMPLE)
    assert isinstance(catalog, Catalog)
    document = json.loads(json.dumps(catalog.source))
    place, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
    place[key] = data.draw(DATA)
    check(parse_data(document))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**14, places=9))
def test_a_price_keeps_every_digit(price: Decimal) -> None:
    text = format(price, "f")
    for written in (text, f'"{text}"'):
        catalog = parse_yaml(f"plans: {{p: {{minimum: {written}}}}}")
        assert isinstance(catalog, Catalog)
        minimum = catalog.plans["p"].versions[0].minimum
        assert minimum is not None
        assert (minimum, minimum.as_tuple()) == (price, price.as_tuple())
