"""What a new catalog changes: shown before it is applied, and refused where it would rewrite the past.

Prices and plans change by a new dated entry. An entry that already holds must not be edited or removed; a new entry for
an earlier date is allowed, re-rates drafts, and leaves finalised months as they are (contract, section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.catalog.entries import Entry, entries
from schemas.catalog import Catalog

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}

_TENANT_WARNINGS = {
    "timezone": "moves the bounds of its days and months, drafts and quotas included",
    "currency": "its drafts become invoices in the new currency, amounts unchanged",
    "billing.country": "its drafts are taxed anew",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. kind: added, removed or changed. refused: applying must not go on, and the warning says why."""

    path: str
    kind: str
    before: str | None
    after: str | None
    warning: str | None = None
    refused: bool = False


def diff(old: Catalog | None, new: Catalog, now_us: int) -> list[Change]:
    """The changes from the old catalog to the new one, in the order of the document; nothing for no difference."""
    before = _by_path(old) if old is not None else {}
    after = _by_path(new)
    changes: list[Change] = []
    for path in dict.fromkeys((*before, *after)):
        was, now = before.get(path), after.get(path)
        if was is None and now is not None:
            if not now.owner or now.owner in before:
                changes.append(_added(now, now_us, first=old is None))
        elif now is None and was is not None:
            if not was.owner or was.owner in after:
                changes.append(_removed(was, now_us))
        elif was is not None and now is not None:
            changes.extend(_changed(was, now, now_us))
    return changes


def _by_path(catalog: Catalog) -> dict[str, Entry]:
    """Entries by path; those that share one (prices of one date in two entries) as one."""
    found: dict[str, Entry] = {}
    for entry in entries(catalog):
        known = found.get(entry.path)
        found[entry.path] = entry if known is None else replace(known, fields={**entry.fields, **known.fields})
    return found


def _summary(entry: Entry) -> str:
    return "; ".join(text if name == entry.path else f"{name} {text}" for name, text in entry.fields.items())


def _in_force(entry: Entry, now_us: int) -> bool:
    return entry.history and (entry.since_us is None or entry.since_us <= now_us)


def _added(entry: Entry, now_us: int, *, first: bool) -> Change:
    warning = None
    if not first and _in_force(entry, now_us):
        warning = "holds for the past too: drafts are rated anew, finalised months keep their version"
    return Change(entry.path, "added", None, _summary(entry), warning)


def _removed(entry: Entry, now_us: int) -> Change:
    if _in_force(entry, now_us):
        reason = f"is already in force and cannot be taken back: {entry.advice}"
        return Change(entry.path, "removed", _summary(entry), None, reason, refused=True)
    warning = None
    if entry.path.startswith("tenants."):
        warning = "its events will be rejected as unknown_tenant, and its open months are not billed"
    elif entry.path.startswith("keys."):
        warning = "events on this key will be rejected as unknown_key"
    return Change(entry.path, "removed", _summary(entry), None, warning)


def _changed(was: Entry, now: Entry, now_us: int) -> list[Change]:
    changes: list[Change] = []
    for name in dict.fromkeys((*was.fields, *now.fields)):
        before, after = was.fields.get(name), now.fields.get(name)
        if before == after:
            continue
        path = name if name == was.path else f"{was.path}.{name}"
        kind = "added" if before is None else "removed" if after is None else "changed"
        warning, refused = None, False
        if name not in was.free | now.free and (_in_force(was, now_us) or _in_force(now, now_us)):
            warning, refused = f"is already in force and cannot be edited: {was.advice}", True
        elif was.path.startswith("tenants.") and not was.history:
            warning = _TENANT_WARNINGS.get(name)
        changes.append(Change(path, kind, before, after, warning, refused))
    return changes


def render_changes(changes: Sequence[Change]) -> str:
    """The plan of changes for people: a line each, the reason of a warning or refusal under it, a count at the end."""
    if not changes:
        return "No changes."
    lines: list[str] = []
    for change in changes:
        text = " → ".join(part for part in (change.before, change.after) if part)
        lines.append(f"{_SIGNS[change.kind]} {change.path}: {text}" if text else f"{_SIGNS[change.kind]} {change.path}")
        if change.warning:
            lines.append(f"    {'REFUSED' if change.refused else 'note'}: {change.warning}")
    refused = sum(change.refused for change in changes)
    count = f"{len(changes)} change{'' if len(changes) == 1 else 's'}"
    lines.append(f"{count}, {refused} refused: nothing is applied." if refused else f"{count}.")
    return "\n".join(lines)
