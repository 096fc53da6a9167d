"""``millrace demo``: starts a real server of its own, gives every workload something to do, and shows it.

Each workload brings its own samples and submits them over HTTP by its own contract (``Plugin.demo``).
From there on all are followed by the Python client. How a job is shown while it runs is the caller's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.table import Table

from millrace.client import Job, JobInfo, Millrace
from millrace.errors import Unavailable
from millrace.workloads import DemoJob, DemoStand, Plugin

_START_SECONDS = 60.0

Show = Callable[[Job], None]
"""Shows a job until it has ended."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a workload's demonstration."""

    kind: str
    demo: DemoJob
    info: JobInfo
    seconds: float
    files: list[Path]

    @property
    def pace(self) -> str:
        """How fast it was, by what its pace is measured in."""
        if self.demo.seconds:
            return f"{self.demo.seconds / self.seconds:.1f} × real time"
        return f"{self.info.counts.total / self.seconds:.1f} items/s"

    @property
    def bytes(self) -> int:
        """How much was published."""
        return sum(path.stat().st_size for path in self.files)

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        counts = self.info.counts
        return {
            "kind": self.kind,
            "job": self.info.id,
            "title": self.demo.title,
            "state": self.info.state,
            "items": counts.total,
            "done": counts.succeeded + counts.skipped,
            "failed": counts.failed,
            "seconds": round(self.seconds, 3),
            "pace": self.pace,
            "artifacts": [str(path) for path in self.files],
            "bytes": self.bytes,
        }


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demonstrations take place: a server of their own.

    folder   samples go to ``samples`` below it, what is made of them to ``results``; the server keeps its
             data in ``data`` and its log in ``server.log``.
    """

    folder: Path
    url: str
    process: subprocess.Popen[str]
    http: httpx2.Client
    millrace: Millrace


@contextmanager
def serve(folder: Path) -> Iterator[Stage]:
    """Run a server on a free port, with data of its own, in ``folder``, which must be empty.

    Settings of the user's own server (environment, ``millrace.yaml``) do not reach it.

    Raises:
        Unavailable: it did not start; the message holds the end of its log.
    """
    (folder / "samples").mkdir(parents=True)
    ours = ("MILLRACE_", "REQUIRE_AUTH", "BEARER_TOKEN", "TMP_DIR", "JOB_TTL_SECONDS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    log = folder / "server.log"
    command = [sys.executable, "-m", "millrace.cli", "serve", "--host", "127.0.0.1", "--port", "0"]
    command += ["--data-dir", str(folder / "data"), "--media-root", str(folder / "samples")]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, cwd=folder, env=environment, text=True
        ) as server,
    ):
        try:
            url = _url(server, log)
            with (
                httpx2.Client(base_url=url, timeout=60.0, trust_env=False) as http,
                Millrace(url) as millrace,
            ):
                yield Stage(folder, url, server, http, millrace)
        finally:
            server.terminate()


def _url(server: subprocess.Popen[str], log: Path) -> str:
    """Wait until the server takes work; return where."""
    assert server.stdout is not None
    line = server.stdout.readline()
    url = line.rpartition(" ")[2].strip()
    deadline = time.monotonic() + _START_SECONDS
    while url and server.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/health", timeout=5.0, trust_env=False).status_code == 200:
                return url
        except httpx2.TransportError:
            pass
        time.sleep(0.02)
    end = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise Unavailable(f"the server of the demonstration did not start:\n{end}")


def demonstrate(stage: Stage, kind: str, plugin: Plugin, console: Console, show: Show) -> Finished:
    """Let a workload show what it can do; tell the console what comes out."""
    assert plugin.demo is not None
    folder = stage.folder / "samples" / kind
    folder.mkdir()
    with console.status(f"{kind}: making samples"):
        demo = plugin.demo(DemoStand(stage.http, folder))
    console.rule(f"[bold]{kind}[/]: {demo.title}", align="left")
    job = stage.millrace.job(demo.job)
    show(job)
    info = job.wait()
    for line in demo.tell() if demo.tell else ():
        console.print(f"  {line}", style="dim", markup=False, highlight=False)
    files = job.artifacts.save(stage.folder / "results" / kind)
    return Finished(kind, demo, info, _seconds(info), files)


def _seconds(info: JobInfo) -> float:
    """Return how long a job took by the server's own clock: what is shown meanwhile does not count."""
    begun, ended = info.started_at or info.created_at, info.finished_at
    return max(0.001, (ended - begun).total_seconds()) if begun and ended else 0.001


def table(finished: Sequence[Finished]) -> Table:
    """Return what became of all, a row each."""
    made = Table(title="Millrace", title_justify="left")
    for heading in ("workload", "items", "done", "failed", "time", "pace", "artifacts"):
        made.add_column(heading, justify="left" if heading == "workload" else "right")
    for each in finished:
        counts = each.info.counts
        made.add_row(
            each.kind,
            str(counts.total),
            f"[green]{counts.succeeded + counts.skipped}",
            f"[red]{counts.failed}" if counts.failed else "0",
            f"{each.seconds:.1f} s",
            each.pace,
            f"{len(each.files)} ({each.bytes / 1e6:.1f} MB)" if each.files else "–",
        )
    return made


def run_demo(stage: Stage, plugins: Mapping[str, Plugin], console: Console, show: Show) -> list[Finished]:
    """Demonstrate these workloads one after another, so that each one's pace is its own."""
    console.print(f"A server of its own is up at {stage.url}", highlight=False)
    finished = [
        demonstrate(stage, kind, plugin, console, show)
        for kind, plugin in plugins.items()
        if plugin.demo is not None
    ]
    console.print(table(finished))
    console.print(f"\nWhat was made: [bold]{stage.folder / 'results'}[/]", soft_wrap=True, highlight=False)
    return finished
