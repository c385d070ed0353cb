"""A stateful double of the part of Stripe that billing uses: for demonstrations and tests, on the loopback address.

>>> handle = start()          # a server on a free port of 127.0.0.1
>>> handle.url                # the base address for the SDK; any key that starts with sk_test_ will do
>>> handle.double.invoices()  # what it holds
>>> handle.stop()
"""

from tollhouse.stripe_double.behaviours import BEHAVIOURS, NOT_MODELLED
from tollhouse.stripe_double.errors import ApiError, ConnectionDropped
from tollhouse.stripe_double.faults import Fault
from tollhouse.stripe_double.server import Handle, start
from tollhouse.stripe_double.service import Answer, StripeDouble

__all__ = [
    "BEHAVIOURS",
    "NOT_MODELLED",
    "Answer",
    "ApiError",
    "ConnectionDropped",
    "Fault",
    "Handle",
    "StripeDouble",
    "start",
]
