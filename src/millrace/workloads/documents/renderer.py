"""The server's end of page pictures: one process that renders, started when needed, killed when it hangs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

from millrace.errors import NotFound, TooLarge, Unavailable

_MODULE = "millrace.workloads.documents.render"


class Renderer:
    """Renders one page at a time; requests queue. ``seconds`` and ``memory`` (bytes) bound each."""

    def __init__(self, memory: int, seconds: float = 30.0) -> None:
        self._memory = memory
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = asyncio.Lock()

    async def png(self, wanted: Mapping[str, Any]) -> bytes:
        """Return the PNG that ``render.render`` makes; NotFound, TooLarge or Unavailable where it cannot."""
        async with self._turn:
            return await asyncio.to_thread(self._ask, wanted)

    def _ask(self, wanted: Mapping[str, Any]) -> bytes:
        line = json.dumps(wanted).encode() + b"\n"
        reused = self._process is not None
        data = self._exchange(line)
        if data is None and reused:
            data = self._exchange(line)  # it had ended of idleness
        if data is None:
            raise Unavailable("the page could not be rendered: its process ended")
        return data

    def _exchange(self, line: bytes) -> bytes | None:
        """Send a request to the process, started if need be; None where it has ended instead of answering."""
        process = self._process = self._process or _start(self._memory)
        assert process.stdin is not None
        assert process.stdout is not None
        overdue = threading.Event()

        def stop() -> None:
            overdue.set()
            process.kill()

        timer = threading.Timer(self._seconds, stop)
        timer.start()
        try:
            _send(process.stdin, line)
            head = json.loads(_line(process.stdout))
            data = _exactly(process.stdout, int(head["bytes"]))
        except (EOFError, OSError, ValueError):
            self._drop()
            if overdue.is_set():
                raise TooLarge(f"the page takes longer than {self._seconds:g} s to render") from None
            return None
        finally:
            timer.cancel()
        if "error" in head:
            raise NotFound(f"the page cannot be shown: {head['error']}")
        return data

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _start(memory: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", _MODULE, str(memory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


def _send(pipe: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def _line(pipe: IO[bytes]) -> bytes:
    line = pipe.readline(4096)
    if not line:
        raise EOFError
    return line


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    pieces = []
    while count:
        piece = pipe.read(min(count, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
