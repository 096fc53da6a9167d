"""Shows a job while it runs: bars at a terminal, lines elsewhere, or events as JSON; then how it ended.

Ctrl-C leaves the job running.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, Self

import typer

from millrace.cli import ends, screen

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from millrace.client import Event, Job, JobInfo

_ROWS = 8
"""How many items have a bar of their own at once."""

_TOLD_ONE_BY_ONE = 25
"""Up to so many items, each is told when it is done; beyond, only failures are."""


class Teller(Protocol):
    """Shows events."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """Leave the screen as it is to stay."""

    def tell(self, event: Event) -> None:
        """Show an event."""


class Names:
    """The items' names, read a page at a time when the first of it is asked for."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._known: dict[int, str] = {}

    def of(self, idx: int) -> str:
        """Return the name of an item."""
        if idx not in self._known:
            for item in self._job.items(after=idx - 1, limit=200):
                self._known[item.idx] = item.name or str(item.idx)
        return self._known.get(idx, str(idx))


class JsonLines:
    """Writes each event as a line of JSON."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, event: Event) -> None:
        """Write an event as the server sent it."""
        screen.write_json_line(dict(event.raw))


class Lines:
    """Writes a line for whatever a reader of a log wants to know. No progress: it would be its most part."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._names = Names(job)
        self._total = job.info.counts.total
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, event: Event) -> None:
        """Write a line for an event that deserves one."""
        data = event.data
        self._total = data.get("total", self._total)
        if event.type == "item.started" and event.item is not None:
            self._write(f"{self._names.of(event.item)}: {data['stage']}")
        elif event.type == "item.requeued" and event.item is not None and data["outcome"] != "recalled":
            self._write(f"{self._names.of(event.item)}: tried again; {screen.reason(data.get('error'))}")
        elif event.type == "item.finished" and event.item is not None:
            self._done += 1
            told = f": {screen.reason(data['error'])}" if data.get("error") else ""
            name, state = self._names.of(event.item), data["state"]
            self._write(f"{name}: {state}{told} ({self._done}/{self._total})")
        elif event.type in ("job.started", "job.cancel_requested"):
            self._write(event.type.removeprefix("job.").replace("_", " "))
        elif event.type == "job.planned":
            self._write(f"{self._total} items found")
        elif event.type == "job.updated" and data.get("retried"):
            self._done -= data["retried"]
            self._write(f"{data['retried']} items are tried again")

    def _write(self, text: str) -> None:
        typer.echo(text)


class Bars:
    """A bar for the job, with pace and time to go, and one for each item that runs."""

    def __init__(self, job: Job) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._job = job
        self._names = Names(job)
        self._items: dict[int, TaskID] = {}
        self._looked = 0.0
        self._bars: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[told]}", markup=False, style="cyan"),
            TimeElapsedColumn(),
            console=Console(highlight=False),
            transient=True,
        )
        self._whole = self._bars.add_task(self._title(), total=100.0, told="waits")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def tell(self, event: Event) -> None:
        """Move the bars."""
        idx, data = event.item, event.data
        if idx is not None and event.type in ("item.started", "item.progress"):
            self._move(idx, data)
        elif idx is not None and event.type in ("item.finished", "item.requeued"):
            self._remove(idx, event)
        if event.type.startswith("job.") or time.monotonic() - self._looked > 1.0:
            self._look()

    def _title(self) -> str:
        counts = self._job.info.counts
        return f"{self._job.kind} {counts.finished}/{counts.total}"

    def _look(self) -> None:
        self._looked = time.monotonic()
        info = self._job.refresh()
        told = info.state
        if info.state == "running" and info.started_at is not None and info.counts.finished:
            took = max(0.001, time.time() - info.started_at.timestamp())
            told = _pace(info.counts.finished / took)
        if info.eta_seconds is not None:
            told += f", {screen.seconds(info.eta_seconds)} to go"
        self._bars.update(self._whole, description=self._title(), completed=info.percent, told=told)

    def _move(self, idx: int, data: Any) -> None:
        stages = self._job.info.stages
        stage = data.get("stage", "")
        at = stages.index(stage) if stage in stages else 0
        done = (at + data.get("fraction", 0.0)) / max(1, len(stages))
        told = " ".join(dict.fromkeys(word for word in (stage, data.get("phase", "")) if word))
        if idx not in self._items:
            if len(self._items) >= _ROWS:
                return
            name = self._names.of(idx).replace("\n", " ")
            name = name if len(name) <= 36 else f"…{name[-35:]}"
            self._items[idx] = self._bars.add_task(f"  {name}", total=1.0, told=told)
        self._bars.update(self._items[idx], completed=done, told=told)

    def _remove(self, idx: int, event: Event) -> None:
        task = self._items.pop(idx, None)
        if task is not None:
            self._bars.remove_task(task)
        error, state = event.data.get("error"), event.data.get("state", "")
        few = self._job.info.counts.total <= _TOLD_ONE_BY_ONE
        if error or (few and event.type == "item.finished"):
            from rich.text import Text

            mark, colour = ("✓", "green") if state in ("succeeded", "skipped") else ("✗", "red")
            mark = "↻" if event.type == "item.requeued" else mark
            told = f"  {screen.reason(error)}" if error else ""
            name = Text(f" {self._names.of(idx)}{told}")
            self._bars.console.print(Text(mark, style=colour) + name, soft_wrap=True)


