"""Deletes what is over: jobs past their time with all their blobs, and blobs that belong to nothing.

Blobs go before rows, for a row without its blob can be deleted again while a blob without its row is
lost room. Rows go in small batches, so that no job is too large to be deleted beside the work. A blob
that another job still refers to stays.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from millrace.engine.artifacts import ArtifactStore, lease_of_staged
from millrace.engine.timer import Timer
from millrace.errors import MillraceError

if TYPE_CHECKING:
    from millrace.engine.engine import Engine

log = logging.getLogger(__name__)

_JOBS_A_STEP = 50
_ROWS_A_BATCH = 2000
_KEYS_A_STEP = 1000
_KEY = re.compile(r"jobs/[^/]+/\d+\.(\d+)[./]")


class SweptStore(ArtifactStore, Protocol):
    """An artifact store that can be swept."""

    def drop_unfinished(self, before: float) -> int:
        """Drop what was begun before that time and never finished; return how many there were."""
        ...


class RetentionWrites(Protocol):
    """What a transaction must offer for deleting."""

    def delete_job_rows(self, job_id: str, limit: int) -> bool:
        """Delete up to ``limit`` rows of each of a job's tables; the job itself when nothing else is left.

        True when the job is gone.
        """
        ...


class RetentionReads(Protocol):
    """What a store must offer for deleting."""

    def expired(self, now: float, limit: int) -> list[tuple[str, str]]:
        """Return (id, kind) of finished jobs whose time to live is over."""
        ...

    def owned(self) -> set[str]:
        """Return all prefixes of blobs that jobs own."""
        ...

    def nameless(self, keys: Iterable[str]) -> set[str]:
        """Return those keys that no artifact has."""
        ...

    def known_jobs(self, ids: Iterable[str]) -> set[str]:
        """Return those ids that are jobs'."""
        ...

    def kept_by_others(self, job_id: str, keys: Iterable[str], prefixes: Iterable[str]) -> set[str]:
        """Return those keys and prefixes that another job refers to as well."""
        ...


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """When to look, and how long what belongs to no job is left alone. Seconds.

    sweep       between two looks for expired jobs.
    orphans     between two looks for blobs that belong to nothing.
    lost        between two looks for artifacts that no row names, for which all have to be listed.
    grace       an upload younger than this may belong to a job that is just being created.
    deliveries  how long webhooks that ended are kept.
    """

    sweep: float = 60.0
    orphans: float = 3600.0
    lost: float = 86400.0
    grace: float = 86400.0
    deliveries: float = 30 * 86400.0


def remove_job(engine: Engine, job_id: str) -> None:
    """Delete a finished job: its artifacts and uploads, then its rows. Blocks.

    Conflict when it is unfinished, or was sent on its way again meanwhile.
    """
    store, blobs = engine.store, engine.artifact_store
    engine.command_now("check_over", job_id=job_id)
    job = store.job(job_id)
    if job is None:
        return
    keys = [artifact.key for artifact in store.artifacts(job_id, None)]
    kept = store.kept_by_others(job_id, keys, job.owns)
    own = f"jobs/{job_id}"
    if not any(key.startswith(f"{own}/") for key in kept):
        # One call for what may be a hundred thousand files.
        blobs.discard(own)
        keys = [key for key in keys if not key.startswith(f"{own}/")]
    for prefix in (*keys, *job.owns):
        if prefix not in kept:
            blobs.discard(prefix)
    while not engine.command_now("delete_rows", job_id=job_id):
        pass


def _lease_of(key: str) -> str:
    """Return the lease in the key of an artifact, as ``Workload.key_of`` makes it by default."""
    found = _KEY.match(key)
    return found[1] if found else ""


