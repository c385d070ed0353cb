"""The double itself: what it must refuse, replay and forget. What it shares with Stripe is in the contract tests."""

import hashlib
import hmac
import json
from typing import Any

import pytest

from tollhouse.stripe_double import BEHAVIOURS, NOT_MODELLED, ConnectionDropped, Fault, StripeDouble

NOW_S = 1_793_750_400
HEADERS = {"authorization": "Bearer sk_test_x"}


@pytest.fixture
def double() -> StripeDouble:
    return StripeDouble(lambda: NOW_S)


def ask(double: StripeDouble, method: str, path: str, body: str = "", key: str | None = None) -> tuple[int, Any]:
    headers = HEADERS | ({"idempotency-key": key} if key else {})
    query, form = (body, "") if method == "GET" else ("", body)
    answer = double.handle(method, path, query, form, headers)
    return answer.status, json.loads(answer.body)


def test_only_test_keys_are_served(double: StripeDouble) -> None:
    for token in ("", "Bearer sk_live_x", "Basic sk_test_x"):
        assert double.handle("GET", "/v1/customers", "", "", {"authorization": token}).status == 401


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/customers", "naem=x", "naem"),
        ("/v1/customers", "address[lien1]=x", "address[lien1]"),
        ("/v1/customers", "balance=1.5", "balance"),
        ("/v1/customers", "metadata[a]=" + "x" * 501, "metadata"),
        ("/v1/customers", "metadata[" + "k" * 41 + "]=x", "metadata"),
        ("/v1/customers", "&".join(f"metadata[k{n}]=x" for n in range(51)), "metadata"),
        ("/v1/customers", "metadata=x", "metadata"),
        ("/v1/customers", "api_key=x", "api_key"),
        ("/v1/invoices", "customer=c&collection_method=sned_invoice", "collection_method"),
        ("/v1/invoices", "customer=c&auto_advance=True", "auto_advance"),
        ("/v1/invoices", "description=x", "customer"),
        ("/v1/invoices/in_1/add_lines", "", "lines"),
        ("/v1/invoices/in_1/add_lines", "lines=x", "lines"),
        ("/v1/invoices/in_1/add_lines", "lines[0][amount]=5&lines[0][period][start]=1", "lines[0][period][end]"),
        ("/v1/invoices/in_1/add_lines", "lines[1][amount]=5", "lines"),
        ("/v1/invoices/in_1/add_lines", "lines[0][quantity_decimal]=0.1234567890123", "lines[0][quantity_decimal]"),
        ("/v1/invoiceitems", "price=price_1", "price"),
        ("/v1/invoiceitems", "unit_amount=5", "unit_amount"),
    ],
)
def test_wrong_parameters_are_refused_by_name_and_not_kept(
    double: StripeDouble, path: str, body: str, param: str
) -> None:
    status, answer = ask(double, "POST", path, body, key="k")
    assert (status, answer["error"]["param"]) == (400, param)
    assert double.account.keys == {}


def test_unknown_urls_and_objects_are_404(double: StripeDouble) -> None:
    assert ask(double, "GET", "/v1/nothing")[0] == 404
    assert ask(double, "GET", "/v1/invoices/in_none")[0] == 404


def test_a_key_replays_and_other_parameters_are_an_error(double: StripeDouble) -> None:
    first = ask(double, "POST", "/v1/customers", "name=a", key="k")
    assert ask(double, "POST", "/v1/customers", "name=a", key="k") == first
    status, answer = ask(double, "POST", "/v1/customers", "name=b", key="k")
    assert (status, answer["error"]["type"]) == (400, "idempotency_error")
    assert ask(double, "POST", "/v1/customers", "name=a", key="k" * 256)[0] == 400
    assert [seen.replayed for seen in double.requests] == [False, True, False, False]
    double.advance(86_400)
    assert ask(double, "POST", "/v1/customers", "name=b", key="k")[0] == 200


