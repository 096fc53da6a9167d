"""Runs the shell commands of a page one after the other, as a reader would type them.

One bash for a page, in a directory with the files that the pages speak of. The server's address and the
media folder are put in the place of the documented ones; ``JOB_ID``, ``BATCH_ID``, ``DOC_ID`` and the like
stand for what an earlier answer said; a job that is only looked at is waited for first, as a reader would.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ADDRESSES = ("http://localhost:8000", "http://127.0.0.1:8000", "localhost:8000", "127.0.0.1:8000")
# What a placeholder stands for: the newest of these keys in an answer.
PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "JOB_ID": ("job_id", "jobId", "id"),
    "BATCH_ID": ("batch_id", "batchId"),
    "DOC_ID": ("doc_id",),
    "DELIVERY_ID": ("delivery_id",),
    "SCHEDULE_ID": ("schedule_id",),
}
# An answer of 400 and above is a failure; a server that is started is stopped again once it is up; nothing is
# installed for an example (that the extras exist is checked elsewhere).
_PRELUDE = """
curl() { command curl --no-progress-meter --fail-with-body "$@"; }
millrace() {
  case "$1" in
    serve|worker) "$PYTHON" -m tests.docs.started "$@" ;;
    *) command millrace "$@" ;;
  esac
}
pip() { :; }
exec 2>&1
"""


class CommandFailed(AssertionError):
    """A documented command failed; the message shows it with what it said."""


class Shell:
    """A bash that runs documented commands against a server.

    Args:
        home: where it starts.
        replace: what stands in the documentation, and what is put in its place.
        wait: called with a job's id before a command that asks about that job.
        environ: further environment variables.
    """

    def __init__(
        self,
        home: Path,
        *,
        replace: Mapping[str, str],
        wait: Callable[[str], None],
        environ: Mapping[str, str] | None = None,
        limit: float = 90.0,
    ) -> None:
        self._replace = replace
        self._wait = wait
        self._limit = limit
        self._known: dict[str, str] = {}
        self._mark = secrets.token_hex(8)
        binaries = str(Path(sys.executable).parent)
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=home,
            env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHON": sys.executable}
            | dict(environ or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._say(_PRELUDE)

    def close(self) -> None:
        """End it, and whatever it left running."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._kill()
        self._bash.wait()
        self._bash.stdin.close()
        self._bash.stdout.close()

    def run(self, block: str) -> None:
        """Run every command of a block; CommandFailed on the first that fails."""
        for command in commands(block):
            self._run(self._filled(command))

    def _run(self, command: str) -> None:
        self._say(f"{{ {command}\n}} </dev/null; printf '\\n%s %d\\n' {self._mark} $?\n")
        output, code = self._read()
        if code != 0:
            raise CommandFailed(f"this ended with {code}:\n{command}\n\nit said:\n{output}")
        for key, value in _facts(output):
            self._known[key] = value

    def _filled(self, command: str) -> str:
        for placeholder, keys in PLACEHOLDERS.items():
            if placeholder not in command:
                continue
            found = next((self._known[key] for key in keys if key in self._known), None)
            if found is None:
                raise CommandFailed(f"no earlier answer says what {placeholder} is:\n{command}")
            if placeholder in ("JOB_ID", "BATCH_ID") and not re.search(r" -(X|d|F) ", command):
                self._wait(found)
            command = command.replace(placeholder, found)
        return replaced(command, self._replace)

    def _say(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text)
        self._bash.stdin.flush()

    def _read(self) -> tuple[str, int]:
        assert self._bash.stdout is not None
        lines: list[str] = []
        guard = threading.Timer(self._limit, self._kill)
        guard.start()
        try:
            for line in self._bash.stdout:
                if line.startswith(self._mark):
                    return "".join(lines).rstrip("\n"), int(line.split()[1])
                lines.append(line)
        finally:
            guard.cancel()
        return "".join(lines), -1

    def _kill(self) -> None:
        try:
            os.killpg(self._bash.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def replaced(text: str, by: Mapping[str, str]) -> str:
    """Put everything in its place at once, the longest first."""
    return re.sub(
        "|".join(map(re.escape, sorted(by, key=len, reverse=True))), lambda found: by[found[0]], text
    )


def commands(block: str) -> Iterator[str]:
    """Split a block into commands: a line is complete once bash says so."""
    lines: list[str] = []
    for line in block.splitlines():
        if not lines and (not line.strip() or line.lstrip().startswith("#")):
            continue
        lines.append(line)
        text = "\n".join(lines)
        checked = subprocess.run(
            ["bash", "-n"], input=text + "\n", text=True, capture_output=True, check=False
        )
        if checked.returncode == 0 and not checked.stderr and not line.endswith("\\"):
            yield text
            lines = []
    if lines:
        raise CommandFailed("this is no complete command:\n" + "\n".join(lines))


def _facts(output: str) -> Iterator[tuple[str, str]]:
    """Yield every key with its text from the JSON in an output, the outermost last."""
    for text in [output, *output.splitlines()]:
        start = text.find("{")
        if start < 0:
            continue
        try:
            found = json.loads(text[start:])
        except ValueError:
            continue
        yield from _walk(found)


def _walk(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner)
            if isinstance(inner, str):
                yield key, inner
        if "cron" in value:
            yield "schedule_id", str(value.get("id"))
        if "attempts" in value and "url" in value:
            yield "delivery_id", str(value.get("id"))
    elif isinstance(value, list):
        for inner in reversed(value):
            yield from _walk(inner)
