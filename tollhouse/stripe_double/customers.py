"""Customers, their payment method and balance; tax rates; test clocks."""

from typing import Any

from tollhouse.stripe_double.account import Account, Obj, Params, created_within, merge_metadata, page
from tollhouse.stripe_double.errors import invalid


def create(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/customers"""
    if "test_clock" in params:
        account.get("test_helpers.test_clock", params["test_clock"])
    settings = params.get("invoice_settings") or {}
    customer: dict[str, Any] = {
        "id": account.new_id("cus"),
        "object": "customer",
        "address": params.get("address") or None,
        "balance": params.get("balance", 0),
        "created": account.now_s(params),
        "currency": None,
        "default_source": None,
        "description": params.get("description"),
        "email": params.get("email"),
        "invoice_settings": {"default_payment_method": settings.get("default_payment_method")},
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "name": params.get("name"),
        "preferred_locales": [],
        "tax_exempt": "none",
        "test_clock": params.get("test_clock"),
    }
    account.add("customer", customer)
    account.emit("customer.created", customer)
    return customer


def retrieve(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """GET /v1/customers/:id; a deleted one answers with `deleted` alone."""
    customer = account.get("customer", ids[0])
    if customer.get("deleted"):
        return {"id": customer["id"], "object": "customer", "deleted": True}
    return customer


def update(account: Account, ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/customers/:id"""
    customer = live(account, ids[0])
    customer["metadata"] = merge_metadata(customer["metadata"], params.pop("metadata", None))
    if "invoice_settings" in params:
        customer["invoice_settings"].update(params.pop("invoice_settings"))
    customer.update({key: value for key, value in params.items() if key in customer})
    account.emit("customer.updated", customer)
    return customer


def delete(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """DELETE /v1/customers/:id"""
    customer = live(account, ids[0])
    customer["deleted"] = True
    account.emit("customer.deleted", customer)
    return {"id": customer["id"], "object": "customer", "deleted": True}


def list_(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """GET /v1/customers: filters on email, created and test clock only; there is none on metadata."""
    rows = [row for row in account.all("customer") if not row.get("deleted")]
    if "email" in params:
        rows = [row for row in rows if row["email"] == params["email"]]
    if "test_clock" in params:
        rows = [row for row in rows if row["test_clock"] == params["test_clock"]]
    return page(created_within(rows, params.get("created")), params, "/v1/customers")


def live(account: Account, customer_id: str) -> Obj:
    """The customer; ApiError 404 for an unknown or deleted one."""
    customer = account.get("customer", customer_id)
    if customer.get("deleted"):
        raise invalid(f"No such customer: '{customer_id}'", code="resource_missing", param="customer")
    return customer


def create_tax_rate(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/tax_rates"""
    rate = {
        "id": account.new_id("txr"),
        "object": "tax_rate",
        "active": params.get("active", True),
        "country": params.get("country"),
        "created": account.now_s(),
        "description": params.get("description"),
        "display_name": params["display_name"],
        "inclusive": params["inclusive"],
        "jurisdiction": params.get("jurisdiction"),
        "livemode": False,
        "metadata": params.get("metadata") or {},
        "percentage": params["percentage"],
    }
    return account.add("tax_rate", rate)


def list_tax_rates(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """GET /v1/tax_rates"""
    rows = [
        row
        for row in account.all("tax_rate")
        if all(row[name] == params[name] for name in ("active", "inclusive") if name in params)
    ]
    return page(rows, params, "/v1/tax_rates")


def create_clock(account: Account, _ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/test_helpers/test_clocks"""
    clock = {
        "id": account.new_id("clock"),
        "object": "test_helpers.test_clock",
        "created": account.now_s(),
        "deletes_after": account.now_s() + 30 * 86_400,
        "frozen_time": params["frozen_time"],
        "livemode": False,
        "name": params.get("name"),
        "status": "ready",
        "status_details": {},
    }
    return account.add("test_helpers.test_clock", clock)


def retrieve_clock(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """GET /v1/test_helpers/test_clocks/:id"""
    return account.get("test_helpers.test_clock", ids[0])


def advance_clock(account: Account, ids: tuple[str, ...], params: Params) -> Obj:
    """POST /v1/test_helpers/test_clocks/:id/advance: forward only."""
    clock = account.get("test_helpers.test_clock", ids[0])
    if params["frozen_time"] <= clock["frozen_time"]:
        raise invalid("A test clock advances only forward in time", param="frozen_time")
    clock["frozen_time"] = params["frozen_time"]
    return clock


def delete_clock(account: Account, ids: tuple[str, ...], _params: Params) -> Obj:
    """DELETE /v1/test_helpers/test_clocks/:id: its customers go with it."""
    account.get("test_helpers.test_clock", ids[0])
    del account.objects["test_helpers.test_clock"][ids[0]]
    for customer in account.objects.get("customer", {}).values():
        if customer["test_clock"] == ids[0]:
            customer["deleted"] = True
    return {"id": ids[0], "object": "test_helpers.test_clock", "deleted": True}
