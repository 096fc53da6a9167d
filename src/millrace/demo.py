"""``millrace demo``: starts a real server of its own, gives every workload something to do, and shows it.

Each workload brings its own samples and submits them over HTTP by its own contract (``Plugin.demo``).
From there on all are followed by the canonical jobs API alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from millrace.errors import Unavailable
from millrace.workloads import DemoJob, DemoStand, Plugin

_START_SECONDS = 60.0
_POLL_SECONDS = 0.2
_SHOWN_ITEMS = 12
_FINAL = ("succeeded", "skipped", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a workload's demonstration."""

    kind: str
    demo: DemoJob
    job: dict[str, Any]
    items: list[dict[str, Any]]
    seconds: float
    files: list[Path] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether all of it succeeded."""
        return bool(self.job["state"] == "succeeded" and self.job["counts"]["failed"] == 0)


def run_demo(plugins: Mapping[str, Plugin], folder: Path, console: Console) -> bool:
    """Demonstrate these workloads in ``folder``, which must be empty; return whether all went well.

    Samples go to ``samples`` below it, what is made of them to ``results``, and the server keeps its
    data in ``data`` and its log in ``server.log``.
    """
    media = folder / "samples"
    media.mkdir(parents=True)
    with serve(folder, media, console) as client:
        finished = []
        for kind, plugin in plugins.items():
            if plugin.demo is not None:
                finished.append(_demonstrate(kind, plugin, client, media, folder / "results", console))
    console.print(_table(finished))
    console.print(f"\nWhat was made: [bold]{folder / 'results'}[/]", soft_wrap=True)
    return all(each.well for each in finished)


@contextmanager
def serve(folder: Path, media: Path, console: Console) -> Iterator[httpx2.Client]:
    """Run a server on a free port, with data of its own, and yield a client of it.

    Settings of the user's own server (environment, ``millrace.yaml``) do not reach it.

    Raises:
        Unavailable: it did not start; the message holds the end of its log.
    """
    ours = ("MILLRACE_", "REQUIRE_AUTH", "BEARER_TOKEN", "TMP_DIR", "JOB_TTL_SECONDS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    log = folder / "server.log"
    command = [sys.executable, "-m", "millrace.cli", "serve", "--host", "127.0.0.1", "--port", "0"]
    command += ["--data-dir", str(folder / "data"), "--media-root", str(media)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, cwd=folder, env=environment, text=True
        ) as server,
    ):
        try:
            url = _url(server, log)
            console.print(f"A server of its own is up at {url} (pages for people: {url}/docs)")
            with httpx2.Client(base_url=url, timeout=60.0, trust_env=False) as client:
                yield client
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


def _demonstrate(
    kind: str, plugin: Plugin, client: httpx2.Client, media: Path, results: Path, console: Console
) -> Finished:
    assert plugin.demo is not None
    folder = media / kind
    folder.mkdir()
    with console.status(f"{kind}: making samples"):
        demo = plugin.demo(DemoStand(client, folder))
    console.rule(f"[bold]{kind}[/]: {demo.title}", align="left")
    started = time.monotonic()
    job, items = _follow(client, demo.job, console)
    seconds = time.monotonic() - started
    for item in items:
        if item["error"]:
            console.print(f"[red]{item['name']}: {item['error']['message']}", highlight=False)
    for line in demo.tell() if demo.tell else ():
        console.print(f"  {line}", style="dim", markup=False, highlight=False)
    files = _download(client, demo.job, items, results / kind)
    return Finished(kind, demo, job, items, seconds, files)


def _follow(
    client: httpx2.Client, job_id: str, console: Console
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Show a job's items moving until it has ended; return it, and them."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} % {task.fields[phase]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[int, TaskID] = {}
        while True:
            job = client.get(f"/jobs/{job_id}").raise_for_status().json()
            items = _items(client, job_id)
            for item in items[:_SHOWN_ITEMS]:
                if item["idx"] not in tasks:
                    tasks[item["idx"]] = bars.add_task(item["name"][-40:], total=1.0, phase="")
                _show(bars, tasks[item["idx"]], item, len(job["stages"]))
            if job["state"] in _FINAL:
                return job, items
            time.sleep(_POLL_SECONDS)


def _show(bars: Progress, task: TaskID, item: Mapping[str, Any], stages: int) -> None:
    over = item["state"] in _FINAL
    done = 1.0 if over else (item["stage"] + item["progress"]) / stages
    waits = item["state"] == "queued"
    bars.update(task, completed=done, phase=item["state"] if over or waits else item["phase"])
    if over:
        bars.stop_task(task)


def _items(client: httpx2.Client, job_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    after: int | None = -1
    while after is not None:
        page = client.get(f"/jobs/{job_id}/items", params={"after": after, "limit": 1000})
        answer = page.raise_for_status().json()
        items += answer["items"]
        after = answer["next_after"]
    return items


def _download(
    client: httpx2.Client, job_id: str, items: Sequence[Mapping[str, Any]], folder: Path
) -> list[Path]:
    """Save a job's artifacts, a folder an item."""
    names = {item["idx"]: f"{item['idx']} {Path(item['name']).stem}" for item in items}
    answer = client.get(f"/jobs/{job_id}/artifacts").raise_for_status().json()
    saved = []
    for artifact in answer["artifacts"]:
        target = folder / names[artifact["item"]] / Path(artifact["name"]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        with client.stream("GET", artifact["url"]) as body, target.open("wb") as out:
            body.raise_for_status()
            for block in body.iter_bytes():
                out.write(block)
        saved.append(target)
    return saved


def _table(finished: Sequence[Finished]) -> Table:
    table = Table(title="Millrace", title_justify="left")
    for heading in ("workload", "items", "done", "failed", "time", "pace", "artifacts"):
        table.add_column(heading, justify="left" if heading == "workload" else "right")
    for each in finished:
        counts = each.job["counts"]
        if each.demo.seconds:
            pace = f"{each.demo.seconds / each.seconds:.1f} × real time"
        else:
            pace = f"{counts['total'] / each.seconds:.1f} items/s"
        done = counts["succeeded"] + counts["skipped"]
        size = sum(path.stat().st_size for path in each.files)
        table.add_row(
            each.kind,
            str(counts["total"]),
            f"[green]{done}",
            f"[red]{counts['failed']}" if counts["failed"] else "0",
            f"{each.seconds:.1f} s",
            pace,
            f"{len(each.files)} ({size / 1e6:.1f} MB)" if each.files else "–",
        )
    return table
