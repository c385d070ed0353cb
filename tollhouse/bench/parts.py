"""CPU seconds and peak memory of processes, as Linux counts them; elsewhere unknown."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Use:
    """cpu_s: user and system time so far. peak_mib: the largest resident size so far."""

    cpu_s: float
    peak_mib: float


def use_of(pid: int, *, family: bool = False) -> Use | None:
    """What the process used so far; with its children (also those that have ended) as a family. None: not known."""
    total_s, peak_mib = 0.0, 0.0
    try:
        total_s += _cpu_s(pid, ended_children=family)
        peak_mib += _peak_mib(pid)
        for child in children_of(pid) if family else ():
            total_s += _cpu_s(child, ended_children=True)
            peak_mib = max(peak_mib, _peak_mib(child))
    except OSError:
        return None
    return Use(total_s, peak_mib)


def listening_pid(port: int) -> int | None:
    """The process that listens on a loopback port; None where it cannot be told (another machine, another user)."""
    sockets = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    return next((pid for pid in sorted(_all()) if sockets & _open_sockets(pid)), None) if sockets else None


def _all() -> list[int]:
    try:
        return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]
    except OSError:
        return []


def _open_sockets(pid: int) -> set[str]:
    found = set()
    try:
        for link in (PROC / str(pid) / "fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:"):
                found.add(target)
    except OSError:
        pass
    return found


def _cpu_s(pid: int, *, ended_children: bool) -> float:
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended_children else 13])) / os.sysconf("SC_CLK_TCK")


def _peak_mib(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", (PROC / str(pid) / "status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def children_of(pid: int) -> list[int]:
    """The processes that it began and that are still there; none where that cannot be told."""
    found = []
    for other in _all():
        try:
            parent = int((PROC / str(other) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(other)
    return found
