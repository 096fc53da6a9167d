"""Retention: what is over goes, blobs before rows, in small batches; what anybody needs stays."""

from __future__ import annotations

import asyncio
import os
import re
import time

import pytest

from millrace.blobs import DirectoryBlobs
from millrace.engine.deliveries import Delivery
from millrace.engine.model import NewItem, NewJob
from millrace.engine.retention import Retention, RetentionPolicy, remove_job
from millrace.engine.workload import Workload
from millrace.errors import Conflict, NotFound, Unavailable
from tests.engine.rig import NOOP, ONE, build, stage

SHARED = Workload("shared", (stage("only"),), artifact_key="shared/{name}", ttl=5.0)
DAY = 86400.0
SLOTS = {"cpu": 1, "gpu": 0, "io": 1}


class Rig:
    """A running engine with retention whose clock a test sets; it only works when told to."""

    def __init__(self, tmp_path, url):
        self.engine = build(tmp_path, url=url, workloads=(ONE, NOOP, SHARED), slots=SLOTS)
        self.blobs = DirectoryBlobs(tmp_path / "blobs")
        self.ahead = 0.0
        self.retention = Retention(
            self.engine, self.blobs, RetentionPolicy(), clock=lambda: time.time() + self.ahead
        )
        self.engine.start()
        self.tmp_path = tmp_path

    def run(self, id: str, kind: str = "one", items=1, deed="write", **options) -> None:
        async def run():
            inputs = [NewItem(input={"do": deed}) for _ in range(items)]
            await self.engine.submit(NewJob(id, kind, inputs, **options))
            async for _ in self.engine.watch(id):
                pass

        asyncio.run(run())

    def put(self, key: str, age: float = 0.0) -> None:
        path = self.tmp_path / "file"
        path.write_bytes(b"content")
        self.blobs.put(path, key)
        when = time.time() - age
        os.utime(self.blobs.path(key), (when, when))

    def keys(self) -> list[str]:
        """All keys, artifacts' without the lease of their attempt."""
        return sorted(re.sub(r"^(jobs/.*/\d+)\.\d+/", r"\1/", blob.key) for blob in self.blobs.list())

    def jobs(self) -> list[str]:
        return sorted(id for id in ("a", "b", "c") if self.engine.store.job(id))


@pytest.fixture
def rig(tmp_path, request):
    both = "database_url" in request.fixturenames
    rig = Rig(tmp_path, request.getfixturevalue("database_url") if both else None)
    yield rig
    rig.engine.stop()


def test_a_job_goes_with_all_it_had_when_its_time_is_over(rig, database_url):
    rig.put("uploads/a/0")
    rig.put("uploads/b/0")
    rig.run("a", ttl=100.0, owns=["uploads/a"], items=3, idempotency=("key", "body"))
    rig.run("b", ttl=1000.0, owns=["uploads/b"])
    rig.run("c", "noop")
    assert rig.retention.delete_expired() == 0
    rig.ahead = 500.0
    assert rig.retention.delete_expired() == 1
    assert rig.jobs() == ["b", "c"]
    assert rig.keys() == ["jobs/b/0/out.txt", "uploads/b/0"]
    assert rig.engine.store.events("a", 0, 100) == []
    assert rig.engine.store.items("a", -1, 100, []) == []
    # The idempotency key is free again.
    rig.run("a", idempotency=("key", "another body"))
    rig.ahead = 10 * 365 * DAY
    rig.retention.delete_expired()
    assert rig.jobs() == ["c"]


def test_rows_go_in_batches_and_a_crash_in_between_does_no_harm(rig, database_url, monkeypatch):
    monkeypatch.setattr("millrace.engine.commands._ROWS_A_BATCH", 7)
    rig.run("a", items=40, ttl=1.0)
    batches = []
    request = rig.engine.loop.request

    def counted(function):
        batches.append(function)
        if len(batches) == 4:
            raise Unavailable("the database went away")
        return request(function)

    monkeypatch.setattr(rig.engine.loop, "request", counted)
    rig.ahead = 10.0
    assert rig.retention.delete_expired() == 1
    assert rig.jobs() == ["a"]
    assert rig.keys() == []
    assert rig.retention.delete_expired() == 1
    assert rig.jobs() == []
    assert len(batches) > 10


def test_what_another_job_refers_to_stays(rig, database_url):
    rig.put("uploads/both/0")
    rig.run("a", "shared", owns=["uploads/both"], ttl=1.0)
    rig.run("b", "shared", owns=["uploads/both"], ttl=100.0)
    rig.ahead = 50.0
    rig.retention.delete_expired()
    assert rig.jobs() == ["b"]
    assert rig.keys() == ["shared/out.txt", "uploads/both/0"]
    rig.ahead = 500.0
    rig.retention.delete_expired()
    assert rig.keys() == []


