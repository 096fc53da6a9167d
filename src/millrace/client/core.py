"""What a client and a job can do, each written once, as flows. ``faces.py`` gives them two faces.

The types of the handles they return (``Job`` or ``AsyncJob``) are parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, Unpack

from millrace.client import downloads, watching
from millrace.client.errors import JobFailed, WaitTimeout
from millrace.client.flow import Call, Emit, Feed, Flow, Sleep, path
from millrace.client.retrying import Retrying, exchange, patiently
from millrace.client.rows import Artifact, Event, Item, JobInfo, Page, Stats, Workload
from millrace.client.submission import (
    ALONE,
    JobFields,
    Pair,
    ServerPath,
    Source,
    Submission,
    one_or_many,
)

J = TypeVar("J")

# A method called ``list`` hides the type of that name.
Artifacts: TypeAlias = list[Artifact]
Paths: TypeAlias = list[Path]

_PAGE = 1000
_FIRST_LOOK, _LAST_LOOK = 0.05, 1.0
"""Seconds between two looks at a job that is waited for: at first, and in the long run."""


class Flows:
    """What all parts share: how patient they are."""

    def __init__(self, how: Retrying) -> None:
        self.how = how

    def _json(self, call: Call) -> Flow[Any]:
        return (yield from exchange(call, self.how)).json()


class ClientFlows(Flows, Generic[J]):
    """What can be asked of a server. Errors: see ``millrace.client.errors``.

    ``handle`` makes the handle of a job.
    """

    def __init__(self, how: Retrying, handle: Callable[[JobInfo], J]) -> None:
        super().__init__(how)
        self._handle = handle

    def _submit(self, made: Submission, options: Mapping[str, Any] | None, fields: JobFields) -> Flow[J]:
        row = yield from self._json(made.call(options, fields))
        return self._handle(JobInfo.of(row))

    def submit(
        self,
        kind: str,
        items: Source | Iterable[Source | Pair | Mapping[str, Any]] = (),
        *,
        options: Mapping[str, Any] | None = None,
        **fields: Unpack[JobFields],
    ) -> Flow[J]:
        """Submit a job of any kind, and return it as soon as the server has taken it.

        Args:
            kind: one of those that ``workloads`` lists.
            items: files (see ``Source``), pairs for sync, or, for workloads of other shapes, mappings that
                are an item's whole input. None: for workloads that find their items by themselves.
            options: of the kind.
            **fields: see ``JobFields``.

        The request carries an idempotency key: when its answer is lost it is sent again, and the job is
        there once all the same.
        """
        made = Submission(kind)
        many: Iterable[Any] = one_or_many(items) if isinstance(items, ALONE) else items
        for item in many:
            made.add(item)
        return (yield from self._submit(made, options, fields))

    def transcripts(
        self,
        recordings: Source | Iterable[Source],
        *,
        asr: bool | None = None,
        stems: bool | None = None,
        max_segment_ms: int | None = None,
        max_silence_ms: int | None = None,
        audio_stream: int | None = None,
        **fields: Unpack[JobFields],
    ) -> Flow[J]:
        """Submit recordings (up to ten) for subtitles and stems.

        Args:
            recordings: audio or video files.
            asr, stems: whether speech is recognised and voices are separated; by default both.
            max_segment_ms, max_silence_ms: how long a cue, and a pause in it, may be.
            audio_stream: which audio stream of a video, from 0.
        """
        tasks = _given(asr=asr, demucs=stems)
        options = _given(
            tasks=tasks or None,
            vadMaxSingleSegmentMs=max_segment_ms,
            vadMaxEndSilenceMs=max_silence_ms,
            audioStream=audio_stream,
        )
        return (yield from self.submit("transcripts", one_or_many(recordings), options=options, **fields))

    def tracks(
        self,
        path: str | PathLike[str] | ServerPath | Sequence[str | PathLike[str] | ServerPath],
        *,
        pattern: str | None = None,
        recursive: bool | None = None,
        dry_run: bool | None = None,
        options: Mapping[str, Any] | None = None,
        **fields: Unpack[JobFields],
    ) -> Flow[J]:
        """Set the right default audio track in a folder of the server, or in files named one by one.

        Args:
            path: a folder, below a media root of the server; or a list of files.
            pattern: which files, such as ``**/*.{mkv,mp4}``.
            recursive: whether to go into folders below.
            dry_run: change nothing, only say what would be changed.
            options: further ones of ``POST /batch``.
        """
        given = {**(options or {}), **_given(pattern=pattern, recursive=recursive, dry_run=dry_run)}
        if isinstance(path, (str, PathLike, ServerPath)):
            given["path"] = str(path.path if isinstance(path, ServerPath) else path)
            return (yield from self.submit("tracks", options=given, **fields))
        files = [each if isinstance(each, ServerPath) else ServerPath(each) for each in path]
        return (yield from self.submit("tracks", files, options=given, **fields))

    def sync(
        self,
        pairs: Pair | tuple[Source, Source] | Iterable[Pair | tuple[Source, Source]],
        *,
        options: Mapping[str, Any] | None = None,
        **fields: Unpack[JobFields],
    ) -> Flow[J]:
        """Submit masters and their dubs, for offset, drift and cuts.

        Args:
            pairs: ``Pair`` s, or tuples of master and dub; one alone or several.
        """
        alone = isinstance(pairs, Pair) or (
            isinstance(pairs, tuple) and not isinstance(pairs[0], (Pair, tuple))
        )
        many: Any = [pairs] if alone else pairs
        items = [each if isinstance(each, Pair) else Pair(*each) for each in many]
        return (yield from self.submit("sync", items, options=options, **fields))

    def images(
        self,
        pictures: Source | Iterable[Source],
        *,
        options: Mapping[str, Any] | None = None,
        **fields: Unpack[JobFields],
    ) -> Flow[J]:
        """Submit pictures (up to a hundred), to be analysed and tagged."""
        return (yield from self.submit("images", one_or_many(pictures), options=options, **fields))

    def documents(
        self,
        files: Source | Iterable[Source],
        *,
        redact: bool | None = None,
        highlight: bool | None = None,
        options: Mapping[str, Any] | None = None,
        **fields: Unpack[JobFields],
    ) -> Flow[J]:
        """Submit documents, to be judged by their sensitivity.

        Args:
            redact, highlight: whether copies are made with the findings blacked out, or marked.
        """
        given = {**(options or {}), **_given(redact=redact, highlight=highlight)}
        return (yield from self.submit("documents", one_or_many(files), options=given, **fields))

    def job(self, job_id: str) -> Flow[J]:
        """Return a job; NotFound when there is none, or no longer."""
        return self._handle(JobInfo.of((yield from self._json(Call("GET", path("jobs", job_id))))))

    def page(
        self,
        *,
        kind: str | None = None,
        status: str | Iterable[str] | None = None,
        text: str | None = None,
        order_by: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Flow[Page]:
        """Return one page of jobs, newest first.

        Args:
            kind: of one workload only.
            status: in the words of any contract; one or several.
            text: part of the id or the label.
            order_by: ``created_at`` or ``updated_at``.
            limit: how many, up to 1000.
            cursor: ``Page.cursor`` of the page before: it stays right while jobs come and go.
        """
        words = [status] if isinstance(status, str) else list(status or ())
        params = _params(kind=kind, q=text, order_by=order_by, limit=limit, cursor=cursor)
        params += [("status", word) for word in words]
        return Page.of((yield from self._json(Call("GET", "/jobs", params))))

    def jobs(
        self,
        *,
        kind: str | None = None,
        status: str | Iterable[str] | None = None,
        text: str | None = None,
        limit: int | None = None,
    ) -> Feed[JobInfo]:
        """Iterate over jobs, newest first, a page at a time; all of them, or up to ``limit``.

        The other arguments are those of ``page``.
        """
        cursor, left = None, limit
        words = [status] if isinstance(status, str) else list(status or ())
        while left is None or left > 0:
            size = min(_PAGE, left) if left is not None else _PAGE
            page = yield from self.page(kind=kind, status=words, text=text, limit=size, cursor=cursor)
            for info in page.jobs:
                yield Emit(info)
            cursor = page.cursor
            if cursor is None:
                return
            left = None if left is None else left - len(page.jobs)

    def stats(self, kind: str | None = None) -> Flow[Stats]:
        """Count jobs and items, of all kinds or of one."""
        return Stats.of((yield from self._json(Call("GET", "/jobs/stats", _params(kind=kind)))))

    def workloads(self) -> Flow[list[Workload]]:
        """List the kinds of jobs, and how each is."""
        answer = yield from self._json(Call("GET", "/workloads"))
        return [Workload.of(row) for row in answer["workloads"]]

    def pause(self, kind: str) -> Flow[Workload]:
        """Let nothing more of a kind start; what runs goes on."""
        return (yield from self._steer(kind, "pause"))

    def drain(self, kind: str) -> Flow[Workload]:
        """Let a kind take no new jobs, and finish those it has."""
        return (yield from self._steer(kind, "drain"))

    def resume(self, kind: str) -> Flow[Workload]:
        """Let a kind work again."""
        return (yield from self._steer(kind, "resume"))

    def _steer(self, kind: str, action: str) -> Flow[Workload]:
        return Workload.of((yield from self._json(Call("POST", path("workloads", kind, action)))))

    def health(self) -> Flow[dict[str, Any]]:
        """Return what the server says about itself; Busy when it takes no jobs now."""
        found: dict[str, Any] = yield from self._json(Call("GET", "/health"))
        return found


class JobFlows(Flows):
    """What can be asked of one job. ``info`` is what the server said of it last."""

    def __init__(self, how: Retrying, info: JobInfo) -> None:
        super().__init__(how)
        self.info = info

    def _keep(self, row: Mapping[str, Any]) -> JobInfo:
        self.info = JobInfo.of(row)
        return self.info

    def refresh(self) -> Flow[JobInfo]:
        """Ask the server how the job is now."""
        return self._keep((yield from self._json(Call("GET", path("jobs", self.info.id)))))

    def wait(self, timeout: float | None = None, *, check: bool = False) -> Flow[JobInfo]:
        """Wait until the job has ended, and return how. A server that restarts meanwhile is waited for.

        Args:
            timeout: seconds; WaitTimeout when they are over. The job goes on.
            check: whether any other end than a good one is an error, JobFailed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_LOOK
        while True:
            answer = yield from patiently(Call("GET", path("jobs", self.info.id)), self.how)
            info = self._keep(answer.json())
            if info.ended:
                break
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise WaitTimeout(
                    f"job {self.info.id} is still {info.state} after {timeout:g} s; it goes on", info
                )
            yield Sleep(pause if left is None else min(pause, left))
            pause = min(_LAST_LOOK, pause * 1.3)
        if check and not info.well:
            raise JobFailed(_end(info), info)
        return info

    def watch(self, after: int = 0) -> Feed[Event]:
        """Iterate over what happens to the job, from the beginning, until it has finished.

        A stream that drops is taken up again behind the last event: none is missed, none comes twice.
        Live progress (``item.progress``, ``seq`` 0) is told as it is made, and not made up for.

        Args:
            after: number of the last event that is known already.
        """
        return watching.watch(self.info.id, after, self.how)

    def items(
        self, *, state: str | Iterable[str] | None = None, after: int = -1, limit: int | None = None
    ) -> Feed[Item]:
        """Iterate over the job's items in their order.

        Args:
            state: only those in a canonical state, or in some.
            after: only those behind the item of this number.
            limit: so many at most.
        """
        states = [state] if isinstance(state, str) else list(state or ())
        begin: int | None = after
        left = limit
        while begin is not None and (left is None or left > 0):
            size = _PAGE if left is None else min(_PAGE, left)
            params = [*_params(after=begin, limit=size), *(("state", word) for word in states)]
            page = yield from self._json(Call("GET", path("jobs", self.info.id, "items"), params))
            for row in page["items"]:
                yield Emit(Item.of(row, self.info.id))
            begin = page["next_after"]
            left = None if left is None else left - len(page["items"])

    def item(self, idx: int) -> Flow[Item]:
        """Return one item, with its artifacts and attempts."""
        return Item.of(
            (yield from self._json(Call("GET", path("jobs", self.info.id, "items", idx)))), self.info.id
        )

    def cancel(self) -> Flow[JobInfo]:
        """Stop what runs, drop what waits; return when nothing of it runs any more.

        What was finished before keeps its results. A job that has ended already stays as it is.
        """
        return self._keep((yield from self._json(Call("DELETE", path("jobs", self.info.id)))))

    def delete(self) -> Flow[None]:
        """Cancel the job, and delete it with its uploads and artifacts."""
        call = Call("DELETE", path("jobs", self.info.id), _params(purge="true"))
        yield from self._json(call)

    def retry(self, items: Sequence[int] | None = None) -> Flow[JobInfo]:
        """Try the failed items again, each at the stage that failed; or those with these numbers."""
        body = {} if items is None else {"items": list(items)}
        # Not sent again when its answer is lost: the item may have failed anew by then.
        call = Call.of_json("POST", path("jobs", self.info.id, "retry"), body, again=False)
        return self._keep((yield from self._json(call)))

    def change(self, *, priority: str | int | None = None, parallelism: int | None = None) -> Flow[JobInfo]:
        """Change the priority or the parallelism, from the next item on."""
        body = _given(priority=priority, parallelism=parallelism)
        return self._keep((yield from self._json(Call.of_json("PATCH", path("jobs", self.info.id), body))))


class ArtifactFlows(Flows):
    """What can be done with what a job has published."""

    def __init__(self, how: Retrying, job: str) -> None:
        super().__init__(how)
        self._job = job

    def list(self) -> Flow[Artifacts]:
        """List the artifacts of all items."""
        rows = yield from self._json(Call("GET", path("jobs", self._job, "artifacts")))
        return [Artifact.of(row, self._job) for row in rows["artifacts"]]

    def each(self) -> Feed[Artifact]:
        """Iterate over the artifacts of all items."""
        for artifact in (yield from self.list()):
            yield Emit(artifact)

    def read(self, artifact: Artifact) -> Flow[bytes]:
        """Return an artifact's bytes, checked against its SHA-256."""
        return downloads.read(artifact, self.how)

    def chunks(self, artifact: Artifact) -> Feed[bytes]:
        """Iterate over an artifact's bytes as they come; a download that is cut off is gone on with."""
        return downloads.chunks(artifact, self.how)

    def download(self, artifact: Artifact, target: str | PathLike[str]) -> Flow[Path]:
        """Save an artifact as this file, whole and checked or not at all; one that was cut off is resumed."""
        return downloads.save(artifact, Path(target), self.how)

    def save(
        self,
        folder: str | PathLike[str],
        *,
        names: str | Iterable[str] | None = None,
        progress: Callable[[Artifact, Path], None] | None = None,
    ) -> Flow[Paths]:
        """Save the artifacts below a folder, in one of its own for each item, and return the paths.

        Files that are there already and whole are left alone, so this can be repeated.

        Args:
            folder: made where it is not there.
            names: only artifacts whose name matches one of these patterns, such as ``*.srt``.
            progress: told after each file.
        """
        patterns = [names] if isinstance(names, str) else list(names or ())
        found = yield from self.list()
        wanted = [a for a in found if not patterns or any(fnmatchcase(a.name, p) for p in patterns)]
        if not wanted:
            return []
        folders = yield from self._folders()
        saved = []
        for artifact in wanted:
            target = Path(folder) / folders[artifact.item] / downloads.plain(artifact.name)
            saved.append((yield from downloads.save(artifact, target, self.how)))
            if progress is not None:
                progress(artifact, target)
        return saved

    def _folders(self) -> Flow[dict[int, str]]:
        names: dict[int, str] = {}
        after: int | None = -1
        while after is not None:
            params = _params(after=after, limit=_PAGE)
            page = yield from self._json(Call("GET", path("jobs", self._job, "items"), params))
            names |= {row["idx"]: row["name"] for row in page["items"]}
            after = page["next_after"]
        return {idx: downloads.folder_of(idx, name, len(names)) for idx, name in names.items()}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _params(**values: Any) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in values.items() if value is not None]


def _end(info: JobInfo) -> str:
    counts = info.counts
    if info.error:
        return f"job {info.id} {info.state}: {info.error.get('message')}"
    return f"job {info.id} {info.state}: {counts.failed} of {counts.total} items failed"
