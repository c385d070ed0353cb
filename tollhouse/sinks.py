"""Where alerts go: Apprise's services by URL (Slack, Teams, PagerDuty, e-mail, JSON, …), and signed webhooks.

An http or https URL is a webhook by the Standard Webhooks specification (webhook-id, webhook-timestamp,
webhook-signature over both and the body); every other scheme is Apprise's.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import apprise

from pipeline.alerting import Alert
from schemas.catalog import AlertSink
from schemas.instants import format_instant
from streams.delivery import Notice, public
from tollhouse.webhooks import Webhooks

Plot = Callable[[Alert], bytes | None]
"""A picture of the incident (PNG), or None where there is nothing to draw."""
Cost = Callable[[Alert], str]
"""What it has cost so far, in words; empty where that cannot be told."""

ADVICE: Final = {
    "leak": "Ask the tenant whether it is theirs. If not: `tollhouse token revoke --tenant NAME --before now` (or "
    "`tollhouse keys revoke KEY` for its own key), then `tollhouse alerts ack ID --feedback leak`. If it is: "
    "`tollhouse alerts ack ID --feedback expected`, and the detector learns it.",
    "residual": "`tollhouse reconcile` shows which models. More reported than metered: delete the key at the provider "
    "and rotate it. Less: look for events counted twice, or for a report that is late.",
    "quota": "`tollhouse quotas --tenant NAME` shows the window; raise the limit in the catalog if that is wanted.",
    "secret_in_event": "Rotate what was sent, then stop the proxy from sending it.",
    "revoked_key_used": "Delete the key at the provider: it still accepts it.",
    "unrated": "Add the price or the charge, dated back; usage is metered meanwhile.",
    "pipeline": "`tollhouse doctor` says what is wrong, line by line.",
}


class Sinks:
    """Sends a notice to a URL. link: address of the page of alerts, if there is one."""

    def __init__(
        self, webhooks: Webhooks, *, link: str = "", plot: Plot | None = None, cost: Cost | None = None
    ) -> None:
        self._webhooks, self._link = webhooks, link
        self._plot, self._cost = plot, cost

    def __call__(self, url: str, notice: Notice, /) -> None:
        """Send; an exception, worded for people, if it was not taken."""
        cost = self._cost(notice.alert) if self._cost else ""
        text = notice_text(notice, cost, self._link)
        if url.partition("://")[0].lower() in ("http", "https"):
            self._webhooks.post(url, notice, text=text, cost=cost, link=self._link)
        else:
            _apprise(url, notice.alert, text, self._plot(notice.alert) if self._plot else None)


def notice_text(notice: Notice, cost: str = "", link: str = "") -> str:
    """What a person reads at 3 a.m.: what and since when, what it costs, what was done, what to do."""
    alert = notice.alert
    advice = ADVICE[alert.kind].replace(" ID", f" {alert.id}")
    lines = [alert.detail]
    lines += [cost] if cost else []
    lines += [f"Done: {done}." for done in notice.done]
    lines += [f"To do: {advice}", f"First seen {format_instant(notice.since_us)}, told {_times(notice.count)}."]
    lines += [f"Incident {alert.id}" + (f": {link}" if link else "")]
    return "\n".join(lines)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _apprise(url: str, alert: Alert, text: str, picture: bytes | None) -> None:
    target = apprise.Apprise()
    if not target.add(url):
        raise ValueError(f"{public(url)} is no URL that Apprise knows: see its list of services")
    kind = apprise.NotifyType.FAILURE if alert.severity == "page" else apprise.NotifyType.WARNING
    title = f"[{alert.severity}] {alert.kind}: {alert.subject}"
    takes = picture is not None and all(service.attachment_support for service in target)
    with tempfile.TemporaryDirectory() as directory:
        attached = None
        if takes and picture is not None:
            attached = Path(directory) / "incident.png"
            attached.write_bytes(picture)
        sent = target.notify(title=title, body=text, notify_type=kind, attach=str(attached) if attached else None)
    if not sent:
        raise OSError(f"{public(url)} did not take it")


def send_test(sinks: Sequence[AlertSink], now_us: int, send: Sinks) -> list[tuple[str, str]]:
    """A test alert to every sink, whatever kinds it wants: (URL without its secrets, empty or what went wrong)."""
    alert = Alert(
        f"test:{now_us}", now_us, "pipeline", "ticket", "tollhouse", "a test of the alert path: nothing is wrong"
    )
    results = []
    for sink in sinks:
        trouble = ""
        try:
            send(sink.url, Notice(f"{alert.id}.1", 1, alert, "open", now_us, 1))
        except Exception as error:  # noqa: BLE001 - whatever a sink's library raises is what the test is to show
            trouble = str(error) or type(error).__name__
        results.append((public(sink.url), trouble))
    return results
