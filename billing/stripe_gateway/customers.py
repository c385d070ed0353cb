"""Tenants as Stripe's customers: by the id in the catalog, else by `metadata.tenant`, else made if allowed."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import stripe

from billing.stripe_gateway.calls import Caller, Gone, Refused
from billing.stripe_gateway.lines import short
from billing.stripe_gateway.store import PushStore
from schemas.catalog import Tenant


@dataclass(slots=True)
class Customers:
    """Finds customers. Stripe lists none by metadata, and its search lags: so all are read once a run, when needed."""

    client: stripe.StripeClient
    store: PushStore
    create: bool
    _by_tenant: dict[str, str] | None = None
    _lock: Lock = field(default_factory=Lock)

    def find(self, caller: Caller, tenant: Tenant, *, make: bool) -> str:
        """The id of the tenant's customer; empty if there is none and make is off. Refused where a person must act."""
        kept = (self.store.get(f"customer/{tenant.id}") or {}).get("stripe_id")
        named = tenant.billing.stripe_customer
        if named is not None:
            if kept != named:
                self._check(caller, named)
                self.store.put(f"customer/{tenant.id}", {"stripe_id": named})
            return named
        if kept:
            return kept
        found = self._index(caller, again=False).get(tenant.id)
        if found is None:
            if not make:
                return ""
            if not self.create:
                raise Refused("no_customer", f"tenant {tenant.id} has no customer at Stripe, and none may be made")
            found = self._make(caller, tenant)
        self.store.put(f"customer/{tenant.id}", {"stripe_id": found})
        return found

    def forget(self, tenant: Tenant) -> None:
        """Look the tenant's customer up anew the next time: Stripe no longer takes the one we knew."""
        self.store.put(f"customer/{tenant.id}", {})
        with self._lock:
            self._by_tenant = None

    def _check(self, caller: Caller, customer: str) -> None:
        try:
            found = self._read(caller, customer)
        except Gone:
            raise Refused("no_customer", f"Stripe knows no customer {customer}: correct stripe_customer") from None
        if getattr(found, "deleted", False):  # the answer has the field only then
            raise Refused("no_customer", f"customer {customer} was deleted at Stripe")

    def _index(self, caller: Caller, *, again: bool) -> dict[str, str]:
        """Customer by tenant. Two customers of one tenant: the older one, which was there first."""
        with self._lock:
            if self._by_tenant is None or again:
                index: dict[str, str] = {}
                for customer in caller.pages(self.client.v1.customers.list):
                    tenant = (customer.metadata.to_dict() if customer.metadata else {}).get("tenant")
                    if tenant is not None:
                        index[tenant] = customer.id
                self._by_tenant = index
            return self._by_tenant

    def _make(self, caller: Caller, tenant: Tenant) -> str:
        billing = tenant.billing
        params: dict[str, Any] = {"name": tenant.name or tenant.id, "metadata": {"tenant": tenant.id}}
        if billing.email:
            params["email"] = billing.email
        if billing.address or billing.country:
            address = {"line1": billing.address, "country": billing.country}
            params["address"] = {key: value for key, value in address.items() if value}
        made: Any = params

        def find() -> stripe.Customer | None:
            found = self._index(caller, again=True).get(tenant.id)
            return None if found is None else self._read(caller, found)

        step = f"customer:{short(tenant.id)}"
        return caller.once(step, find, lambda options: self.client.v1.customers.create(made, options)).id

    def _read(self, caller: Caller, customer: str) -> stripe.Customer:
        return caller.read(lambda options: self.client.v1.customers.retrieve(customer, None, options))