def test_a_stored_500_is_replayed_and_a_503_that_was_not_begun_is_not(double: StripeDouble) -> None:
    double.faults.add(Fault("status", status=500))
    assert [ask(double, "POST", "/v1/customers", "name=a", key="k")[0] for _ in range(2)] == [500, 500]
    double.faults.add(Fault("status", status=503, stored=False))
    assert [ask(double, "POST", "/v1/customers", "name=a", key="other")[0] for _ in range(2)] == [503, 200]


def test_a_lost_answer_was_done_and_a_lost_request_was_not(double: StripeDouble) -> None:
    for kind, made in (("drop_before", 0), ("drop_after", 1)):
        double.faults.add(Fault(kind))
        with pytest.raises(ConnectionDropped):
            ask(double, "POST", "/v1/customers", "name=a", key=kind)
        assert len(double.account.all("customer")) == made
    assert ask(double, "POST", "/v1/customers", "name=a", key="drop_after")[0] == 200
    assert len(double.account.all("customer")) == 1


def test_over_the_rate_is_429_with_a_reason_until_the_second_is_over() -> None:
    double = StripeDouble(lambda: NOW_S, rate_per_s=2)
    assert [ask(double, "GET", "/v1/customers")[0] for _ in range(3)] == [200, 200, 429]
    double.advance(1)
    assert ask(double, "GET", "/v1/customers")[0] == 200


def test_pages_follow_cursors_both_ways_and_end(double: StripeDouble) -> None:
    for n in range(25):
        ask(double, "POST", "/v1/customers", f"name={n}")
    _, first = ask(double, "GET", "/v1/customers")
    assert ([c["name"] for c in first["data"]], first["has_more"], first["url"]) == (
        [str(n) for n in range(24, 14, -1)], True, "/v1/customers",
    )  # fmt: skip
    _, second = ask(double, "GET", "/v1/customers", f"limit=100&starting_after={first['data'][-1]['id']}")
    assert ([c["name"] for c in second["data"]], second["has_more"]) == ([str(n) for n in range(14, -1, -1)], False)
    _, back = ask(double, "GET", "/v1/customers", f"limit=4&ending_before={second['data'][0]['id']}")
    assert ([c["name"] for c in back["data"]], back["has_more"]) == (["18", "17", "16", "15"], True)
    assert ask(double, "GET", "/v1/customers", "limit=101")[0] == 400
    assert ask(double, "GET", "/v1/customers", "limit=0")[0] == 400


def invoice(double: StripeDouble, amount: int, currency: str = "usd", also: str = "") -> Any:
    _, customer = ask(double, "POST", "/v1/customers", "name=a")
    body = f"customer={customer['id']}&currency={currency}{also}"
    _, made = ask(double, "POST", "/v1/invoices", body)
    status, line = ask(
        double, "POST", "/v1/invoiceitems", f"invoice={made['id']}&amount={amount}&customer={customer['id']}"
    )
    assert status == 200, line
    return made


def test_the_states_of_an_invoice_and_the_moves_that_there_are_not(double: StripeDouble) -> None:
    path = f"/v1/invoices/{invoice(double, 500)['id']}"
    assert [ask(double, "POST", f"{path}/{move}")[0] for move in ("void", "mark_uncollectible", "send")] == [400] * 3
    assert ask(double, "POST", f"{path}/finalize")[1]["status"] == "open"
    assert ask(double, "POST", f"{path}/finalize")[0] == 400
    assert ask(double, "DELETE", path)[0] == 400
    assert ask(double, "POST", path, "description=x")[0] == 400
    assert ask(double, "POST", path, "metadata[a]=b")[1]["metadata"] == {"a": "b"}
    assert ask(double, "POST", f"{path}/mark_uncollectible")[1]["status"] == "uncollectible"
    assert ask(double, "POST", f"{path}/pay", "paid_out_of_band=true")[1]["status"] == "paid"
    assert [ask(double, "POST", f"{path}/{move}")[0] for move in ("void", "mark_uncollectible", "pay")] == [400] * 3


