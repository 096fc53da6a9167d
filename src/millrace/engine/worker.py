"""A worker process: runs stage calls one at a time, and reports over its socket.

Started by an executor as ``python -m millrace.engine.worker SOCKET LIFELINE PARENT``. It dies with
the server, whatever it is doing: by PR_SET_PDEATHSIG. What its stages have started dies too: a guard
of the same process group kills all of it at the lifeline pipe's end of file.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millrace.engine import process, wire
from millrace.engine.artifacts import ArtifactStore, staged_key
from millrace.engine.context import Skip, StageContext, WarmModels, Written
from millrace.engine.model import NewItem
from millrace.errors import StageError, Unavailable

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.005
# Results with files wait longer for others: flushing several to disk costs little more than one. They
# wait as long as a few flushes last, within these bounds.
_GROUP_SECONDS = (0.1, 0.25)
_GROUP_FLUSHES = 8
_PROGRESS_SECONDS = 0.05
_REST_SECONDS = 1.0


def resolve(path: str) -> Callable[..., Any]:
    """Import ``package.module:function``."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


@dataclass(slots=True)
class _Attempt:
    """An item that was run, and what is to be reported of it. ``files`` are to be staged."""

    context: StageContext
    started: float
    finished: float = 0.0
    staging: float = 0.0
    verdict: str = "succeeded"
    results: str | None = None
    error: dict[str, Any] | None = None
    files: list[tuple[str, Written]] = field(default_factory=list)
    staged: list[Any] = field(default_factory=list)

    def fail(self, error: dict[str, Any]) -> None:
        """Turn it into a failure: nothing it produced counts."""
        self.verdict, self.error = "failed", error
        self.results, self.files, self.staged = None, [], []

    def report(self) -> list[Any]:
        """Return it as the server reads it."""
        return [
            self.context.idx,
            self.verdict,
            self.results,
            self.error,
            self.staged,
            self.started,
            self.finished,
            self.staging,
        ]


class Worker:
    """The loop of one worker process."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = wire.FrameReader()
        self._inbox: list[dict[str, Any]] = []
        self._functions: dict[str, Callable[[StageContext], Any]] = {}
        self._lease = 0
        self._ended: list[_Attempt] = []
        self._flushed = 0.0
        self._group = _GROUP_SECONDS[0]
        self._progressed = 0.0
        self._phase = ""
        hello = self._receive(None)
        assert hello is not None
        self._settings: Mapping[str, Any] = hello["settings"]
        self._site: Mapping[str, Any] = hello["site"]
        self._scratch = Path(hello["scratch"])
        self._models = WarmModels(hello["idle"])
        self._idle = float(hello["idle"])
        descriptor = hello["artifacts"]
        self._open_store: Callable[[], ArtifactStore] = lambda: resolve(descriptor["open"])(descriptor)
        self._store: ArtifactStore | None = None
        self._send(["ready"])

    def run(self) -> None:
        """Run calls until the server hangs up."""
        rested = False
        while True:
            wait = max(0.05, min(5.0, self._idle / 2)) if self._models.keys() else None
            call = self._receive(wait if rested else min(wait or _REST_SECONDS, _REST_SECONDS))
            if call is not None:
                self._run_call(call)
                rested = False
                continue
            if self._models.drop_idle() or not rested:
                process.give_memory_back()
            rested = True

    def _receive(self, timeout: float | None) -> dict[str, Any] | None:
        while not self._inbox:
            if timeout is not None and not select.select([self._socket], [], [], timeout)[0]:
                return None
            data = self._socket.recv(1 << 18)
            if not data:
                os._exit(0)
            self._inbox += self._reader.feed(data)
        return self._inbox.pop(0)

    def _send(self, message: Any) -> None:
        self._socket.sendall(wire.encode(message))

    def _run_call(self, call: dict[str, Any]) -> None:
        self._lease = call["lease"]
        self._flushed = time.monotonic()
        # Whoever tidies temporary files may have taken it. Where it cannot be made, the items say so.
        with contextlib.suppress(OSError):
            self._scratch.mkdir(parents=True, exist_ok=True)
        process.limit_memory(call["memory"])
        for item in call["items"]:
            attempt = self._run_item(call, item)
            self._ended.append(attempt)
            if time.monotonic() - self._flushed >= (self._group if attempt.files else _FLUSH_SECONDS):
                self._flush()
        process.limit_memory(None)
        self._flush(over=True)

    def _flush(self, *, over: bool = False) -> None:
        """Report what was run; with ``over`` also that the call has ended, which leaves no file behind."""
        self._stage([attempt for attempt in self._ended if attempt.files])
        for attempt in self._ended:
            attempt.context.clean()
        if over:
            _empty(self._scratch)
        done = [attempt.report() for attempt in self._ended]
        self._send(["done", self._lease, done, over, self._models.keys()])
        self._ended = []
        self._flushed = time.monotonic()

    def _run_item(self, call: dict[str, Any], item: dict[str, Any]) -> _Attempt:
        idx = item["idx"]
        self._progressed, self._phase = 0.0, ""
        results = item["results"] or {}
        context = StageContext(
            job=call["job"],
            idx=idx,
            name=item["name"],
            uid=item["uid"],
            stage=call["stage"],
            attempt=item["attempt"],
            input=item["input"],
            options=call["options"],
            meta=call["meta"],
            results=results,
            settings=self._settings.get(call["kind"], {}),
            site=self._site,
            slots=call["slots"],
            workdir=self._scratch / str(idx),
            outbox=self._scratch,
            models=self._models,
            report=lambda fraction, phase: self._progress(idx, fraction, phase),
            add=self._add,
            fetch_blob=lambda key, target: self._artifacts.local_path(key, target),
            published=item["artifacts"],
        )
        attempt = _Attempt(context, time.time())
        try:
            function = self._function(call["run"])
            with process.soft_timeout(call["soft_timeout"]):
                outcome = function(context)
            if isinstance(outcome, Skip):
                attempt.verdict = "skipped"
                outcome = {"skipped": outcome.reason, **outcome.result}
            if outcome is not None:
                attempt.results = wire.dumps({**results, call["stage"]: outcome}).decode()
            attempt.files = _written(context)
        except MemoryError:
            process.limit_memory(None)
            log.exception("job %s item %d: out of memory in %s", call["job"], idx, call["stage"])
            attempt.fail(_error("out_of_memory", f"the stage needed more memory than {call['memory']} bytes"))
        except Exception as failure:  # noqa: BLE001 - it becomes the item's error
            attempt.fail(_failure(failure, context))
        attempt.finished = time.time()
        return attempt

    def _function(self, path: str) -> Callable[[StageContext], Any]:
        function = self._functions.get(path)
        if function is None:
            function = self._functions[path] = resolve(path)
        return function

    @property
    def _artifacts(self) -> ArtifactStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _stage(self, attempts: list[_Attempt]) -> None:
        """Write the files of these attempts aside, all together; they fail where that fails."""
        asides = [self._asides(attempt) for attempt in attempts]
        files = [file for several in asides for file in several]
        if not files:
            return
        began = time.time()
        try:
            stored = iter(self._artifacts.stage_all(files))
        except Exception as failure:  # noqa: BLE001 - it becomes the item's error
            for attempt in attempts:
                attempt.fail(_failure(failure, attempt.context))
            return
        seconds = time.time() - began
        self._group = min(_GROUP_SECONDS[1], max(_GROUP_SECONDS[0], _GROUP_FLUSHES * seconds))
        share = seconds / len(attempts)
        for attempt, several in zip(attempts, asides, strict=True):
            attempt.finished += share
            attempt.staging = share
            for (name, written), (_, key) in zip(attempt.files, several, strict=True):
                attempt.staged.append([name, key, *next(stored), written.media_type])

    def _asides(self, attempt: _Attempt) -> list[tuple[Path, str]]:
        """Return an attempt's files, each with the key under which it is staged."""
        idx = attempt.context.idx
        return [
            (written.path, staged_key(self._lease, idx, number))
            for number, (_, written) in enumerate(attempt.files)
        ]

    def _progress(self, idx: int, fraction: float, phase: str) -> None:
        now = time.monotonic()
        phase = phase or self._phase
        if now - self._progressed < _PROGRESS_SECONDS and phase == self._phase:
            return
        self._progressed, self._phase = now, phase
        self._send(["progress", self._lease, idx, fraction, phase])

    def _add(self, items: list[NewItem]) -> None:
        rows = [[item.name, item.input, item.size, item.uid, item.key] for item in items]
        self._send(["items", self._lease, rows])


