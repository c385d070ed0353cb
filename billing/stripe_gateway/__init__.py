"""Invoices to Stripe and back: the only room that knows Stripe. See README.md."""

from billing.stripe_gateway.book import BookSummary, push_book
from billing.stripe_gateway.calls import Pace, Refused, Unreachable
from billing.stripe_gateway.client import KeyRefused, make_client, probe
from billing.stripe_gateway.drift import Drift, drift
from billing.stripe_gateway.gateway import StripeGateway
from billing.stripe_gateway.meters import (
    MeterDrift,
    MeterReading,
    MeterResult,
    hourly_readings,
    meter_drift,
    push_meter_events,
)
from billing.stripe_gateway.month import MonthSummary, push_month
from billing.stripe_gateway.notes import NoteResult, push_credit_note, push_void
from billing.stripe_gateway.result import PushResult, Settings
from billing.stripe_gateway.statuses import EVENT_TYPES, StatusUpdate
from billing.stripe_gateway.store import FileStore, MemoryStore, PushStore
from billing.stripe_gateway.sync import SyncResult, sync
from billing.stripe_gateway.webhook import WebhookRefused, WebhookResult, handle_webhook

__all__ = [
    "EVENT_TYPES",
    "BookSummary",
    "Drift",
    "FileStore",
    "KeyRefused",
    "MemoryStore",
    "MeterDrift",
    "MeterReading",
    "MeterResult",
    "MonthSummary",
    "NoteResult",
    "Pace",
    "PushResult",
    "PushStore",
    "Refused",
    "Settings",
    "StatusUpdate",
    "StripeGateway",
    "SyncResult",
    "Unreachable",
    "WebhookRefused",
    "WebhookResult",
    "drift",
    "handle_webhook",
    "hourly_readings",
    "make_client",
    "meter_drift",
    "probe",
    "push_book",
    "push_credit_note",
    "push_meter_events",
    "push_month",
    "push_void",
    "sync",
]
