# ruff: noqa: B023, C408, E501, E731, PTH123, SIM115
# Numerical code in its field's notation, kept as it is so that a seed means the same data for ever.
# mypy: ignore-errors
"""Score a detector's alerts against the labels: python score.py DIR/labels.json ALERTS.jsonl

ALERTS.jsonl: one JSON object a line: {"at": ISO time the alert was raised, "subject": "key-007" or "pool-3",
"severity": "page" or "ticket"}. Only "page" alerts count in the first table; the second counts both.

Rules. Alerts on one subject less than 6 hours after the previous one belong to the same incident. A leak is found
if an alert is raised from its start until 10 minutes after its end (pools: 30). Alerts up to 2 hours after a leak's end
are neutral. A key's leak also excuses alerts on its pool. Everything else is a false alarm, benign look-alikes included.
"""

import bisect
import json
import sys
from collections import defaultdict
from datetime import datetime, timedelta


def score(labels, alerts):
    parse = datetime.fromisoformat
    scored_from, end = parse(labels["scored_from"]), parse(labels["end"])
    by_subject = defaultdict(list)
    for a in alerts:
        by_subject[a["subject"]].append(parse(a["at"].replace("Z", "+00:00")))
    leaks = [dict(label, start=parse(label["start"]), end=parse(label["end"])) for label in labels["labels"]]
    found = defaultdict(list)
    for leak in leaks:
        if not leak["leak"]:
            continue
        subject = leak["key"] or leak["pool"]
        times = sorted(by_subject[subject])
        i = bisect.bisect_left(times, leak["start"])
        grace = timedelta(minutes=10 if leak["key"] else 30)
        hit = i < len(times) and times[i] < leak["end"] + grace
        found[leak["kind"]].append((times[i] - leak["start"]).total_seconds() / 60 + 1 if hit else None)
    false = {"key": 0, "pool": 0}
    reasons = defaultdict(int)
    for subject, times in by_subject.items():
        is_pool = subject.startswith("pool")
        excuses = [x for x in leaks if x["leak"] and (x["pool"] == subject if is_pool else x["key"] == subject)]
        benign = [x for x in leaks if not x["leak"] and x["key"] == subject]
        last = None
        for t in sorted(times):
            new = last is None or t - last > timedelta(hours=6)
            last = t
            if not new or not scored_from <= t < end:
                continue
            if any(x["start"] <= t < x["end"] + timedelta(hours=2) for x in excuses):
                continue
            false["pool" if is_pool else "key"] += 1
            reasons[
                next((x["kind"] for x in benign if x["start"] <= t < x["end"] + timedelta(hours=2)), "ordinary")
            ] += 1
    days = (end - scored_from).total_seconds() / 86400
    table = {}
    for kind, delays in sorted(found.items()):
        ok = sorted(d for d in delays if d is not None)
        share = lambda limit: round(sum(d <= limit for d in ok) / len(delays), 3)
        table[kind] = dict(
            n=len(delays),
            recall=round(len(ok) / len(delays), 3),
            within_5=share(5),
            within_15=share(15),
            within_60=share(60),
            median_min=ok[len(ok) // 2] if ok else None,
        )
    return dict(
        kinds=table,
        false_alarms_per_1000_key_days=round(1000 * false["key"] / (labels["keys"] * days), 2),
        false_alarms_per_1000_pool_days=round(1000 * false["pool"] / (labels["pools"] * days), 2),
        reasons=dict(reasons),
    )


if __name__ == "__main__":
    labels = json.load(open(sys.argv[1]))
    alerts = [json.loads(line) for line in open(sys.argv[2]) if line.strip()]
    print(
        json.dumps(
            {
                "page": score(labels, [a for a in alerts if a["severity"] == "page"]),
                "page+ticket": score(labels, alerts),
            },
            indent=1,
        )
    )