class Retention:
    """Deletes in the background, on a thread of its own."""

    def __init__(
        self,
        engine: Engine,
        blobs: SweptStore,
        policy: RetentionPolicy | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._blobs = blobs
        self._policy = policy or RetentionPolicy()
        self._clock = clock
        self._orphans_at = 0.0
        self._lost_at = clock() + self._policy.orphans
        self._timer = Timer("retention", self._step)

    def start(self) -> None:
        """Begin."""
        self._timer.start()

    def stop(self) -> None:
        """End after what is being deleted now."""
        self._timer.stop()

    def _step(self) -> float | None:
        if self.delete_expired() == _JOBS_A_STEP:
            return 0.0
        now = self._clock()
        if now >= self._orphans_at:
            self._orphans_at = now + self._policy.orphans
            self.delete_orphans()
            self.delete_deliveries()
        if now >= self._lost_at:
            self._lost_at = now + self._policy.orphans
            self.delete_lost()
            self._lost_at = now + self._policy.lost
        return self._policy.sweep

    def delete_expired(self) -> int:
        """Delete some of the jobs whose time is over; return how many were looked at."""
        expired = self._engine.store.expired(self._clock(), _JOBS_A_STEP)
        for job_id, kind in expired:
            if self._timer.stopping:
                break
            try:
                remove_job(self._engine, job_id)
                log.info("deleted the %s job %s: its time was over", kind, job_id)
            except MillraceError as error:
                log.warning("the %s job %s could not be deleted: %s", kind, job_id, error.message)
        return len(expired)

    def delete_orphans(self) -> int:
        """Delete uploads that no job owns and staged files that no attempt waits for; return how many."""
        before = self._clock() - self._policy.grace
        # Listed before the owners are read: what is submitted in between is then among them.
        newest: dict[str, float] = {}
        for blob in self._blobs.list("uploads"):
            prefix = "/".join(blob.key.split("/")[:2])
            newest[prefix] = max(newest.get(prefix, 0.0), blob.modified)
        owned = self._engine.store.owned()
        orphans = [prefix for prefix, at in newest.items() if at < before and prefix not in owned]
        live = set(self._engine.loop.calls)
        for blob in self._blobs.list("staging"):
            if blob.modified < before and lease_of_staged(blob.key) not in live:
                orphans.append(blob.key)
        for prefix in orphans:
            self._blobs.discard(prefix)
        self._drop_unfinished(before)
        if orphans:
            log.info("deleted %d uploads and staged files that belonged to nothing", len(orphans))
        return len(orphans)

    def delete_lost(self) -> int:
        """Delete artifacts that no row names, below jobs that are known; return how many.

        They are of attempts that were overtaken while they were published, or were replaced by a later
        one. What is below no known job stays: it may be another database's.
        """
        before = self._clock() - self._policy.grace
        old = (blob.key for blob in self._blobs.list("jobs") if blob.modified < before)
        deleted = 0
        while (some := list(islice(old, _KEYS_A_STEP))) and not self._timer.stopping:
            live = {str(lease) for lease in list(self._engine.loop.calls)}
            nameless = [key for key in self._engine.store.nameless(some) if _lease_of(key) not in live]
            known = self._engine.store.known_jobs({key.split("/")[1] for key in nameless})
            for key in nameless:
                if key.split("/")[1] in known:
                    self._blobs.discard(key)
                    deleted += 1
        if deleted:
            log.info("deleted %d artifacts of attempts that did not count", deleted)
        return deleted

    def _drop_unfinished(self, before: float) -> None:
        try:
            if dropped := self._blobs.drop_unfinished(before):
                log.info("dropped %d blobs that were never finished", dropped)
        except MillraceError as error:
            # The keys of a bucket need not allow it; a rule of the bucket's own does it as well.
            log.warning("blobs that were never finished cannot be dropped: %s", error.message)

    def delete_deliveries(self) -> int:
        """Delete webhooks that ended long ago; return how many."""
        before = self._clock() - self._policy.deliveries
        deleted = 0
        while not self._timer.stopping:
            some = self._engine.loop.request(lambda r: r.tx.delete_deliveries(before, _ROWS_A_BATCH)).result()
            deleted += some
            if some < _ROWS_A_BATCH:
                break
        return deleted
