"""Whether processes are there, told by the system."""

from __future__ import annotations

import time
from pathlib import Path

PATIENCE = 20.0


def alive(pid: int) -> bool:
    """Whether a process is there and is not just waiting to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def pids(path: Path, patience: float = PATIENCE) -> list[int]:
    """Wait for a file with process ids."""
    deadline = time.monotonic() + patience
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"nothing was written to {path} within {patience:g} s"
        time.sleep(0.005)
    return [int(pid) for pid in path.read_text().split()]


def descendants(pid: int) -> list[int]:
    """Return all processes that a process has started, and those that these have started."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def gone(processes: list[int], patience: float = PATIENCE) -> None:
    """Wait until none of them is there any more."""
    deadline = time.monotonic() + patience
    while any(alive(pid) for pid in processes):
        assert time.monotonic() < deadline, f"{[pid for pid in processes if alive(pid)]} run on"
        time.sleep(0.01)
