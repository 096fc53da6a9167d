"""A worker process: runs stage calls one at a time, and reports over its socket.

Started by an executor as ``python -m millrace.engine.worker SOCKET LIFELINE PARENT``. It dies with
the server, whatever it is doing: by PR_SET_PDEATHSIG, and by the lifeline pipe's end of file.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from millrace.engine import wire
from millrace.engine.artifacts import ArtifactStore
from millrace.engine.context import Skip, StageContext, WarmModels
from millrace.engine.model import NewItem
from millrace.errors import StageError

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.005
_PROGRESS_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1


def resolve(path: str) -> Callable[..., Any]:
    """Import ``package.module:function``."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _watch_lifeline(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.killpg(os.getpgid(0), signal.SIGKILL)


class Worker:
    """The loop of one worker process."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = wire.FrameReader()
        self._inbox: list[dict[str, Any]] = []
        self._functions: dict[str, Callable[[StageContext], Any]] = {}
        self._lease = 0
        self._done: list[Any] = []
        self._flushed = 0.0
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
        while True:
            wait = max(0.05, min(5.0, self._idle / 2)) if self._models.keys() else None
            call = self._receive(wait)
            if call is None:
                self._models.drop_idle()
            else:
                self._run_call(call)

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
        _limit_memory(call["memory"])
        for item in call["items"]:
            self._done.append(self._run_item(call, item))
            if time.monotonic() - self._flushed >= _FLUSH_SECONDS:
                self._flush(ended=False)
        _limit_memory(None)
        self._flush(ended=True)

    def _flush(self, *, ended: bool) -> None:
        self._send(["done", self._lease, self._done, ended, self._models.keys()])
        self._done = []
        self._flushed = time.monotonic()

    def _run_item(self, call: dict[str, Any], item: dict[str, Any]) -> list[Any]:
        started = time.time()
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
            workdir=self._scratch / f"{self._lease}-{idx}",
            models=self._models,
            report=lambda fraction, phase: self._progress(idx, fraction, phase),
            add=self._add,
            fetch_blob=lambda key, target: self._artifacts.local_path(key, target),
            published=item["artifacts"],
        )
        verdict, merged, error, staged = "succeeded", None, None, []
        try:
            outcome = self._function(call["run"])(context)
            if isinstance(outcome, Skip):
                verdict = "skipped"
                outcome = {"skipped": outcome.reason, **outcome.result}
            if outcome is not None:
                merged = wire.dumps({**results, call["stage"]: outcome}).decode()
            staged = self._stage(context)
        except MemoryError:
            _limit_memory(None)
            verdict, error = (
                "failed",
                _error("out_of_memory", f"the stage needed more memory than {call['memory']} bytes"),
            )
            log.exception("job %s item %d: out of memory in %s", call["job"], idx, call["stage"])
        except StageError as failure:
            verdict = "failed"
            error = _error(
                failure.code,
                failure.message,
                failure.details,
                retryable=failure.retryable,
                backend=failure.backend,
            )
        except Exception as failure:
            verdict = "failed"
            where = traceback.format_exception(failure)[-8:]
            error = _error(
                "internal_error",
                f"{type(failure).__name__}: {failure}",
                {"traceback": "".join(where)},
                backend=True,
            )
            log.exception("job %s item %d: unexpected error in %s", call["job"], idx, call["stage"])
        if verdict == "failed":
            merged, staged = None, []
        context.clean()
        return [idx, verdict, merged, error, staged, started, time.time()]

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

    def _stage(self, context: StageContext) -> list[Any]:
        staged = []
        for name, media_type in context.written.items():
            path = context.workdir / "artifacts" / name
            if not path.is_file():
                raise StageError(
                    f"the stage announced the artifact {name!r} but did not write it", code="internal_error"
                )
            key = f"staging/{self._lease}/{context.idx}/{name}"
            size, digest = self._artifacts.stage(path, key)
            staged.append([name, key, size, digest, media_type])
        return staged

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


def _limit_memory(limit: int | None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = hard if limit is None else limit
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def main() -> None:
    """Run a worker on the descriptors given on the command line."""
    socket_fd, lifeline, parent = (int(argument) for argument in sys.argv[1:4])
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Native engines print to standard output; the server's own output is not theirs.
    os.dup2(2, 1)
    logging.basicConfig(
        format="%(levelname)s %(name)s: %(message)s",
        level=os.environ.get("MILLRACE_LOG_LEVEL", "INFO").upper(),
    )
    threading.Thread(target=_watch_lifeline, args=(lifeline,), daemon=True, name="lifeline").start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        Worker(socket.socket(fileno=socket_fd)).run()


if __name__ == "__main__":
    main()
