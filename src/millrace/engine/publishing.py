"""What becomes of the files that attempts have staged: published with the result that counts, or dropped.

A result counts when its lease holds in the transaction that writes it, and the row written there names the
key of the file. Knows nothing of where files live.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from millrace.engine.artifacts import ArtifactStore, Staged, drop_staged, staged_leases
from millrace.engine.executors import Done
from millrace.engine.round import Round, Running
from millrace.engine.store import Claimed
from millrace.errors import NotFound

log = logging.getLogger(__name__)


class Publishing:
    """Publishes files. ``calls`` are those under way, by lease; shared with the loop."""

    def __init__(self, artifacts: ArtifactStore, calls: Mapping[int, Running]) -> None:
        self._artifacts = artifacts
        self._calls = calls
        self._lost: set[int] = set()
        self._lost_below: int | None = None
        self._vanished: set[str] = set()

    def take_over(self, first: int) -> None:
        """Note that calls with leases below ``first`` are lost unless they are under way.

        What they have staged is looked for later: the store may be away, and a server is in charge without.
        """
        self._lost.clear()
        self._lost_below = first

    def note(self, round_: Round, running: Running, item: Claimed, artifacts: list[Staged]) -> None:
        """Have an attempt's files published at the end of the round."""
        row, lease = running.job.row, running.call.lease
        for artifact in artifacts:
            key = running.job.workload.key_of(row.id, item.idx, lease, item.uid, artifact.name)
            round_.moves.append((artifact.staged, key))
            round_.artifacts.append(
                (
                    row.seq,
                    item.idx,
                    artifact.name,
                    running.call.stage.name,
                    artifact.bytes,
                    artifact.sha256,
                    artifact.media_type,
                    key,
                    round_.now,
                )
            )
            round_.event(row, "artifact.ready", item.idx, name=artifact.name, bytes=artifact.bytes)

    def publish(self, round_: Round) -> None:
        """Give the files of the round their names, all together, before their rows are committed."""
        if round_.moves:
            self._drop_lost()
            try:
                self._artifacts.publish_all(round_.moves)
            except NotFound:
                self._vanished |= {move[0] for move in round_.moves if not self._publishable(move)}
                raise
            round_.tx.insert_artifacts(round_.artifacts)

    def _publishable(self, move: tuple[str, str]) -> bool:
        try:
            self._artifacts.publish_all([move])
        except NotFound as error:
            log.error("a file of a result is gone before it was published: %s", error.message)
            return False
        return True

    def whole(self, report: Done) -> Done:
        """Return the report, or one of a failure where a file that belongs to it is gone.

        Whoever deleted it, the round that waits for it would otherwise hold up everybody for ever.
        """
        gone = [artifact.name for artifact in report.artifacts if artifact.staged in self._vanished]
        if not gone:
            return report
        message = f"{', '.join(gone)} was written, but has vanished from the blob store since"
        error = {"code": "artifact_lost", "message": message, "details": {}, "retryable": True}
        return replace(report, verdict="failed", results=None, error=error, artifacts=[])

    def _drop_lost(self) -> None:
        """Take from lost attempts what they have staged, before any later one publishes.

        A server that was in charge, and hangs, may still hold the report of such an attempt. Where the
        key is the same for all attempts, it must find nothing to publish when it wakes.
        """
        if self._lost_below is not None:
            leases = staged_leases(self._artifacts) - self._calls.keys()
            self._lost |= {lease for lease in leases if lease < self._lost_below}
            self._lost_below = None
        if self._lost:
            drop_staged(self._artifacts, self._lost)
            self._lost.clear()

    def lose(self, lease: int) -> None:
        """Drop what a call has staged that is known, by a commit, to be lost."""
        # Kept in mind until it is done: the store may be away.
        self._lost.add(lease)
        drop_staged(self._artifacts, self._lost)
        self._lost.clear()

    def discard(self, round_: Round, artifacts: list[Staged]) -> None:
        """Drop files of a result that does not count, once that was committed."""
        for artifact in artifacts:
            round_.afterwards.append(lambda key=artifact.staged: self._artifacts.discard(key))  # type: ignore[misc]
