"""The port through which the engine keeps files, without knowing where they live."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_STAGING = "staging"


def staged_key(lease: int, idx: int, number: int) -> str:
    """Return the key under which a call stages an item's file.

    They lie flat: a folder for each call would be made and removed for a few small files, which costs a
    file system more than the files themselves.
    """
    return f"{_STAGING}/{lease}.{idx}.{number}"


def lease_of_staged(key: str) -> int | None:
    """Return the lease of the call that has staged a key; None where it is none of a call's."""
    lease = key.removeprefix(f"{_STAGING}/").partition(".")[0]
    return int(lease) if lease.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Staged:
    """A file that a worker has written aside durably, not yet published."""

    name: str
    staged: str
    bytes: int
    sha256: str
    media_type: str


class StoredBlob(Protocol):
    """A blob in a listing."""

    @property
    def key(self) -> str:
        """Where it is."""
        ...

    @property
    def modified(self) -> float:
        """When it was stored, epoch seconds."""
        ...


class ArtifactStore(Protocol):
    """Where artifacts and inputs live.

    A worker stages a file under a key of its own attempt; the engine publishes it when it commits
    the attempt's result, and only then is it seen by anybody. A published key is the attempt's own as
    well (``Workload.artifact_key``), and the row that is committed names it: of two servers that both
    believe to be in charge, one cannot commit, and what it published is a blob that no row names.
    All methods block.
    """

    def stage_all(self, files: Sequence[tuple[Path, str]]) -> list[tuple[int, str]]:
        """Worker side: store each file durably under its staged key; return (bytes, sha256 hex) of each.

        The files may be moved rather than copied.
        """
        ...

    def publish_all(self, moves: Sequence[tuple[str, str]]) -> None:
        """Engine side: make (staged key, key) for each visible under its final key, durably.

        Each appears at once, replacing an older one. Publishing again what was already published (after
        a crash in between) is not an error.
        """
        ...

    def discard(self, prefix: str) -> None:
        """Delete the blob of that key, and all below ``prefix + "/"``; absence is not an error."""
        ...

    def list(self, prefix: str = ...) -> Iterable[StoredBlob]:
        """Yield the blobs below a prefix."""
        ...

    def local_path(self, key: str, scratch: Path) -> Path:
        """Return a local path with the blob's content: the blob itself, or a copy written to ``scratch``."""
        ...

    def descriptor(self) -> dict[str, Any]:
        """Return what a worker process needs to open the same store: JSON-able, given to ``open_store``."""
        ...


def staged_leases(store: ArtifactStore) -> set[int]:
    """Return the leases of the calls that have something staged."""
    found = {lease_of_staged(blob.key) for blob in store.list(_STAGING)}
    return {lease for lease in found if lease is not None}


def drop_staged(store: ArtifactStore, leases: Collection[int]) -> None:
    """Delete what calls have staged."""
    for key in [blob.key for blob in store.list(_STAGING) if lease_of_staged(blob.key) in leases]:
        store.discard(key)
