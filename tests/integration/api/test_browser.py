"""The pages in Chromium, on the demo's data and with a thousand tenants: what each role comes for is walked by hand,
and every page is held against axe-core's rules in both themes, on a desk and on a phone.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page

from pipeline.ledger.tables import key_states, rejected
from tests.integration.api.sites import TENANTS, Site, big_site, demo_site
from tollhouse.dashboard.shown import count
from tollhouse.tokens.revoked import revoke_before

AXE: Final = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
PHONE, DESK = 390, 1280
WAIT_MS: Final = 240_000
"""Two slow cores and whatever else they do: nothing here is about speed."""
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with demo_site(tmp_path_factory.mktemp("demo")) as site:
        yield site


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with big_site(tmp_path_factory.mktemp("big")) as site:
        yield site


class Visit:
    """A page that has signed in, and what its console complained about."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.complaints: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        # A picture that was still on its way when the page was left is given up by the browser, which is no fault.
        page.on("requestfailed", lambda r: self.complaints.append(r.url) if r.failure != "net::ERR_ABORTED" else None)

    def open(self, path: str) -> Page:
        answer = self.page.goto(self.address + path)
        assert answer is not None
        assert answer.status == 200, path
        return self.page

    def press(self, name: str) -> None:
        """Press a button that sends a form, and wait for what comes of it."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str | re.Pattern[str]) -> None:
        with self.page.expect_navigation():
            self.page.get_by_role("link", name=name).first.click()

    def main(self) -> str:
        return self.page.locator("main").inner_text()


@contextmanager
def visiting(browser: Browser, site: Site, token: str, **context: Any) -> Iterator[Visit]:
    """Signed in by the form, as a person does it; in the end nothing was complained about."""
    opened = browser.new_context(**context)
    visit = Visit(opened.new_page(), site.address)
    page = visit.open("/sign-in")
    page.get_by_label("Token").fill(token)
    visit.press("Sign in")
    page.wait_for_url(f"{site.address}/")
    yield visit
    assert visit.complaints == []
    opened.close()


def pages_of(site: Site) -> list[str]:
    return [
        "/", "/tenants", "/tenants/acme", "/keys", "/keys/openai-pool-1", "/alerts", f"/alerts/{site.leak}",
        "/invoices", "/invoices/acme/2026-10?show=evidence", "/invoices/acme/2026-10?show=push",
        "/invoices/acme/2026-11", "/invoices/push?month=2026-10", "/catalog", "/catalog/compare", "/pipeline",
    ]  # fmt: skip


def faults(page: Page) -> list[str]:
    """What axe-core finds, with the place; undecided contrast counts, so that no text is left unjudged."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run({resultTypes: ['violations', 'incomplete'], preload: false, iframes: false})")
    undecided = [one for one in found["incomplete"] if one["id"] == "color-contrast"]
    texts = []
    for one in [*found["violations"], *undecided]:
        texts += [f"{one['id']}: {node['html'][:160]}" for node in one["nodes"] if not _not_to_be_judged(node)]
    assert found["passes"], "axe did not run"
    return texts


def _not_to_be_judged(node: dict[str, Any]) -> bool:
    """Half beside what its table shows until it is scrolled, or a single figure, which axe never judges; both are of
    the colours of cells that are."""
    keys = [check["data"].get("messageKey") for check in node["any"] if isinstance(check.get("data"), dict)]
    return any(key in ("elmPartiallyObscured", "shortTextContent") for key in keys)


@pytest.mark.parametrize(("scheme", "width"), [("light", DESK), ("dark", PHONE)])
def test_every_page_passes_axe_fits_the_screen_and_loads_all_of_it(
    browser: Browser, demo: Site, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 900}
    with visiting(browser, demo, demo.token("admin"), color_scheme=scheme, viewport=size) as visit:
        for path in pages_of(demo):
            page = visit.open(path)
            assert faults(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} scrolls sideways"
            assert page.get_by_role("heading", level=1).count() == 1, path
            pictures = "[...document.images].every(i => i.complete && i.naturalWidth > 500 && i.alt.length > 20)"
            assert page.evaluate(pictures), path
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 16, 21)"
        assert dark == (scheme == "dark")
        visit.open("/")
        assert page.locator("img.plot").first.evaluate("image => image.currentSrc").endswith(f"theme={scheme}")