def test_prefixes_with_signs_of_the_query_language_are_taken_literally(rig, database_url):
    rig.put("uploads/a_b%/0")
    rig.run("a", owns=["uploads/a_b%"], ttl=1.0)
    rig.run("b", owns=["uploads/aXbY"], ttl=1000.0)
    rig.ahead = 50.0
    rig.retention.delete_expired()
    assert rig.keys() == ["jobs/b/0/out.txt"]


def test_an_unfinished_job_is_never_deleted(rig):
    asyncio.run(rig.engine.submit(NewJob("a", "one", [NewItem()], held=True, ttl=0.1)))
    rig.ahead = 1000 * DAY
    assert rig.retention.delete_expired() == 0
    with pytest.raises(Conflict):
        remove_job(rig.engine, "a")
    assert rig.jobs() == ["a"]


def test_a_person_may_delete_at_any_time(rig):
    rig.run("a")
    asyncio.run(rig.engine.delete("a"))
    assert (rig.jobs(), rig.keys()) == ([], [])
    with pytest.raises(NotFound):
        asyncio.run(rig.engine.delete("a"))


def test_uploads_of_jobs_that_never_came_are_swept_after_their_grace(rig):
    for name, age in (("old", 2 * DAY), ("young", 3600.0), ("owned", 2 * DAY), ("mixed", 2 * DAY)):
        rig.put(f"uploads/{name}/0", age)
    rig.put("uploads/mixed/1", 10.0)
    asyncio.run(rig.engine.submit(NewJob("a", "one", [NewItem()], held=True, owns=["uploads/owned"])))
    assert rig.retention.delete_orphans() == 1
    assert rig.keys() == ["uploads/mixed/0", "uploads/mixed/1", "uploads/owned/0", "uploads/young/0"]


def test_staged_leftovers_are_swept_and_staged_work_is_not(rig):
    rig.put("staging/123.0.0", 2 * DAY)
    rig.put("staging/124.0.0", 60.0)
    rig.put("jobs/old/0/a", 900 * DAY)
    live = next(iter(rig.engine.loop.calls), 77)
    rig.engine.loop.calls.setdefault(live, None)
    rig.put(f"staging/{live}.0.0", 2 * DAY)
    rig.put(f"staging/{live}/0.0", 2 * DAY)  # as an earlier version named them
    rig.put("staging/aside/0123456789abcdef", 2 * DAY)
    assert rig.retention.delete_orphans() == 3
    assert rig.keys() == ["jobs/old/0/a", "staging/124.0.0", f"staging/{live}.0.0"]
    del rig.engine.loop.calls[live]


def test_webhooks_are_forgotten_when_they_ended_long_ago(rig, database_url):
    def add(id: str, ended: float | None):
        def insert(round_):
            round_.tx.insert_delivery(id, "j", "one", "webhook", "http://x/", "e", "{}", 1.0)
            if ended is not None:
                found = round_.tx.load_delivery(id)
                changed = {f: getattr(found, f) for f in Delivery.__slots__}
                round_.tx.save_delivery(
                    Delivery(**{**changed, "state": "failed", "finished_at": ended, "next_at": None})
                )

        rig.engine.loop.request(insert).result()

    now = time.time()
    add("old", now - 40 * DAY)
    add("recent", now - DAY)
    add("pending", None)
    assert rig.retention.delete_deliveries() == 1
    assert [rig.engine.store.delivery(id) is not None for id in ("old", "recent", "pending")] == [
        False,
        True,
        True,
    ]


def test_it_runs_by_itself(tmp_path):
    engine = build(tmp_path, slots=SLOTS)
    engine.attach(Retention(engine, DirectoryBlobs(tmp_path / "blobs"), RetentionPolicy(sweep=0.02)))
    engine.start()
    try:

        async def run():
            await engine.submit(NewJob("a", "one", [NewItem(input={"do": "write"})], ttl=0.05))
            for _ in range(500):
                if engine.store.job("a") is None:
                    return True
                await asyncio.sleep(0.01)
            return False

        assert asyncio.run(run())
    finally:
        engine.stop()


class Unfinished(DirectoryBlobs):
    """A store that notes before when it was to drop what is unfinished, and does not do it."""

    asked: float = 0.0

    def drop_unfinished(self, before: float) -> int:
        self.asked = before
        raise Unavailable("the keys of this bucket do not allow it")


def test_what_was_never_finished_is_dropped_after_its_grace_where_the_store_allows_it(rig, tmp_path):
    rig.put("uploads/old/0", 2 * DAY)
    store = Unfinished(tmp_path / "blobs")
    assert Retention(rig.engine, store, clock=lambda: 10 * DAY).delete_orphans() == 0
    assert store.asked == 9 * DAY
    assert Retention(rig.engine, store).delete_orphans() == 1
    assert rig.keys() == []
