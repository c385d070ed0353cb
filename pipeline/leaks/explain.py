"""What a finding says to a person at 3 a.m.: what, since when, against which baseline, from where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.leaks.evidence import Evidence, Verdict
from pipeline.leaks.findings import LEAK, Finding, Incident
from schemas.instants import MINUTE_US, format_instant

if TYPE_CHECKING:
    from pipeline.leaks.key import KeyDetector

_NAMES_MAX: Final = 5
_RULES: Final = {
    "new source": "use over what was due, and it comes from sources new to the key",
    "new source, level": "the busiest hour on record, most of it from sources new to the key",
    "side traffic": "a small, lasting part of the calls comes from a source new to the key",
    "never seen": "five minutes far beyond anything the key has done",
    "never seen, hour": "an hour far beyond anything the key has done",
    "never seen, hours": "hour after hour far beyond anything the key has done",
    "quiet hours": "use in hours in which this key is quiet",
    "dormant": "a key that lay unused is used",
    "flood": "a flood on a key that is still learning its baseline",
    "model enumeration": "many models tried that the key never used",
    "errors": "far more refused calls than the key ever had",
}


def key_finding(detector: KeyDetector, evidence: Evidence, verdict: Verdict, incident: Incident) -> Finding:
    """The finding of a key's verdict, with its facts and its text."""
    long = detector.windows.long
    minute = detector.windows.minute
    per_token = detector.baseline.per_token
    due_requests = evidence.expected * 60
    due_tokens = due_requests / per_token if per_token else 0.0
    since = incident.since
    factor = max(
        evidence.total_60 / due_requests,
        evidence.total_5 / (evidence.expected * 5),
        evidence.total_1 / evidence.expected,
    )
    new = detector.sources.new_values(minute, since - 60)
    facts = {
        "rule": verdict.rule,
        "since_us": since * MINUTE_US,
        "factor": round(factor, 1),
        "expected_requests_60": round(due_requests, 1),
        "expected_tokens_60": round(due_tokens),
        "observed_requests_60": long[1],
        "observed_tokens_60": long[2],
        "observed_errors_60": long[6],
        "excess_tokens": round(incident.excess_tokens),
        "new": new,
        "new_requests_60": long[3],
        "idle_min": detector.gap if verdict.rule == "dormant" else 0,
        "peak_score": round(incident.peak, 2),
    }
    text = [f"{detector.subject}: {_RULES[verdict.rule]}, since {format_instant(since * MINUTE_US)}."]
    if verdict.rule == "dormant":
        text.append(f"It was last used {detector.gap / 1440:.1f} days before.")
    text.append(
        f"In the last hour {long[1]:,} requests and {long[2]:,} tokens; due were about {due_requests:,.0f} and "
        f"{due_tokens:,.0f}. At its highest {factor:,.1f} times the usual level; "
        f"{incident.excess_tokens:,.0f} tokens over it so far."
    )
    if long[6]:
        text.append(f"{long[6]:,} calls were refused.")
    for attribute, names in new.items():
        more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
        shown = ", ".join(names[:_NAMES_MAX]) + more
        text.append(f"New {attribute}{'s' if len(names) > 1 else ''}: {shown}.")
    if not new:
        text.append("No new network, model or agent.")
    return Finding(
        at_us=minute * MINUTE_US,
        subject=detector.subject,
        kind=LEAK,
        severity=verdict.severity,
        score=round(verdict.score, 3),
        explanation=" ".join(text),
        incident=f"{detector.subject}/{incident.opened}",
        repeat=incident.times - 1,
        facts=facts,
    )