def _pace(each_second: float) -> str:
    if each_second >= 1:
        return f"{each_second:.1f} items/s"
    if each_second * 60 >= 1:
        return f"{each_second * 60:.1f} items/min"
    return f"{each_second * 3600:.1f} items/h"


def teller(job: Job, *, as_json: bool) -> Teller:
    """Return what shows a job's events here."""
    if as_json:
        return JsonLines()
    return Bars(job) if screen.at_terminal() else Lines(job)


def show(job: Job) -> None:
    """Show a job until it has ended."""
    with teller(job, as_json=False) as telling:
        for event in job.watch():
            telling.tell(event)


def follow(job: Job, *, as_json: bool, timeout: float | None, after: int = 0) -> JobInfo:
    """Show a job until it has ended, and then how; return that. Raises typer.Exit on Ctrl-C or timeout."""
    with left_running(job), _time_limit(timeout):
        with teller(job, as_json=as_json) as telling:
            for event in job.watch(after):
                telling.tell(event)
        info = job.refresh()
        if as_json:
            screen.write_json_line(dict(info.raw))
        else:
            summary(job, info)
    return info


def wait(job: Job, *, timeout: float | None) -> JobInfo:
    """Wait until a job has ended, in silence."""
    with left_running(job):
        return job.wait(timeout)


@contextmanager
def left_running(job: Job) -> Iterator[None]:
    """On Ctrl-C or a time limit, say that the job goes on, and how to follow or stop it."""
    from millrace.client import WaitTimeout

    try:
        yield
    except (KeyboardInterrupt, _OutOfTime, WaitTimeout) as stopped:
        interrupted = isinstance(stopped, KeyboardInterrupt)
        typer.echo(("\n" if interrupted else "") + still_running(job), err=True)
        raise typer.Exit(ends.INTERRUPTED if interrupted else ends.TIMED_OUT) from None


def still_running(job: Job) -> str:
    """Say that a job goes on, and what can be done about it."""
    return f"The job goes on.\n  follow it:  millrace watch {job.id}\n  stop it:    millrace cancel {job.id}"


class _OutOfTime(BaseException):
    """The time limit of a command ran out."""


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raise ``_OutOfTime`` when the seconds are over, wherever the main thread then is."""
    if seconds is None:
        yield
        return

    def ring(_: int, __: FrameType | None) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def summary(job: Job, info: JobInfo) -> None:
    """Say how a job ended, and what can be done about what failed."""
    counts = info.counts
    took = ""
    if info.finished_at and info.started_at:
        spent = (info.finished_at - info.started_at).total_seconds()
        took = f" in {screen.seconds(spent)}"
        if counts.finished > 1 and spent > 0:
            took += f", {_pace(counts.finished / spent)}"
    parts = [
        f"{number} {word}"
        for word, number in (
            ("done", counts.succeeded),
            ("skipped", counts.skipped),
            ("failed", counts.failed),
            ("cancelled", counts.cancelled),
        )
        if number
    ]
    from rich.text import Text

    colour = screen.COLOURS.get(info.state, "") if info.well or info.state != "succeeded" else "yellow"
    state = Text(info.state, style=colour)
    screen.console().print(state + Text(f": {', '.join(parts) or 'no items'}{took}"))
    if info.error:
        screen.console().print(Text(f"  {screen.reason(info.error)}"))
    if counts.failed:
        screen.hint(f"  what failed:  millrace show {job.id}\n  try again:    millrace retry {job.id}")


def code(info: JobInfo) -> int:
    """Return the exit code of a job that has ended."""
    return ends.DONE if info.well else ends.FAILED