def test_sums_balance_and_the_minimum_charge(double: StripeDouble) -> None:
    small = invoice(double, 49)
    _, paid = ask(double, "POST", f"/v1/invoices/{small['id']}/finalize")
    assert (paid["status"], paid["total"], paid["amount_paid"], paid["ending_balance"]) == ("paid", 49, 0, 49)
    negative = invoice(double, -300)
    _, credit = ask(double, "POST", f"/v1/invoices/{negative['id']}/finalize")
    assert (credit["status"], credit["amount_due"], credit["ending_balance"]) == ("paid", 0, -300)
    _, rate = ask(double, "POST", "/v1/tax_rates", "display_name=VAT&inclusive=false&percentage=19")
    taxed = invoice(double, 150, also=f"&default_tax_rates[0]={rate['id']}")
    assert ask(double, "GET", f"/v1/invoices/{taxed['id']}")[1]["total"] == 179  # 28.5 goes up
    _, within = ask(double, "POST", "/v1/tax_rates", "display_name=VAT&inclusive=true&percentage=19")
    inclusive = invoice(double, 119, also=f"&default_tax_rates[0]={within['id']}")
    _, shown = ask(double, "GET", f"/v1/invoices/{inclusive['id']}")
    assert (shown["total"], shown["total_excluding_tax"]) == (119, 100)


@pytest.mark.parametrize(("currency", "amount"), [("kwd", 1235), ("isk", 550)])
def test_amounts_that_a_currency_has_not_are_refused(double: StripeDouble, currency: str, amount: int) -> None:
    with pytest.raises(AssertionError, match="digit"):
        invoice(double, amount, currency)


def test_an_empty_invoice_does_not_finalise(double: StripeDouble) -> None:
    _, customer = ask(double, "POST", "/v1/customers", "name=a")
    _, made = ask(double, "POST", "/v1/invoices", f"customer={customer['id']}")
    status, answer = ask(double, "POST", f"/v1/invoices/{made['id']}/finalize")
    assert (status, answer["error"]["code"]) == (400, "invoice_no_customer_line_items")


def test_a_test_clock_goes_forward_only_and_dates_its_customers_invoices(double: StripeDouble) -> None:
    _, clock = ask(double, "POST", "/v1/test_helpers/test_clocks", f"frozen_time={NOW_S - 86_400}")
    _, customer = ask(double, "POST", "/v1/customers", f"name=a&test_clock={clock['id']}")
    advance = f"/v1/test_helpers/test_clocks/{clock['id']}/advance"
    assert ask(double, "POST", advance, f"frozen_time={NOW_S - 90_000}")[0] == 400
    assert ask(double, "POST", advance, f"frozen_time={NOW_S + 5}")[0] == 200
    _, made = ask(double, "POST", "/v1/invoices", f"customer={customer['id']}")
    assert made["created"] == NOW_S + 5
    assert ask(double, "DELETE", f"/v1/test_helpers/test_clocks/{clock['id']}")[1]["deleted"]
    assert ask(double, "GET", f"/v1/customers/{customer['id']}")[1] == {
        "id": customer["id"], "object": "customer", "deleted": True,
    }  # fmt: skip


def test_events_are_listed_for_30_days_by_type_and_wildcard_and_signed(double: StripeDouble) -> None:
    invoice(double, 500)
    _, listed = ask(double, "GET", "/v1/events", "types[0]=invoice.*")
    assert {event["type"] for event in listed["data"]} == {"invoice.created", "invoice.updated"}
    body, signature = double.deliveries("whsec_x")[0]
    at, digest = (part.split("=")[1] for part in signature.split(","))
    assert hmac.new(b"whsec_x", f"{at}.".encode() + body, hashlib.sha256).hexdigest() == digest
    assert json.loads(body)["type"] == "customer.created"
    double.advance(31 * 86_400)
    assert ask(double, "GET", "/v1/events")[1]["data"] == []


def test_what_is_modelled_names_its_page() -> None:
    assert len(BEHAVIOURS) >= 30
    assert all("stripe" in page for _, page in BEHAVIOURS)
    assert NOT_MODELLED
