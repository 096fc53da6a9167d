"""Schedules: cron in any time zone, each tick at most one job, what was missed by choice."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import uuid
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.engine.model import NewItem, NewJob
from millrace.engine.schedules import (
    Schedule,
    Schedules,
    Tick,
    check,
    due_ticks,
    last_tick,
    next_tick,
    upcoming,
)
from millrace.engine.sql import SqlStore
from millrace.engine.store import JobQuery
from millrace.errors import InvalidRequest, NotFound
from tests.engine.rig import build

BERLIN = "Europe/Berlin"
SLOTS = {"cpu": 2, "gpu": 0, "io": 1}


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def told(seconds: float | None, zone: str) -> str:
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).isoformat()


def schedule(cron="*/5 * * * *", zone="UTC", **options) -> Schedule:
    given = {
        "id": "sch_1",
        "name": "",
        "request": {},
        "missed": "once",
        "overlap": False,
        "enabled": True,
        "next_at": None,
        "last_at": None,
        "last_job": None,
        "last_error": None,
        "created_at": 0.0,
        "updated_at": 0.0,
    }
    return Schedule(cron=cron, zone=zone, **{**given, **options})


# -- when ---------------------------------------------------------------------------------------


def test_times_are_told_in_the_schedules_zone():
    winter = next_tick("30 3 * * *", BERLIN, at("2026-01-10T12:00", BERLIN))
    assert told(winter, "UTC") == "2026-01-11T02:30:00+00:00"
    assert told(next_tick("30 3 * * *", BERLIN, at("2026-07-10T12:00")), "UTC") == "2026-07-11T01:30:00+00:00"


def test_a_time_that_summer_time_skips_comes_right_after_the_change():
    due = next_tick("30 2 * * *", BERLIN, at("2026-03-28T12:00", BERLIN))
    assert told(due, BERLIN) == "2026-03-29T03:00:00+02:00"
    assert told(next_tick("30 2 * * *", BERLIN, due), BERLIN) == "2026-03-30T02:30:00+02:00"


def test_a_time_that_winter_time_repeats_comes_once():
    due = next_tick("30 2 * * *", BERLIN, at("2026-10-24T12:00", BERLIN))
    assert told(due, BERLIN) == "2026-10-25T02:30:00+02:00"
    for after in (due, due + 3600, due + 3599):
        assert told(next_tick("30 2 * * *", BERLIN, after), BERLIN) == "2026-10-26T02:30:00+01:00"


def test_every_quarter_of_the_repeated_hour_comes_twice():
    start = at("2026-10-25T01:59", BERLIN)
    found = upcoming(schedule("*/15 * * * *", BERLIN), 9, start)
    assert [later - earlier for earlier, later in itertools.pairwise(found)] == [900] * 8


CRONS = st.sampled_from(
    [
        "* * * * *",
        "*/7 * * * *",
        "0 * * * *",
        "30 2 * * *",
        "15,45 1-3 * * *",
        "0 0 1 * *",
        "0 12 * * 1-5",
        "59 23 L * *",
    ]
)
ZONES = st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
TIMES = st.integers(int(at("2026-01-01T00:00")), int(at("2027-12-31T00:00"))).map(float)


@settings(max_examples=150, deadline=None)
@given(CRONS, ZONES, TIMES)
def test_ticks_only_ever_go_forward_and_backward_finds_the_same(cron, zone, now):
    first = next_tick(cron, zone, now)
    second = next_tick(cron, zone, first)
    assert now < first < second
    assert last_tick(cron, zone, now) <= now
    assert last_tick(cron, zone, first) == first


@pytest.mark.parametrize(
    ("nickname", "cron"), [("@daily", "0 0 * * *"), ("@Hourly", "0 * * * *"), ("@weekly", "0 0 * * 0")]
)
def test_nicknames(nickname, cron):
    assert next_tick(nickname, BERLIN, 1e9) == next_tick(cron, BERLIN, 1e9)


@pytest.mark.parametrize(
    ("cron", "zone", "part"),
    [
        ("", "UTC", "cron: ''"),
        ("* * * *", "UTC", "is not a cron expression"),
        ("61 * * * *", "UTC", "Bad minute"),
        ("0 0 30 2 *", "UTC", "cron: '0 0 30 2 *'"),
        ("* " * 200, "UTC", "longer than 200"),
        ("0 0 * * *", "Europe/Atlantis", "zone: 'Europe/Atlantis' is no time zone"),
        ("0 0 * * *", "../../etc/passwd", "is no time zone"),
        ("0 0 * * *", "", "is no time zone"),
        ("0 0 * * *", "Europe", "is no time zone"),
    ],
)
def test_what_cannot_be_understood_is_refused(cron, zone, part):
    with pytest.raises(InvalidRequest) as caught:
        check(cron, zone)
    assert part in caught.value.message


# -- what was missed ----------------------------------------------------------------------------

NOON = at("2026-05-01T12:00")


@pytest.mark.parametrize(
    ("missed", "late", "expected"),
    [
        ("skip", 10, [NOON]),
        ("skip", 3600 + 200, []),
        ("skip", 3600 + 20, [NOON + 3600]),
        ("once", 10, [NOON]),
        ("once", 3600 + 200, [NOON + 3600]),
        ("all", 10, [NOON]),
        ("all", 1000, [NOON, NOON + 300, NOON + 600, NOON + 900]),
        ("all", -1, []),
    ],
)
def test_ticks_that_passed_while_nobody_ran(missed, late, expected):
    cron = "*/5 * * * *" if missed == "all" else "0 * * * *"
    assert due_ticks(schedule(cron, missed=missed, next_at=NOON), NOON + late) == expected


def test_no_more_than_the_latest_hundred_are_made_up():
    ticks = due_ticks(schedule("* * * * *", missed="all", next_at=NOON), NOON + 86400)
    assert (len(ticks), ticks[-1]) == (100, NOON + 86400)


def test_a_schedule_that_is_off_has_nothing_coming():
    assert upcoming(schedule(enabled=False), 3, NOON) == []
    assert due_ticks(schedule(next_at=None), NOON) == []


# -- jobs ---------------------------------------------------------------------------------------


class Clock:
    """The time as a test sets it."""

    def __init__(self) -> None:
        self.now = NOON - 10

    def __call__(self) -> float:
        return self.now


def make(request) -> NewJob:
    if "broken" in request:
        raise InvalidRequest("the media root is gone")
    return NewJob(
        f"job_{uuid.uuid4().hex}", "one", [NewItem("a", dict(request.get("input", {})))], label="scheduled"
    )


@pytest.fixture
def running(tmp_path, request):
    url = request.getfixturevalue("database_url") if "database_url" in request.fixturenames else None
    engine = build(tmp_path, url=url, slots=SLOTS)
    clock = Clock()
    schedules = Schedules(engine, make, clock=clock)
    engine.attach(schedules)
    engine.start()
    schedules.clock = clock
    schedules.engine = engine
    yield schedules
    engine.stop()


def until(condition):
    for _ in range(500):
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("it never came to pass")


def ticks(schedules: Schedules, id: str) -> list[Tick]:
    return list(asyncio.run(schedules.ticks(id)))


def advance(schedules: Schedules, seconds: float) -> None:
    schedules.clock.now += seconds
    schedules._timer.wake()


def test_a_tick_creates_its_job_and_the_next_is_known(running):
    added = asyncio.run(running.add("*/5 * * * *", {"input": {}}, name="often"))
    assert added.next_at == NOON
    advance(running, 11)
    (tick,) = until(lambda: ticks(running, added.id))
    assert (tick.at, tick.error) == (NOON, None)
    job = asyncio.run(running.engine.job(tick.job))
    assert job.label == "scheduled"
    now = until(lambda: (s := asyncio.run(running.get(added.id))).next_at > NOON and s)
    assert (now.next_at, now.last_at, now.last_job, now.last_error) == (NOON + 300, NOON, tick.job, None)


def test_a_tick_makes_one_job_however_often_it_is_tried(running, database_url):
    added = asyncio.run(running.add("*/5 * * * *", {}))
    threads = [
        threading.Thread(target=running._write, args=(added, NOON, make({}), None), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ticks(running, added.id)) == 1
    assert asyncio.run(running.engine.jobs(JobQuery())).total == 1


def test_no_second_job_while_the_first_is_unfinished_unless_allowed(running):
    slow = {"input": {"do": "sleep", "seconds": 60}}
    careful = asyncio.run(running.add("*/5 * * * *", slow))
    eager = asyncio.run(running.add("*/5 * * * *", slow, overlap=True))
    advance(running, 11)
    until(lambda: ticks(running, careful.id) and ticks(running, eager.id))
    advance(running, 300)
    later = until(lambda: len(found := ticks(running, careful.id)) == 2 and found)
    assert later[0].job is None
    assert "is still" in later[0].error
    assert until(lambda: len(found := ticks(running, eager.id)) == 2 and found)[0].job


def test_a_tick_that_can_make_no_job_says_why_and_goes_on(running):
    request = {}
    added = asyncio.run(running.add("*/5 * * * *", request))
    running._make = lambda request: make({"broken": 1})
    advance(running, 11)
    (tick,) = until(lambda: ticks(running, added.id))
    assert (tick.job, tick.error) == (None, "the media root is gone")
    now = until(lambda: (s := asyncio.run(running.get(added.id))).next_at > NOON and s)
    assert now.last_error == "the media root is gone"


def test_a_request_that_makes_no_job_is_refused_when_added(running):
    with pytest.raises(InvalidRequest, match="media root"):
        asyncio.run(running.add("@daily", {"broken": 1}))
    assert asyncio.run(running.list()) == []


def test_switched_off_nothing_runs_and_nothing_is_made_up(running):
    added = asyncio.run(running.add("*/5 * * * *", {}, missed="all"))
    assert asyncio.run(running.enable(added.id, False)).next_at is None
    advance(running, 4000)
    running.engine.loop.clock = running.clock
    on = asyncio.run(running.enable(added.id, True))
    assert on.next_at == NOON + 4200
    assert ticks(running, added.id) == []


def test_a_deleted_schedule_is_gone_and_its_jobs_stay(running, database_url):
    added = asyncio.run(running.add("*/5 * * * *", {}))
    advance(running, 11)
    (tick,) = until(lambda: ticks(running, added.id))
    asyncio.run(running.delete(added.id))
    for attempt in (running.get, running.delete, running.ticks):
        with pytest.raises(NotFound):
            asyncio.run(attempt(added.id))
    assert asyncio.run(running.engine.job(tick.job)).id == tick.job


def test_what_was_missed_while_no_server_ran_is_made_up_once(tmp_path):
    engine = build(tmp_path, slots=SLOTS)
    clock = Clock()
    schedules = Schedules(engine, make, clock=clock)
    engine.start()
    added = asyncio.run(schedules.add("*/5 * * * *", {}))
    engine.stop()

    clock.now = NOON + 1234
    engine = build(tmp_path, slots=SLOTS)
    again = Schedules(engine, make, clock=clock)
    engine.attach(again)
    engine.start()
    try:
        (tick,) = until(lambda: ticks(again, added.id))
        assert tick.at == NOON + 1200
        assert until(lambda: asyncio.run(again.get(added.id)).next_at == NOON + 1500)
    finally:
        engine.stop()


def test_old_ticks_are_forgotten_the_latest_thousand_kept(database_url):
    store = SqlStore(database_url)
    try:
        with store.begin() as tx:
            for n in range(1005):
                assert tx.insert_tick(Tick("s", float(n), None, None))
            assert not tx.insert_tick(Tick("s", 1004.0, "other", None))
        kept = store.ticks("s", 5000)
        assert (len(kept), kept[0].at, kept[-1].at) == (1000, 1004.0, 5.0)
    finally:
        store.close()


def test_stored_as_it_was(database_url):
    one = schedule(
        request={"kind": "x", "items": [1]},
        next_at=5.5,
        overlap=True,
        created_at=datetime.now(UTC).timestamp(),
    )
    store = SqlStore(database_url)
    try:
        with store.begin() as tx:
            tx.insert_schedule(one)
        assert store.schedule("sch_1") == one
        assert (store.due_schedules(5.4), store.due_schedules(5.5)) == ([], [one])
        assert store.next_schedule() == 5.5
    finally:
        store.close()
