"""Recognisers in child processes, for engines that hold the interpreter lock.

Run as a module, this file is such a child: it loads the recogniser it is told, then answers
segments until its pipe closes. It belongs to its parent's process group and asks the kernel to be
killed with it, so that no child outlives a worker.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection

from millrace.engine.process import die_with_parent
from millrace.errors import MillraceError, SettingsError, Transient
from millrace.workloads.transcripts.recognisers import Recognised, Recogniser, RecogniserSpec, Samples, load


class ChildRecogniser:
    """A recogniser that runs in a process of its own; asked by one thread at a time."""

    lanes = 1

    def __init__(self, spec: RecogniserSpec) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        self._pipe: Connection[object, object] = Connection(ours.detach())
        self._pipe.send(spec)

    def recognise(self, samples: Samples) -> Recognised:
        """Return what the child says; Transient if it died, SettingsError if it could not load."""
        try:
            self._pipe.send(samples)
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.wait()
            raise Transient(
                f"the recogniser's process died ({_why(self._process.returncode)})", code="engine_error"
            ) from error
        if isinstance(answer, MillraceError):
            raise answer
        assert isinstance(answer, Recognised)
        return answer

    @property
    def alive(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the child."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()


def _why(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _serve(pipe: Connection[object, object]) -> None:
    spec = pipe.recv()
    assert isinstance(spec, RecogniserSpec)
    recogniser: Recogniser | MillraceError
    try:
        recogniser = load(spec)
    except MillraceError as error:
        recogniser = SettingsError(error.message)
    while True:
        samples = pipe.recv()
        pipe.send(recogniser if isinstance(recogniser, MillraceError) else recogniser.recognise(samples))  # type: ignore[arg-type]


def main() -> None:
    """Serve the parent whose pipe and process id are given as arguments."""
    die_with_parent(int(sys.argv[2]))
    try:
        _serve(Connection(int(sys.argv[1])))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main()
