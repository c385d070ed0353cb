"""Markup in names, events and alerts: on no page does it become more than text, and nothing foreign may run there."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from fastapi.routing import APIRoute

from pipeline.alerting import Alert
from tests.integration.api.kit import House, catalog
from tollhouse.dashboard.routers import ROUTERS

MARKUP = '"><img src=x onerror=alert(1)>'
SCRIPT = "<script>alert(2)</script>"
OTHER = "'><svg/onload=alert(3)>"


def test_a_name_that_is_markup_stays_text(sqlite_url: str, tmp_path: Path) -> None:
    house = House(sqlite_url, tmp_path)
    try:
        tenants = {MARKUP: {"name": SCRIPT, "plan": "team", "quotas": [
            {"name": OTHER, "meter": "tokens", "limit": 10000, "window": "month"}]}}  # fmt: skip
        keys = {OTHER: {"provider": "openai", "kind": "pooled"}}
        house.ledger.apply(catalog(tenants=tenants, keys=keys), house.now_us - 35 * 86_400_000_000, SCRIPT)
        house.count(house.event("e1", tenant=MARKUP, key=OTHER, model=SCRIPT, user=MARKUP, agent=SCRIPT))
        alert = Alert(MARKUP, house.now_us, "leak", "page", f"{MARKUP}/{OTHER}", SCRIPT, {"since_us": house.now_us})
        house.ledger.raise_alerts([alert])
        house.ledger.set_key_state(OTHER, "suspended", house.now_us, MARKUP, SCRIPT)
        bad = house.client.post("/v1/events", json={"id": SCRIPT}, headers=house.proxy())
        assert bad.status_code < 500
        client = house.client
        client.post("/sign-in", data={"token": house.token("operator", "ada", role="admin")})
        seen, shown = 0, ""
        names = {"key": OTHER, "alert_id": MARKUP, "name": "2026-10"}
        for route in (route for router in ROUTERS for route in router.routes):
            if not isinstance(route, APIRoute) or "GET" not in route.methods:
                continue
            path = re.sub(r"{(\w+)(?::path)?}", lambda f: quote(names.get(f[1], MARKUP), safe=""), route.path)
            answer = client.get(path)
            assert answer.status_code < 500, (path, answer.text)
            if "text/html" not in answer.headers.get("content-type", ""):
                continue
            seen += 1
            shown += answer.text
            for text in (MARKUP, SCRIPT, OTHER):
                assert text not in answer.text, path
            for sign in ("<img src=x", "<svg/onload", "<script>alert"):
                assert sign not in answer.text, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "script-src *" not in policy
            assert "unsafe-eval" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
        assert seen >= 5
        assert "&lt;script&gt;alert(2)" in shown  # so the names were there
    finally:
        house.close()
