"""The sign-in at an issuer in Chromium, across two sites, so that the browser's own rules for cookies hold."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from pipeline.ledger.tables import sessions
from tests.integration.api.issuers import CLIENT, operator_issuer
from tests.integration.api.kit import NOW_US, House
from tests.integration.api.sites import served
from tests.integration.api.test_browser import Visit, faults
from tollhouse.dashboard.sessions import COOKIE
from tollhouse.ports import listen

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_person_signs_in_at_the_issuer_works_and_signs_out(
    browser: Browser, sqlite_url: str, tmp_path: Path, scheme: str
) -> None:
    listener = listen("127.0.0.1", 0)
    base = f"http://localhost:{listener.getsockname()[1]}"  # the issuer is at 127.0.0.1: another site
    with operator_issuer(lambda: NOW_US // 1_000_000) as issuer:
        issuer.page, issuer.person = True, {"sub": "ada", "groups": ["ops"]}
        house = House(
            sqlite_url, tmp_path, base_url=base, sign_in_issuer=issuer.url, sign_in_client_id=CLIENT,
            sign_in_roles="ops=oncall",
        )  # fmt: skip
        with served(house, listener):
            context = browser.new_context(color_scheme=scheme)
            visit = Visit(context.new_page(), base)
            page = visit.open("/sign-in")
            assert faults(page) == []
            visit.follow("Sign in at")
            assert page.url.startswith(f"{issuer.url}/authorize?")
            page.get_by_role("link", name="Yes, it is me").click()
            page.wait_for_url(f"{base}/")
            assert "ada · oncall" in page.inner_text("header")
            cookie = next(one for one in context.cookies() if one["name"] == COOKIE)
            assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
            assert page.evaluate("document.cookie") == ""
            visit.open("/keys")
            visit.press("Suspend openai-pool-1")
            assert "suspended" in visit.main()
            visit.press("Sign out")
            assert "Sign in" in visit.main()
            page.goto(f"{base}/keys")
            assert "sign in at /sign-in" in page.content()
            assert house.ledger.rows(sessions) == []
            page.go_back()
            assert "Sign in" in visit.main()
            issuer.person["groups"] = ["guests"]
            visit.open("/sign-in")
            visit.follow("Sign in at")
            page.get_by_role("link", name="Yes, it is me").click()
            page.get_by_role("alert").wait_for()
            assert "no value that is a role here" in visit.main()
            assert faults(page) == []
            context.close()
