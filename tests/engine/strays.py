"""Artifacts that no row names: of attempts that were overtaken while they were published."""

from __future__ import annotations

from collections.abc import Set


def check_strays(seen: Set[str], rows: Set[str]) -> None:
    """Each row has its file; each other file is of an item for which the row names a later attempt.

    Both are keys as ``Workload.key_of`` makes them by default.
    """
    assert seen >= rows, f"rows without files: {rows - seen}"
    latest = {item_of(key): lease_of(key) for key in sorted(rows, key=lease_of)}
    strays = {key for key in seen - rows if lease_of(key) >= latest.get(item_of(key), 0)}
    assert not strays, f"files that nothing replaced: {strays}"


def item_of(key: str) -> str:
    """Return the part of a key that all attempts of an item share."""
    _, job, rest = key.split("/", 2)
    return f"{job}/{rest.split('.')[0]}"


def lease_of(key: str) -> int:
    """Return the lease of the attempt."""
    return int(key.split("/", 2)[2].replace("/", ".").split(".")[1])
