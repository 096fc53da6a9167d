"""A real server for tests: ``millrace serve`` in a process of its own, on a free port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2 as httpx
import yaml

START_SECONDS = 60.0
"""How long a start may take on a busy machine before a test gives up."""


class ServerDied(AssertionError):
    """The server ended by itself; the message holds what it said."""


def install_plugin(folder: Path, kind: str, target: str) -> Path:
    """Make ``folder`` look like an installed distribution whose entry point ``kind`` names ``target``.

    Put it on the server's path (``LiveServer(path=[folder])``) together with the module itself.
    """
    info = folder / f"test_{kind}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: test-{kind}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[millrace.workloads]\n{kind} = {target}\n")
    return folder


PROBES = Path(__file__).parent / "probes"


def probe_path(folder: Path) -> list[Path]:
    """Install the workload ``probe``, whose stages do as their items say; return a server's ``path``."""
    return [PROBES, install_plugin(folder / "probe-plugin", "probe", "probe.plugin:plugin")]


class LiveServer:
    """One server, its data and its settings; can be killed and started again on the same data.

    Args:
        home: an empty directory: data, settings file and log are kept there.
        settings: what ``millrace.yaml`` holds, nested as in the file.
        media_roots: given as ``--media-root``.
        environ: further environment variables (``REQUIRE_AUTH`` …).
        path: directories from which further modules and entry points are loaded.

    ``fixed_port``, set before a start, is where it listens; 0: any free port.
    """

    def __init__(
        self,
        home: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        media_roots: Sequence[Path] = (),
        environ: Mapping[str, str] | None = None,
        path: Sequence[Path] = (),
    ) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.settings = dict(settings or {})
        self.media_roots = list(media_roots)
        self.environ = dict(environ or {})
        self.path = list(path)
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        self.headers: dict[str, str] = {}
        self._client: httpx.Client | None = None
        self.fixed_port = 0
        self._log = home / "server.log"
        if "BEARER_TOKEN" in self.environ:
            self.headers["Authorization"] = f"Bearer {self.environ['BEARER_TOKEN']}"

    # -- life ---------------------------------------------------------------------------------

    def command(self) -> list[str]:
        """Return the command line that starts it."""
        self.home.mkdir(parents=True, exist_ok=True)
        config = self.home / "millrace.yaml"
        config.write_text(yaml.safe_dump(self.settings) if self.settings else "")
        roots = [word for root in self.media_roots for word in ("--media-root", str(root))]
        return [
            *(sys.executable, "-m", "millrace.cli", "serve", "--port", str(self.fixed_port)),
            *("--data-dir", str(self.data_dir), "--config", str(config), *roots),
        ]

    def environment(self) -> dict[str, str]:
        """Return the environment it starts in: ours, without settings of whoever runs the tests."""
        mine = ("REQUIRE_AUTH", "BEARER_TOKEN", "TMP_DIR", "JOB_TTL_SECONDS")
        kept = {k: v for k, v in os.environ.items() if k not in mine and not k.startswith("MILLRACE_")}
        kept["PYTHONPATH"] = os.pathsep.join([*map(str, self.path), kept.get("PYTHONPATH", "")]).strip(
            os.pathsep
        )
        kept["PYTHONUNBUFFERED"] = "1"
        return {**kept, **self.environ}

    def start(self) -> LiveServer:
        """Start it, and return once it can take work."""
        assert self.process is None, "it runs already"
        command = self.command()
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.url = self._read_url()
        self._client = httpx.Client(base_url=self.url, headers=self.headers, timeout=60.0)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                if self._client.get("/health").status_code == 200:
                    return self
            self._check_alive()
            assert time.monotonic() < deadline, f"not healthy after {START_SECONDS} s:\n{self.log()}"
            time.sleep(0.02)

    def _read_url(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        guard = threading.Timer(START_SECONDS, self.process.kill)
        guard.start()
        try:
            line = self.process.stdout.readline()
        finally:
            guard.cancel()
        if " on http" not in line:
            self.process.wait(10)
            self._check_alive()
        return line.rpartition(" on ")[2].strip()

    def _check_alive(self) -> None:
        assert self.process is not None
        if self.process.poll() is not None:
            code = self.process.returncode
            self._forget()
            raise ServerDied(f"the server ended with code {code}:\n{self.log()}")

    def stop(self) -> int:
        """Ask it to stop, as an operator would; return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with SIGKILL, as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, sig: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(sig)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop on {sig.name}:\n{self.log()}") from None
        finally:
            self._forget()
        return code

    def _forget(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def restart(self, *, kill: bool = False, **changed: Any) -> LiveServer:
        """Stop (or kill) it and start it again on the same data; ``changed`` replaces settings at the top."""
        if self.process is not None:
            self.kill() if kill else self.stop()
        self.settings.update(changed)
        return self.start()

    def __enter__(self) -> LiveServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()

    # -- use ----------------------------------------------------------------------------------

    @property
    def client(self) -> httpx.Client:
        """A client with its base URL, and its token where it has one."""
        assert self._client is not None, "it does not run"
        return self._client

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def log(self) -> str:
        """Return what it has logged so far, over all its starts."""
        return self._log.read_text() if self._log.exists() else ""

    def wait(self, job_id: str, *states: str, timeout: float = 60.0) -> dict[str, Any]:
        """Poll ``/jobs/{id}`` until the job is in one of these canonical states; by default a final one."""
        wanted = states or ("succeeded", "failed", "cancelled", "skipped")
        deadline = time.monotonic() + timeout
        while True:
            row: dict[str, Any] = self.client.get(f"/jobs/{job_id}").raise_for_status().json()
            if row["state"] in wanted:
                return row
            assert time.monotonic() < deadline, (
                f"still {row['state']} after {timeout} s: {row}\n{self.log()[-3000:]}"
            )
            time.sleep(0.02)

    def raw(self, request: bytes, *, hang_up: bool = False, timeout: float = 10.0) -> bytes:
        """Send bytes as they are, and return what comes back until the server closes or falls silent.

        ``hang_up`` ends our side first, as a client does that is cut off.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(request)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
            received = bytearray()
            with contextlib.suppress(TimeoutError):
                while block := connection.recv(65536):
                    received += block
        return bytes(received)


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