def _empty(folder: Path) -> None:
    """Remove whatever is left in a folder, as far as that is possible."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    Path(entry).unlink()


def _written(context: StageContext) -> list[tuple[str, Written]]:
    """Return the artifacts that the stage wrote; StageError where it announced one and did not."""
    for name, written in context.written.items():
        if not written.path.is_file():
            raise StageError(
                f"the stage announced the artifact {name!r} but did not write it", code="internal_error"
            )
    return list(context.written.items())


def _failure(failure: Exception, context: StageContext) -> dict[str, Any]:
    """Return an exception as the error of its item."""
    if isinstance(failure, StageError):
        return _error(
            failure.code,
            failure.message,
            failure.details,
            retryable=failure.retryable,
            backend=failure.backend,
        )
    if isinstance(failure, Unavailable):
        # Of the blob store, in which inputs are and results go: no item's fault, and every item's trouble.
        return _error(failure.code, failure.message, failure.details, retryable=True, backend=True)
    where = "".join(traceback.format_exception(failure)[-8:])
    log.error("job %s item %d: unexpected error in %s\n%s", context.job, context.idx, context.stage, where)
    return _error(
        "internal_error", f"{type(failure).__name__}: {failure}", {"traceback": where}, backend=True
    )


def _error(
    code: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    *,
    retryable: bool = False,
    backend: bool = False,
) -> dict[str, Any]:
    try:
        plain = wire.loads(wire.dumps(dict(details or {})))
    except TypeError:
        # Details that JSON cannot carry must not cost the item its error.
        plain = {name: str(value) for name, value in (details or {}).items()}
    return {
        "code": code,
        "message": message[:4000],
        "details": plain,
        "retryable": retryable,
        "backend": backend,
    }


def main() -> None:
    """Run a worker on the descriptors given on the command line."""
    socket_fd, lifeline, parent = (int(argument) for argument in sys.argv[1:4])
    process.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.guard_group(lifeline, socket_fd)
    process.keep_memory()
    # Native engines print to standard output; the server's own output is not theirs.
    os.dup2(2, 1)
    logging.basicConfig(
        format="%(levelname)s %(name)s: %(message)s",
        level=os.environ.get("MILLRACE_LOG_LEVEL", "INFO").upper(),
    )
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        Worker(socket.socket(fileno=socket_fd)).run()


if __name__ == "__main__":
    main()
