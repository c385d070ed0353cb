"""`POST /v1/stripe/webhook`: what Stripe says about our invoices. The signature is over the raw bytes."""

from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from billing.stripe_gateway import Refused, Unreachable, WebhookRefused, handle_webhook
from schemas.instants import SECOND_US
from tollhouse.api.bodies import raw_body
from tollhouse.api.problems import Problem
from tollhouse.api.state import Api, api_of
from tollhouse.errors import UserError
from tollhouse.stripe_push import apply_update, gateway_of

router = APIRouter(tags=["stripe"])
_log = structlog.get_logger("tollhouse.api")


@router.post("/v1/stripe/webhook", summary="Deliveries from Stripe")
async def webhook(request: Request) -> JSONResponse:
    """200 for whatever was delivered by Stripe; 400 for what was not; 503 where it should be delivered again."""
    raw = await raw_body(request)
    signature = request.headers.get("stripe-signature", "")
    return JSONResponse(await run_in_threadpool(_handle, api_of(request), raw, signature))


def _handle(api: Api, raw: bytes, signature: str) -> dict[str, Any]:
    try:
        secrets = [part for part in api.settings.secret("STRIPE_WEBHOOK_SECRET").split(",") if part]
        gateway = gateway_of(api.settings, api.ledger, live=True)
    except UserError as error:
        _log.error("webhook without settings", error=str(error))
        detail = "this installation has no Stripe key or no webhook secret"
        raise Problem(404, "stripe_not_configured", detail) from None
    now_us = api.now_us()
    try:
        result = handle_webhook(
            gateway,
            raw,
            signature,
            secrets,
            lambda update: void(apply_update(api.ledger, update, now_us)),
            now_us // SECOND_US,
        )
    except WebhookRefused as refused:
        raise Problem(400, refused.reason, str(refused)) from None
    except (Unreachable, Refused) as error:
        _log.warning("stripe does not answer", error=str(error))
        detail = "Stripe could not be asked about the invoice: deliver again"
        raise Problem(503, "stripe_unavailable", detail) from None
    return {"outcome": result.outcome, "event": result.event_id}


def void(_value: object) -> None:
    """For a callback whose result does not matter."""
