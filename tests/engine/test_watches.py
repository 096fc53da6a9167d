"""Watched folders in the engine: each state of a file is part of one job, whatever dies and restarts."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from millrace.engine.looking import KnownFile, Listing
from millrace.engine.model import NewItem, NewJob
from millrace.engine.store import JobQuery
from millrace.engine.watches import Watches, WatchSpec, next_look
from millrace.engine.workload import Workload
from millrace.errors import Conflict, InvalidRequest, NotFound
from millrace.folders import listing
from tests.engine.rig import build, stage

SLOTS = {"cpu": 1, "gpu": 0, "io": 1}
WORKLOADS = (
    Workload("one", (stage("only"),)),
    Workload("small", (stage("only", "act"),), max_queued_jobs=1),
    Workload("writer", (stage("only", "write_input"),), writes_inputs=True),
    Workload("reader", (stage("only", "write_input"),)),
)


def make(request) -> NewJob:
    items = [NewItem(item["name"], {**item["input"], **request["options"]}) for item in request["items"]]
    if request["options"].get("impossible"):
        raise InvalidRequest("options.impossible: cannot be")
    return NewJob(f"job_{os.urandom(8).hex()}", request["kind"], items, label=request["label"])


class Rig:
    def __init__(self, tmp_path: Path, url: str | None = None, *, scan=None):
        self.folder = tmp_path / "inbox"
        self.folder.mkdir(exist_ok=True)
        self.engine = build(tmp_path, url=url, workloads=WORKLOADS, slots=SLOTS)
        self.looks = 0
        self.scan = scan or (lambda spec, stopping: listing(Path(spec.path), spec.patterns, stopping))
        self.watches = Watches(self.engine, self._scan, make)
        self.engine.attach(self.watches)

    def _scan(self, spec, stopping) -> Listing:
        found = self.scan(spec, stopping)
        self.looks += 1
        return found

    def start(self) -> Rig:
        self.engine.start()
        return self

    def spec(self, **options) -> WatchSpec:
        given = {"settle": 0.1, "interval": 0.03, **options}
        return WatchSpec(**{"name": "inbox", "path": str(self.folder), "kind": "one", **given})

    def watch(self, **options) -> str:
        """Watch the folder, and wait for the first look."""
        watch = asyncio.run(self.watches.add(self.spec(**options)))
        self.until(lambda: self.get(watch.id).primed)
        return watch.id

    def get(self, id):
        return asyncio.run(self.watches.get(id))

    def put(self, name: str, content: str = "x") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def jobs(self):
        return sorted(asyncio.run(self.engine.jobs(JobQuery(limit=500))).jobs, key=lambda job: job.seq)

    def ended(self, number: int):
        def all_ended():
            found = self.jobs()
            return len(found) >= number and all(job.state.final for job in found) and found

        found = self.until(all_ended)
        assert len(found) == number
        return found

    def look_again(self, times: int = 5) -> None:
        """Wait until the folder was looked at some more."""
        goal = self.looks + times
        self.until(lambda: self.looks >= goal)

    def until(self, condition):
        for _ in range(3000):
            if found := condition():
                return found
            time.sleep(0.01)
        raise AssertionError("it never came to pass")


@pytest.fixture
def rig(tmp_path):
    rigs = []

    def new(url=None, **options) -> Rig:
        rigs.append(Rig(tmp_path, url, **options))
        return rigs[-1]

    yield new
    for one in rigs:
        one.engine.stop()


def test_a_new_file_becomes_one_job(rig, database_url):
    there = rig(database_url).start()
    id = there.watch()
    there.put("sub/a.txt")
    (job,) = there.ended(1)
    assert (job.label, job.counts.total, job.kind) == ("sub/a.txt", 1, "one")
    (item,) = there.engine.store.items(job.id, -1, 10, ())
    assert item.input["path"] == str(there.folder / "sub/a.txt")
    there.look_again()
    there.ended(1)
    watch = there.until(lambda: (w := there.get(id)).last_job and w)
    assert (watch.last_job, watch.files, watch.pending, watch.last_error) == (job.id, 1, 0, None)
    (made,) = asyncio.run(there.watches.jobs(id))
    assert (made.job, made.files) == (job.id, 1)


def test_what_was_there_is_ignored_until_it_changes(rig, database_url):
    there = rig(database_url)
    there.put("old.txt")
    there.start()
    there.watch()
    there.look_again()
    assert there.jobs() == []
    there.put("old.txt", "changed")
    there.ended(1)


def test_what_was_there_is_taken_where_that_is_wanted(rig):
    there = rig()
    for n in range(3):
        there.put(f"{n}.txt")
    there.start()
    there.watch(existing="take")
    there.ended(3)


def test_a_file_is_not_taken_while_it_grows(rig):
    there = rig().start()
    id = there.watch(settle=0.5)
    path = there.put("a.txt", "1")
    for n in range(20):
        with path.open("a") as file:
            file.write(str(n))
        there.look_again(1)
        grown = path.stat().st_size
        if there.jobs():  # a machine that slept for the settling time may take it in between
            return
    assert there.until(lambda: there.watches.settling(id))[0][0] == "a.txt"
    there.ended(1)
    assert path.stat().st_size == grown


def test_each_state_of_a_file_is_one_job(rig, database_url):
    there = rig(database_url).start()
    there.watch()
    there.put("a.txt", "first")
    there.ended(1)
    there.put("a.txt", "second")
    there.ended(2)
    there.look_again()
    there.ended(2)


def test_a_restart_takes_nothing_twice_and_what_came_meanwhile_once(rig, database_url):
    there = rig(database_url).start()
    there.watch()
    there.put("a.txt")
    there.ended(1)
    there.engine.stop()
    there.put("b.txt")
    again = rig(database_url).start()
    again.ended(2)
    again.look_again()
    assert [job.label for job in again.ended(2)] == ["a.txt", "b.txt"]
    there.engine.stop = lambda: None


def test_a_job_that_cannot_be_made_is_said_and_tried_again(rig):
    there = rig().start()
    id = there.watch(options={"impossible": True})
    there.put("a.txt")
    watch = there.until(lambda: (w := there.get(id)).last_error and w)
    assert (watch.last_error, watch.pending) == ("options.impossible: cannot be", 1)
    assert there.jobs() == []


def test_a_full_queue_makes_files_wait(rig):
    there = rig().start()
    asyncio.run(there.engine.pause("small"))
    id = there.watch(kind="small")
    for n in range(3):
        there.put(f"{n}.txt")
    there.until(lambda: "its limit" in (there.get(id).last_error or ""))
    assert len(there.jobs()) == 1
    asyncio.run(there.engine.resume("small"))
    there.ended(3)
    there.until(lambda: there.get(id).last_error is None)


def test_batches(rig, database_url):
    there = rig(database_url).start()
    there.watch(per="batch", batch_size=4, settle=0.4)
    for n in range(6):
        there.put(f"{n}.txt")
    there.until(lambda: sum(job.counts.total for job in there.jobs()) == 6)
    jobs = there.jobs()
    assert all(job.counts.total <= 4 for job in jobs)
    names = [item.name for job in jobs for item in there.engine.store.items(job.id, -1, 10, ())]
    assert sorted(names) == [f"{n}.txt" for n in range(6)]
    assert any(job.label.startswith("inbox: ") for job in jobs)


def test_a_folder_that_goes_away_is_said_and_nothing_is_taken_twice(rig):
    there = rig().start()
    id = there.watch()
    there.put("a.txt")
    there.ended(1)
    away = there.folder.rename(there.folder.with_name("away"))
    watch = there.until(lambda: (w := there.get(id)).last_error and w)
    assert "cannot be read: No such file" in watch.last_error
    away.rename(there.folder)
    there.until(lambda: there.get(id).last_error is None)
    there.look_again()
    there.ended(1)


def test_a_mount_that_goes_away_leaves_an_empty_folder_and_is_said(rig):
    """The listing is made to lie on another file system, as it does below a mount that went away."""
    gone = {"it": False}

    def scan(spec, stopping):
        found = listing(Path(spec.path), spec.patterns, stopping)
        return Listing({}, device="other") if gone["it"] else found

    there = rig(scan=scan).start()
    id = there.watch()
    there.put("a.txt")
    there.ended(1)
    gone["it"] = True
    watch = there.until(lambda: (w := there.get(id)).last_error and w)
    assert watch.last_error == "it is empty, and on another file system than before: is it mounted?"
    assert not any(file.gone for file in there.engine.store.known_files(id).values())
    gone["it"] = False
    there.until(lambda: there.get(id).last_error is None)
    there.look_again()
    there.ended(1)


def test_what_a_disk_brings_that_was_not_mounted_at_first_was_there_before(rig):
    disk = {"name": "below", "files": {}}

    def scan(spec, stopping):
        found = listing(Path(spec.path), spec.patterns, stopping)
        return replace(found, device=disk["name"]) if disk["name"] == "disk" else Listing({}, device="below")

    there = rig(scan=scan).start()
    for n in range(3):
        there.put(f"{n}.txt")
    id = there.watch()
    there.look_again()
    disk["name"] = "disk"
    there.until(lambda: there.get(id).files == 3)
    there.look_again()
    assert there.jobs() == []
    there.put("new.txt")
    assert [job.label for job in there.ended(1)] == ["new.txt"]


def test_a_file_that_leaves_and_comes_back_unchanged_is_no_news(rig, database_url):
    there = rig(database_url).start()
    id = there.watch()
    path = there.put("a.txt")
    there.put("b.txt")
    there.ended(2)
    outside = path.rename(there.folder.parent / "outside.txt")
    there.until(lambda: there.engine.store.known_files(id)["a.txt"].gone)
    outside.rename(path)
    there.until(lambda: not there.engine.store.known_files(id)["a.txt"].gone)
    there.look_again()
    there.ended(2)


@pytest.mark.parametrize(("kind", "number"), [("writer", 1), ("reader", 2)])
def test_what_a_job_writes_into_its_own_file_is_news_only_from_those_who_never_do(rig, kind, number):
    there = rig().start()
    there.watch(kind=kind)
    path = there.put("a.txt", "1")
    there.ended(1)
    assert path.read_text() == "1!"
    if number == 2:
        there.until(lambda: len(there.jobs()) >= 2)
        return
    there.look_again(10)
    there.ended(1)
    path.write_text("what somebody else writes afterwards!")
    there.ended(2)


def test_switching_off_and_deleting(rig):
    there = rig().start()
    id = there.watch()
    asyncio.run(there.watches.enable(id, False))
    there.put("a.txt")
    other = there.watch(name="other", patterns=["*.none"])
    there.look_again()
    assert there.jobs() == []
    asyncio.run(there.watches.enable(id, True))
    there.ended(1)
    asyncio.run(there.watches.delete(id))
    asyncio.run(there.watches.delete(other))
    there.put("b.txt")
    assert asyncio.run(there.watches.list()) == []
    for call in (there.watches.get(id), there.watches.delete(id), there.watches.enable(id, True)):
        with pytest.raises(NotFound):
            asyncio.run(call)


def test_folders_of_the_settings_are_steered_there(rig, database_url):
    there = rig(database_url)
    there.watches.configure([there.spec()])
    there.start()
    id = "set_inbox"
    there.until(lambda: there.get(id).primed)
    for call in (there.watches.delete(id), there.watches.enable(id, False)):
        with pytest.raises(Conflict, match="stands in the settings"):
            asyncio.run(call)
    there.put("a.txt")
    there.ended(1)
    there.engine.stop()

    later = rig(database_url)
    later.watches.configure([later.spec(settle=0.2)])
    later.start()
    assert later.get(id).spec.settle == 0.2
    later.look_again()
    later.ended(1)
    later.engine.stop()

    last = rig(database_url)
    last.watches.configure([])
    last.start()
    watch = last.get(id)
    assert (watch.enabled, watch.last_error) == (False, "it is not in the settings any more")
    asyncio.run(last.watches.delete(id))
    there.engine.stop = later.engine.stop = lambda: None


def test_one_that_hangs_does_not_hold_up_another_nor_the_stop(rig):
    import threading

    hang = threading.Event()

    def scan(spec, stopping):
        if spec.name == "hangs":
            hang.wait(60)
        return listing(Path(spec.path), spec.patterns, stopping)

    there = rig(scan=scan).start()
    slow = asyncio.run(there.watches.add(there.spec(name="hangs")))
    there.watch()
    there.put("a.txt")
    there.ended(1)
    assert there.watches.looking_since(slow.id) is not None
    there.engine.stop()
    hang.set()
    there.engine.stop = lambda: None


def test_two_cannot_take_the_same_state_of_a_file(rig, database_url):
    there = rig(database_url).start()
    id = there.watch()
    file = KnownFile(1, 1, "j", 0)

    def take(round_):
        return [round_.tx.take_file(id, "a", one, 1.0) for one in (file, file, replace(file, mtime=2), file)]

    assert there.engine.loop.request(take).result() == [True, False, True, True]
    long = "ü" * 3000

    def take_long(round_):
        return round_.tx.take_file(id, long, file, 1.0)

    assert there.engine.loop.request(take_long).result()
    assert long in there.engine.store.known_files(id)


def test_looking_takes_a_tenth_of_the_time_at_most():
    assert next_look(100.0, 100.1, 10.0) == 110.1
    assert next_look(100.0, 105.0, 10.0) == 150.0
    assert next_look(0.0, 3600.0, 10.0) == 3900.0
    assert next_look(100.0, 90.0, 10.0) == 100.0


def test_what_is_gone_for_long_is_forgotten(rig, database_url):
    there = rig(database_url).start()
    id = there.watch()

    def forget(round_):
        for name in ("a", "b"):
            round_.tx.take_file(id, name, KnownFile(1, 1), 1.0)
        round_.tx.mark_gone(id, ["a"], 50.0)
        return [round_.tx.forget_gone(id, 40.0), round_.tx.forget_gone(id, 60.0)]

    asyncio.run(there.watches.enable(id, False))
    assert there.engine.loop.request(forget).result() == [0, 1]
    assert list(there.engine.store.known_files(id)) == ["b"]
