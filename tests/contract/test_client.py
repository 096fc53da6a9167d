"""The Python client against a real server, both faces: what it submits, follows, brings home and survives."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.client import (
    AsyncMillrace,
    BadRequest,
    Bytes,
    Conflict,
    Forbidden,
    JobFailed,
    LocalError,
    Millrace,
    NotFound,
    Retrying,
    ServerPath,
    Unauthorized,
    Unreachable,
    WaitTimeout,
)
from tests.conftest import NewServer
from tests.cutting_proxy import CuttingProxy
from tests.live import LiveServer, free_port, probe_path

QUICK = Retrying(delay=0.01, longest=0.2)


class Awaited:
    """Shows something asynchronous as if it blocked, so that each test is written once."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return self._show(getattr(self._inner, name))

    def __iter__(self) -> Iterator[Any]:
        return self._drain(aiter(self._inner))

    def _show(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            return self._show(self._loop.run_until_complete(value))
        if inspect.isasyncgen(value):
            return self._drain(value)
        if callable(value):
            return lambda *args, **kwargs: self._show(value(*args, **kwargs))
        shown = type(value).__name__.startswith("Async")
        return Awaited(value, self._loop) if shown else value

    def _drain(self, values: Any) -> Iterator[Any]:
        try:
            while True:
                yield self._show(self._loop.run_until_complete(anext(values)))
        except StopAsyncIteration:
            return
        finally:
            self._loop.run_until_complete(values.aclose())


Connect = Callable[..., Any]


@pytest.fixture(params=["blocking", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """A function that makes a client of a server, with one face or the other."""
    clients: list[Any] = []
    loop = asyncio.new_event_loop()

    def make(url: str, token: str | None = None, retrying: Retrying = QUICK) -> Any:
        if request.param == "blocking":
            clients.append(Millrace(url, token, retrying=retrying))
        else:
            clients.append(Awaited(AsyncMillrace(url, token, retrying=retrying), loop))
        return clients[-1]

    try:
        yield make
    finally:
        for client in clients:
            client.close()
        loop.close()


@pytest.fixture
def client(connect: Connect, probe: LiveServer) -> Any:
    return connect(probe.url)


@pytest.fixture
def proxy(probe: LiveServer) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(probe.port)
    yield proxy
    proxy.close()


# -- submitting --------------------------------------------------------------------------------


def test_files_of_here_and_of_there_become_items(client: Any, probe: LiveServer, tmp_path: Path) -> None:
    (tmp_path / 'ö "a".txt').write_bytes(b"uploaded" * 100_000)
    there = probe.media_roots[0] / "there.txt"
    there.write_bytes(b"on the server")
    told: list[tuple[int, int]] = []
    sources = [tmp_path / 'ö "a".txt', ServerPath(there), Bytes(b"in memory", "b.txt")]
    job = client.submit("probe", sources, label="mixed", progress=lambda *sent: told.append(sent))
    info = job.wait(60, check=True)
    assert info.well
    assert (info.label, info.counts.succeeded, info.percent) == ("mixed", 3, 100.0)
    assert told[-1][0] == told[-1][1] > 800_000
    assert [item.name for item in job.items()][::2] == ['ö "a".txt', "b.txt"]
    copies = {artifact.item: job.artifacts.read(artifact) for artifact in job.artifacts}
    assert copies == {0: b"uploaded" * 100_000, 1: b"on the server", 2: b"in memory"}


def test_a_job_can_be_found_again_and_listed_page_by_page(client: Any) -> None:
    made = [client.submit("probe", [{}], label=f"page {n}").id for n in range(5)]
    assert client.job(made[0]).info.label == "page 0"
    first = client.page(kind="probe", text="page ", limit=2)
    second = client.page(kind="probe", text="page ", limit=2, cursor=first.cursor)
    assert [job.id for job in (*first.jobs, *second.jobs)] == made[:0:-1][:4]
    assert [job.id for job in client.jobs(kind="probe", text="page ", limit=4)] == made[:0:-1]
    assert first.jobs[0].counts.total == 1
    for job_id in made:
        client.job(job_id).delete()
    assert list(client.jobs(text="page ")) == []


def test_status_is_understood_in_the_words_of_every_contract(client: Any) -> None:
    job = client.submit("probe", [{}])
    job.wait(60)
    assert job.id in [info.id for info in client.jobs(status=["completed", "failed"])]
    with pytest.raises(BadRequest, match="'nosuch' is no status"):
        client.page(status="nosuch")


def test_a_refusal_says_which_field_and_why(client: Any, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="unknown kind 'nosuch'; there are: documents"):
        client.submit("nosuch", [{}])
    with pytest.raises(BadRequest, match=r"items\.0\.input.*path"):
        client.submit("probe", [ServerPath("/etc/passwd")])
    with pytest.raises(LocalError, match="there is no file"):
        client.submit("probe", [tmp_path / "nosuch"])
    with pytest.raises(NotFound) as caught:
        client.job("job_nosuch")
    assert caught.value.code == "not_found"
    assert caught.value.request_id


# -- steering ----------------------------------------------------------------------------------


def test_a_running_job_can_be_changed_and_cancelled(client: Any) -> None:
    job = client.submit("probe", [{"sleep": 30}, {"sleep": 30}], parallelism=1)
    assert job.change(priority="high", parallelism=2).priority == 2
    with pytest.raises(WaitTimeout, match="it goes on") as caught:
        job.wait(0.01)
    assert not caught.value.job.ended
    info = job.cancel()
    assert (info.state, job.state, info.ended, info.well) == ("cancelled", "cancelled", True, False)
    assert job.cancel().state == "cancelled"


def test_failed_items_are_tried_again(client: Any, tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    job = client.submit("probe", [{"fail_unless": str(switch)}, {}])
    with pytest.raises(JobFailed, match="1 of 2 items failed"):
        job.wait(60, check=True)
    (failed,) = job.items(state="failed")
    assert failed.error["code"] == "missing"
    switch.touch()
    job.retry()
    assert job.wait(60).well
    detail = job.item(0)
    assert [run["stage"] for run in detail.runs] == ["first", "first", "second"]
    with pytest.raises(Conflict):
        job.retry([0])


def test_a_kind_can_be_paused_and_resumed(client: Any) -> None:
    assert client.pause("probe").mode == "paused"
    try:
        job = client.submit("probe", [{}])
        (probe,) = [each for each in client.workloads() if each.kind == "probe"]
        assert (probe.mode, probe.stages) == ("paused", ("first", "second"))
    finally:
        assert client.resume("probe").mode == "active"
    assert job.wait(60).well
    stats = client.stats("probe")
    assert stats.completed >= 1
    assert client.stats().total_jobs >= stats.total_jobs
    assert client.health()["status"]


def test_schedules_and_deliveries_are_looked_after(client: Any) -> None:
    body = {"options": {"found": 1}, "label": "nightly", "callbacks": ["https://127.0.0.1:1/hook"]}
    with pytest.raises(BadRequest, match="cron"):
        client.schedules.add("every day", "probe")
    made = client.schedules.add("30 3 * * *", "probe", zone="Europe/Berlin", name="nightly", **body)
    assert made.job == {"kind": "probe", **body, "callbacks": [{"url": "https://127.0.0.1:1/hook"}]}
    assert client.schedules.get(made.id).raw["upcoming"]
    assert made.id in [each.id for each in client.schedules.list()]
    assert client.schedules.enable(made.id, False).enabled is False
    assert client.schedules.ticks(made.id) == []
    client.schedules.delete(made.id)
    with pytest.raises(NotFound):
        client.schedules.get(made.id)
    job = client.submit("probe", [{}], callbacks=["https://example.invalid/hook"])
    job.wait(60)
    (sent,) = client.deliveries.list(job=job.id)
    assert client.deliveries.get(sent.id).raw["body"]["data"]["id"] == job.id
    with pytest.raises(Conflict, match="still being tried"):
        client.deliveries.resend(sent.id)
    assert list(client.deliveries.list(job=job.id, limit=0)) == []


def test_presets_are_kept_and_used(client: Any) -> None:
    saved = client.presets.save("probe", "many", {"found": 3})
    assert (saved.kind, saved.name, saved.options) == ("probe", "many", {"found": 3})
    assert client.presets.get("probe", "many").options == {"found": 3}
    assert [each.name for each in client.presets.list("probe")] == ["many"]
    job = client.submit("probe", preset="many")
    assert job.wait(60).counts.total == 3
    client.presets.delete("probe", "many")
    with pytest.raises(NotFound):
        client.presets.get("probe", "many")


# -- following ---------------------------------------------------------------------------------


def test_watching_tells_a_job_from_its_beginning_to_its_end(client: Any) -> None:
    job = client.submit("probe", [{"sleep": 0.3}, {}])
    events = list(job.watch())
    stored = [event.seq for event in events if event.seq]
    assert stored == list(range(1, len(stored) + 1))
    assert (events[0].type, events[-1].type) == ("job.created", "job.finished")
    assert {event.item for event in events if event.type == "item.finished"} == {0, 1}
    assert any(event.type == "item.progress" and event.data["phase"] == "sleeping" for event in events)
    assert [event.seq for event in job.watch(after=stored[-2])] == [stored[-1]]
    assert list(job.watch(after=stored[-1])) == []


def test_whoever_stops_watching_leaves_nothing_open(client: Any) -> None:
    job = client.submit("probe", [{"sleep": 30}])
    for event in (watching := job.watch()):
        if event.type == "item.started":
            break
    watching.close()
    assert job.cancel().state == "cancelled"


def test_a_dropped_stream_is_taken_up_again_and_nothing_is_missed_or_told_twice(
    connect: Connect, proxy: CuttingProxy
) -> None:
    job = connect(proxy.url).submit("probe", [{"sleep": 0.2} for _ in range(6)], parallelism=1)
    seen, cuts = [], 0
    for event in job.watch():
        seen.append(event)
        if event.type == "item.finished" and cuts < 3:
            cuts += bool(proxy.cut())
    stored = [event.seq for event in seen if event.seq]
    assert stored == list(range(1, len(stored) + 1))
    assert seen[-1].type == "job.finished"
    assert len([line for line in proxy.requests if line.endswith("/events")]) == cuts + 1 == 4


def test_watching_and_waiting_outlast_a_restart_of_the_server(
    connect: Connect, new_server: NewServer
) -> None:
    port = free_port()
    server = new_server(path=probe_path(Path(new_server().home)), settings={"port": port})
    # The flag of the test's server says 0: let the file decide, so that it comes back at the same place.
    server.command = lambda: [w for w in LiveServer.command(server) if w not in ("--port", "0")]
    server.start()
    job = connect(server.url).submit("probe", [{"sleep": 1.0}])
    restarting = threading.Thread(target=server.restart, kwargs={"kill": True})
    seen = []
    for event in job.watch():
        seen.append(event)
        if event.type == "item.started" and restarting.ident is None:
            restarting.start()
    restarting.join()
    stored = [event.seq for event in seen if event.seq]
    assert stored == list(range(1, len(stored) + 1))
    assert seen[-1].type == "job.finished"
    again = connect(server.url).submit("probe", [{"sleep": 1.0}])
    restarting = threading.Thread(target=server.restart)
    restarting.start()
    assert again.wait(60).well
    restarting.join()


# -- artifacts ---------------------------------------------------------------------------------


def made(client: Any, *contents: str, name: str = "out.txt") -> Any:
    """Return a finished job whose items published these contents."""
    job = client.submit("probe", [{"artifact": name, "content": content} for content in contents])
    job.wait(60, check=True)
    return job


def test_artifacts_are_saved_in_a_folder_for_each_item_and_only_once(client: Any, tmp_path: Path) -> None:
    job = made(client, "first", "second")
    saved = job.artifacts.save(tmp_path / "out")
    assert [(str(p.relative_to(tmp_path)), p.read_text()) for p in saved] == [
        ("out/0 0/out.txt", "first"),
        ("out/1 1/out.txt", "second"),
    ]
    before = saved[0].stat().st_mtime_ns
    saved[1].write_text("spoilt")
    assert job.artifacts.save(tmp_path / "out") == saved
    assert saved[0].stat().st_mtime_ns == before
    assert saved[1].read_text() == "second"
    assert job.artifacts.save(tmp_path / "none", names="*.srt") == []
    assert not (tmp_path / "none").exists()


def test_a_download_that_is_cut_off_is_resumed(connect: Connect, proxy: CuttingProxy, tmp_path: Path) -> None:
    content = "".join(f"{n:09d}\n" for n in range(100_000))
    job = made(connect(proxy.url), content)
    (artifact,) = job.artifacts.list()
    fresh = connect(proxy.url).job(job.id)  # a connection for each cut
    proxy.limit_answers(300_000, 300_000, 300_000)
    proxy.cut()
    assert b"".join(fresh.artifacts.chunks(artifact)).decode() == content
    proxy.limit_answers(400_000)
    proxy.cut()
    target = fresh.artifacts.download(artifact, tmp_path / "out.txt")
    assert target.read_text() == content
    assert len([line for line in proxy.requests if line.endswith("/out.txt")]) == 6


# -- lost answers, wrong addresses -------------------------------------------------------------


def test_a_submission_whose_answer_was_lost_makes_one_job(
    connect: Connect, proxy: CuttingProxy, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * 200_000)
    client = connect(proxy.url)
    for sources in ([tmp_path / "a.txt"], [{}]):
        label = f"lost {time.monotonic_ns()}"
        proxy.lose_answers(2)
        job = client.submit("probe", sources, label=label)
        assert [info.id for info in client.jobs(text=label)] == [job.id]
        assert job.wait(60).well
    assert proxy.requests.count("POST /jobs") == 6


def test_a_retry_whose_answer_was_lost_is_left_to_the_caller(connect: Connect, proxy: CuttingProxy) -> None:
    job = connect(proxy.url).submit("probe", [{"fail": "as told"}])
    job.wait(60)
    proxy.lose_answers(1)
    with pytest.raises(Unreachable, match="cut off") as caught:
        job.retry()
    assert caught.value.sent


def test_where_nobody_listens_it_says_so_and_where(connect: Connect) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    told: list[str] = []
    how = Retrying(tries=3, delay=0.01, notice=lambda error, _: told.append(error.code))
    with pytest.raises(Unreachable, match=f"no server answers at {url}"):
        connect(url, retrying=how).stats()
    assert told == ["unreachable"] * 2


def test_a_token_is_asked_for_and_checked(connect: Connect, new_server: NewServer) -> None:
    server = new_server(environ={"REQUIRE_AUTH": "true", "BEARER_TOKEN": "right"}).start()
    with pytest.raises(Unauthorized, match="needs a token"):
        connect(server.url).stats()
    with pytest.raises(Forbidden, match="not the right one"):
        connect(server.url, "wrong").stats()
    assert connect(server.url, "right").stats().total_jobs == 0