@pytest.mark.parametrize(("scheme", "width"), [("dark", DESK), ("light", PHONE)])
def test_sign_in_and_a_tenants_pages_pass_axe_too(browser: Browser, demo: Site, scheme: str, width: int) -> None:
    size = {"width": width, "height": 900}
    opened = browser.new_context(color_scheme=scheme, viewport=size)  # type: ignore[arg-type]
    page = opened.new_page()
    page.goto(f"{demo.address}/sign-in")
    page.get_by_label("Token").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    assert "Not signed in" in page.get_by_role("alert").inner_text()
    assert faults(page) == []
    opened.close()
    token = demo.house.token("tenant", "acme")
    with visiting(browser, demo, token, color_scheme=scheme, viewport=size) as visit:
        for path in ("/", "/invoices/acme/2026-10?show=evidence"):
            assert faults(visit.open(path)) == [], path
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_the_keyboard_reaches_the_content_first_then_each_control(browser: Browser, demo: Site) -> None:
    with visiting(browser, demo, demo.token("oncall")) as visit:
        page = visit.open(f"/alerts/{demo.leak}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.url.endswith("#main")
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        for control in ("feedback", "Acknowledge", "Resolve", "for_s", "Mute"):
            assert control in reached, reached
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_viewer_sees_every_page_and_can_do_nothing(browser: Browser, demo: Site) -> None:
    with visiting(browser, demo, demo.token("viewer")) as visit:
        for name in ("Tenants", "Keys", "Alerts", "Invoices", "Catalog", "Pipeline", "Overview"):
            visit.page.get_by_role("navigation", name="Sections").get_by_role("link", name=name).click()
            heading = visit.page.get_by_role("heading", level=1).inner_text()
            assert name.lower() in heading.lower()
            forms = visit.page.locator("main form[method=post]")
            assert forms.count() == 0, name
        visit.follow("globex/openai-pool-1")
        assert "New network: AS64666/ZZ" in visit.main()
        assert visit.page.locator("main form").count() == 0


def test_oncall_takes_the_leak_mutes_it_and_lets_the_key_go_again(browser: Browser, demo: Site) -> None:
    with visiting(browser, demo, demo.token("oncall")) as visit:
        page = visit.page
        visit.press("Acknowledge the alert about globex/openai-pool-1")
        assert "page, acked" in page.locator("#alerts").inner_text()
        visit.follow("globex/openai-pool-1")
        page.get_by_label("What it is").select_option("a leak")
        visit.press("Acknowledge")
        page.get_by_label("Keep quiet").select_option("an hour")
        visit.press("Mute")
        text = visit.main()
        for part in ("called leak", "muted until 2026-11-03 13:00", "alert.mute", "operator:oncall-1"):
            assert part in text, part
        visit.open("/keys")
        visit.follow("openai-pool-1")
        assert "The highest hours" in visit.main()
        page.get_by_label("Reason, for the audit log").fill("seen in public")
        visit.press("Suspend")
        assert "seen in public" in visit.main()
        visit.press("Resume")
        (row,) = demo.house.ledger.rows(key_states, key_states.c.key == "openai-pool-1")
        assert row["state"] == "active"


def test_oncall_replays_a_rejected_event(browser: Browser, demo: Site) -> None:
    (row,) = demo.house.ledger.rows(rejected, rejected.c.id == "lost-1")
    with visiting(browser, demo, demo.token("oncall")) as visit:
        visit.open("/pipeline")
        assert "unknown_tenant" in visit.main()
        visit.press(f"Replay number {row['n']}")
        assert "lost-1" in visit.main(), "there is still no such tenant"


def test_finance_closes_a_month_proves_a_line_previews_and_tries_a_price(browser: Browser, demo: Site) -> None:
    with visiting(browser, demo, demo.token("finance")) as visit:
        page = visit.open("/invoices")
        page.get_by_label("Run the month").select_option("2026-11")
        visit.press("Draft anew")
        assert "0 closed, 4 drafts" in page.get_by_role("status").inner_text()
        visit.follow("Back to the invoices")
        visit.open("/invoices")
        page.get_by_label("Run the month").select_option("2026-11")
        visit.press("Finalise what can be closed")
        assert "Not done" in page.get_by_role("alert").inner_text(), "the month is not over"
        assert "409" in visit.complaints.pop(), "which the console notes too"
        visit.open("/invoices/globex/2026-10")
        visit.press("Work it out again")
        assert "✓ Each line was worked out again" in visit.main()
        assert page.get_by_role("columnheader", name="SHA-256 over the events").is_visible()
        visit.press("Preview the push to Stripe")
        assert "+ customer for globex" in visit.main()
        visit.press("Push it")
        assert "pushed" in visit.main()
        with page.expect_download() as download:
            page.get_by_role("link", name="PDF", exact=True).click()
        assert download.value.suggested_filename.endswith(".pdf")
        visit.open("/catalog")
        visit.follow("What if")
        page.get_by_label("Month").fill("2026-10")
        catalog = page.get_by_label("Catalog, YAML: the one in force, to change")
        catalog.fill(re.sub(r"amount: '49.00'", "amount: '59.00'", catalog.input_value()))
        visit.press("Compare")
        # 10.00 more for acme, and 15 of 31 days of it for globex, which then changes its plan.
        assert "a difference of 14.84 USD" in visit.main()


def test_an_admin_does_what_each_of_them_does(browser: Browser, demo: Site) -> None:
    demo.house.now_us += 1_000_000
    with visiting(browser, demo, demo.token("admin")) as visit:
        visit.open("/keys")
        visit.press("Rotate anthropic-pool-1")
        visit.press("Resume anthropic-pool-1")
        visit.open("/invoices/wayne/2026-10")
        visit.page.get_by_label("Void it, because").fill("wrong buyer")
        visit.press("Void")
        assert "wrong buyer" in visit.main()
        visit.open("/tenants/wayne")
        visit.press("Revoke every token issued until now")
        assert "revoke before" in visit.main()


def test_a_tenant_sees_its_own_usage_quotas_and_invoices_and_nothing_else(browser: Browser, demo: Site) -> None:
    with visiting(browser, demo, demo.house.token("tenant", "kathmandu-labs")) as visit:
        text = visit.main()
        for part in ("kathmandu-labs", "gpt-5-mini", "daily tokens", "2026-10"):
            assert part in text, part
        for other in ("globex", "acme", "Provider", "Margin"):
            assert other not in text, other
        visit.follow(re.compile("Invoice of kathmandu-labs for 2026-10"))
        visit.press("Work it out again")
        assert "✓ Each line was worked out again" in visit.main()
        answers = {path: visit.page.request.get(demo.address + path).status for path in pages_of(demo)[1:]}
        assert set(answers.values()) == {404}, answers


def test_a_session_ends_with_its_token_wherever_it_is(browser: Browser, demo: Site) -> None:
    token = demo.house.token("operator", "leaver", role="viewer")
    with visiting(browser, demo, token) as visit, visiting(browser, demo, token) as other:
        other.press("Sign out")
        assert "Sign in" in other.main()
        visit.open("/tenants")
        now_us = demo.house.now_us + 1_000_000
        revoke_before(demo.house.ledger, "operator:leaver", now_us, now_us, "test")
        give_up_s = time.monotonic() + 30
        while visit.page.url != f"{demo.address}/sign-in":  # revocations are read anew once a second
            assert time.monotonic() < give_up_s
            visit.page.goto(f"{demo.address}/")


def test_among_a_thousand_tenants_each_role_finds_its_own(browser: Browser, big: Site) -> None:
    with visiting(browser, big, big.token("viewer")) as visit:
        visit.open("/tenants")
        assert f"page 1 of 11, {count(TENANTS + 3)} in all" in visit.main()
        visit.follow("Next")
        assert visit.page.locator("tbody tr").count() == 100
        visit.page.get_by_label("Id, name or plan").fill("customer 0777")
        visit.press("Show")
        visit.follow("tenant-0777")
        assert count(1777) in visit.main(), "a token a tenant more than the one before"
        assert "monthly" in visit.main()
    with visiting(browser, big, big.token("oncall")) as visit:
        visit.open("/keys?q=tenant-0042")
        visit.press("Suspend tenant-0042-own")
        assert "suspended" in visit.main()
        visit.open("/alerts")
    with visiting(browser, big, big.token("finance")) as visit:
        visit.open("/invoices")
        visit.page.get_by_label("Tenant or number").fill("INV-2026-10-0500")
        visit.press("Show")
        visit.follow("Invoice of tenant-0500 for 2026-10")
        assert "INV-2026-10-0500" in visit.main()
        visit.open("/invoices?q=tenant-0999")
        visit.follow(re.compile("Invoice of tenant-0999"))
        visit.press("Draft anew")
        assert "draft" in visit.main()
    with visiting(browser, big, big.house.token("tenant", "tenant-0123")) as visit:
        assert "tenant-0124" not in visit.main()
        assert "INV-2026-10-0123" in visit.main()


@pytest.mark.parametrize("path", ["/tenants", "/invoices"])
def test_long_pages_pass_axe(browser: Browser, big: Site, path: str) -> None:
    with visiting(browser, big, big.token("admin"), color_scheme="dark") as visit:
        assert faults(visit.open(path)) == []
