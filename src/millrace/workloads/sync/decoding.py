"""Gets both recordings of a pair ready, decoded at once where there are slots for it.

What is decoded in bulk goes to a thread. Loops over frames in threads of one interpreter get in each other's
way (measured: five times slower), so a file that needs one goes to a child process, which lives and dies with
this one.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from millrace.errors import BadInput, Transient
from millrace.media.decode import in_bulk
from millrace.workloads.sync.recording import Recording, RecordingCache, Source, extract

_WORTH_ANOTHER = 8_000_000
"""Bytes from which on decoding takes longer than starting a process for it."""

Progress = Callable[[float], None]


@contextmanager
def prepared(
    cache: RecordingCache, master: Source, dub: Source, *, slots: int = 1, progress: Progress = lambda f: None
) -> Iterator[tuple[Recording, Recording]]:
    """Hold master and dub decoded; what is in the cache is not decoded again.

    ``slots`` of two or more lets both be decoded at once. BadInput names the file that is at fault.
    """
    done = [0.0, 0.0]
    telling = Lock()

    def report(which: int) -> Progress:
        def told(fraction: float) -> None:
            with telling:
                done[which] = fraction
                progress(sum(done) / 2)

        return told

    apart = slots > 1 and min(master.path.stat().st_size, dub.path.stat().st_size) > _WORTH_ANOTHER
    with ExitStack() as held:
        if apart and master.identity() != dub.identity():
            with ThreadPoolExecutor(1) as pool:
                second = pool.submit(held.enter_context, cache.use(dub, _beside(report(1))))
                first = _named("master", lambda: held.enter_context(cache.use(master, _here(report(0)))))
                other = _named("dub", second.result)
        else:
            first = _named("master", lambda: held.enter_context(cache.use(master, _here(report(0)))))
            other = _named("dub", lambda: held.enter_context(cache.use(dub, _here(report(1)))))
        yield first, other


def _named(which: str, get: Callable[[], Recording]) -> Recording:
    try:
        return get()
    except BadInput as error:
        raise BadInput(f"{which}: {error.message}", code=error.code, details=error.details) from error


def _here(progress: Progress) -> Callable[[Source, Path], None]:
    def make(source: Source, folder: Path) -> None:
        extract(source, folder, progress)

    return make


def _beside(progress: Progress) -> Callable[[Source, Path], None]:
    def make(source: Source, folder: Path) -> None:
        bulk = source.channel is None and in_bulk(source.path)
        (_here if bulk else _in_process)(progress)(source, folder)

    return make


def _in_process(progress: Progress) -> Callable[[Source, Path], None]:
    def make(source: Source, folder: Path) -> None:
        order = {
            "path": str(source.path),
            "stream": source.stream,
            "channel": source.channel,
            "mix": source.mix,
            "folder": str(folder),
            "parent": os.getpid(),
        }
        command = [sys.executable, "-m", "millrace.workloads.sync.decoding", json.dumps(order)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            last: dict[str, Any] = {}
            for line in child.stdout:
                last = json.loads(line)
                if "fraction" in last:
                    progress(last["fraction"])
        if "code" in last:
            raise BadInput(last["message"], code=last["code"], details=last["details"])
        if child.returncode != 0 or "done" not in last:
            raise Transient(f"decoding {source.path.name} ended unexpectedly (status {child.returncode})")

    return make


def main(order: dict[str, Any]) -> None:
    """Decode one file as the parent process ordered, telling it line by line how far it is."""
    _die_with(order["parent"])
    source = Source(Path(order["path"]), order["stream"], order["channel"], order["mix"])
    told = 0.0

    def tell(fraction: float) -> None:
        nonlocal told
        if fraction - told >= 0.01:
            told = fraction
            print(json.dumps({"fraction": fraction}), flush=True)

    try:
        extract(source, Path(order["folder"]), tell)
    except BadInput as error:
        print(
            json.dumps({"code": error.code, "message": error.message, "details": error.details}), flush=True
        )
    else:
        print(json.dumps({"done": True}), flush=True)


def _die_with(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends, however that happens (Linux)."""
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
