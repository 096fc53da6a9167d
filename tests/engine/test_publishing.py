"""Files are published with the result that counts: no attempt writes over another, and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from millrace.blobs import DirectoryBlobs
from millrace.engine.engine import Engine
from millrace.engine.executors import Executor
from millrace.engine.executors.local import LocalExecutor
from millrace.engine.model import NewItem, NewJob, State
from millrace.engine.retention import Retention
from millrace.engine.sql.peers import PostgresPeers
from millrace.engine.sql.store import libpq
from millrace.engine.workload import Workload
from millrace.errors import Unavailable
from tests.engine.rig import ONE, TWO, build, stage

DAY = 86400.0
FIXED = Workload("fixed", (stage("only"),), artifact_key="{uid}/{name}")


class Hanging(DirectoryBlobs):
    """A store whose publishing takes as long as a test wants.

    ``in_flight``: the store was asked already, as S3 is that copies what it has read; or not yet.
    """

    def __init__(self, root: Path, *, in_flight: bool) -> None:
        super().__init__(root)
        self._in_flight = in_flight
        self.reached, self.go = threading.Event(), threading.Event()
        self.ended = threading.Event()

    def publish_all(self, moves: Sequence[tuple[str, str]]) -> None:
        if self.go.is_set():
            return super().publish_all(moves)
        read = [(key, self.path(staged).read_bytes()) for staged, key in moves]
        self.reached.set()
        assert self.go.wait(60)
        try:
            if not self._in_flight:
                return super().publish_all(moves)
            for key, content in read:
                writer = self.writer(key, len(content))
                writer.write(content)
                self.commit_all([writer])
        finally:
            self.ended.set()
        return None


class Outlived(LocalExecutor):
    """As in a cluster: a server that takes over adopts what runs, of which here is nothing."""

    def survivors(self, tx: Any) -> list[Any]:
        return []


def make_outlived(
    directory: Path, artifacts: Mapping[str, Any], slots: Mapping[str, int], **more: Any
) -> Executor:
    return Outlived(slots, artifacts=artifacts, scratch=directory / "scratch", settings={}, site={}, **more)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def ended(engine: Engine, job_id: str) -> bool:
    job = engine.store.job(job_id)
    return job is not None and job.state.final


def check(engine: Engine, root: Path, job: str) -> None:
    """Each item has succeeded, and its file holds what the attempt wrote whose result counts."""
    items = engine.store.items(job, -1, 100, [])
    kept = {artifact.idx: (root / artifact.key).read_text() for artifact in engine.store.artifacts(job, None)}
    assert {item.state for item in items} == {State.SUCCEEDED}
    assert kept == {item.idx: list((item.results or {}).values())[-1] for item in items}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class Pair:
    """Two servers on one database and one directory, of which the first hangs while it publishes."""

    def __init__(self, tmp_path: Path, url: str, *, in_flight: bool) -> None:
        self.root = tmp_path / "blobs"
        self.hanging = Hanging(self.root, in_flight=in_flight)
        self.old, self.new = (
            build(
                tmp_path / name,
                url=url,
                workloads=(ONE, FIXED),
                make=make_outlived,
                blobs=blobs,
                connect=partial(PostgresPeers, libpq(url)),
            )
            for name, blobs in (("old", self.hanging), ("new", DirectoryBlobs(self.root)))
        )

    def replay(self, kind: str) -> None:
        """Have the new server end an item while the old one hangs, and then the old one go on."""
        self.old.start()
        until(lambda: self.old.loop.leading)
        asyncio.run(self.old.submit(NewJob("j", kind, [NewItem("a", {"do": "sign"}, uid="picture")])))
        assert self.hanging.reached.wait(30)
        self.new.start()
        self.new.store.depose()
        until(lambda: ended(self.new, "j"))
        self.check()
        self.hanging.go.set()
        assert self.hanging.ended.wait(30)
        until(lambda: not self.old.loop.leading)
        self.check()

    def check(self) -> None:
        """The item has the bytes of the attempt whose result it has."""
        check(self.new, self.root, "j")

    def stop(self) -> None:
        self.hanging.go.set()
        for engine in (self.old, self.new):
            engine.stop()


@pytest.fixture
def pair(tmp_path: Path, postgres_url: str, request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(tmp_path, postgres_url, in_flight=request.param)
    yield pair
    pair.stop()


@pytest.mark.postgres
@pytest.mark.parametrize("pair", [False, True], indirect=True)
def test_a_server_that_hung_over_publishing_cannot_write_over_a_later_attempt(pair: Pair) -> None:
    pair.replay("one")


@pytest.mark.postgres
@pytest.mark.parametrize("pair", [False], indirect=True)
def test_nor_where_the_contract_fixes_the_key_for_its_staged_file_is_taken_away(pair: Pair) -> None:
    pair.replay("fixed")
    assert (pair.root / "picture" / "out.txt").is_file()


@pytest.mark.postgres
@pytest.mark.parametrize("pair", [True], indirect=True)
def test_what_the_hanging_server_published_late_is_swept(pair: Pair) -> None:
    pair.replay("one")
    blobs = DirectoryBlobs(pair.root)
    assert len(list(blobs.list("jobs"))) == 2
    assert Retention(pair.new, blobs).delete_lost() == 0
    assert Retention(pair.new, blobs, clock=lambda: time.time() + 2 * DAY).delete_lost() == 1
    assert len(list(blobs.list("jobs"))) == 1
    pair.check()


class Store(DirectoryBlobs):
    """A store that fails ``failures`` times to publish, or loses the first staged file before."""

    failures = 0
    loses = False

    def publish_all(self, moves: Sequence[tuple[str, str]]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the blob store is away")
        if self.loses:
            self.loses = False
            self.discard(moves[0][0])
        super().publish_all(moves)


@pytest.fixture
def blobs(tmp_path: Path) -> Store:
    return Store(tmp_path / "blobs")


@pytest.fixture
def engine(tmp_path: Path, database_url: str, blobs: Store) -> Iterator[Engine]:
    engine = build(tmp_path, url=database_url, workloads=(ONE, TWO, FIXED), blobs=blobs)
    engine.start()
    yield engine
    engine.stop()


def run(engine: Engine, id: str, kind: str, *items: dict[str, Any]) -> list[int]:
    """Run a job to its end; return how many attempts its items took."""
    asyncio.run(engine.submit(NewJob(id, kind, [NewItem(f"{n}", item) for n, item in enumerate(items)])))
    until(lambda: ended(engine, id))
    return sorted(item.attempt for item in engine.store.items(id, -1, 100, []))


def test_what_a_later_stage_replaces_is_swept_and_what_a_row_names_is_not(
    engine: Engine, blobs: Store, tmp_path: Path
) -> None:
    run(engine, "replaced", "two", {"do": {"first": "sign", "second": "sign"}})
    run(engine, "failed", "two", {"do": {"first": "sign", "second": "bad"}})
    run(engine, "elsewhere", "fixed", {"do": "sign"})
    root = tmp_path / "blobs"
    check(engine, root, "replaced")
    assert len(files(root / "jobs" / "replaced")) == 2
    stray = root / "jobs" / "of-another-database" / "0.1" / "out.txt"
    stray.parent.mkdir(parents=True)
    stray.write_text("")
    assert Retention(engine, blobs).delete_lost() == 0
    assert Retention(engine, blobs, clock=lambda: time.time() + 2 * DAY).delete_lost() == 1
    check(engine, root, "replaced")
    assert len(files(root / "jobs" / "replaced")) == 1
    named = [engine.store.artifacts(id, None)[0].key for id in ("failed", "elsewhere")]
    assert all(path.is_file() for path in (stray, *(root / key for key in named)))


def test_a_result_waits_for_a_store_that_is_away_and_counts_once(
    engine: Engine, blobs: Store, tmp_path: Path
) -> None:
    blobs.failures = 1_000_000
    asyncio.run(engine.submit(NewJob("j", "one", [NewItem(input={"do": "sign"}) for _ in range(3)])))
    until(lambda: engine.loop.failure is not None)
    with pytest.raises(Unavailable):
        asyncio.run(engine.submit(NewJob("k", "one", [NewItem()])))
    blobs.failures = 0
    until(lambda: ended(engine, "j"))
    assert engine.store.job("k") is None
    assert [item.attempt for item in engine.store.items("j", -1, 100, [])] == [1, 1, 1]
    check(engine, tmp_path / "blobs", "j")


def test_a_staged_file_that_somebody_deleted_costs_an_attempt_and_holds_up_nobody(
    engine: Engine, blobs: Store, tmp_path: Path
) -> None:
    blobs.loses = True
    assert run(engine, "j", "one", *[{"do": "sign"}] * 3) == [1, 1, 2]
    check(engine, tmp_path / "blobs", "j")
