"""A PostgreSQL and a RabbitMQ of the suite's own, on free ports, to be killed; and cuts in the network."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.live import free_port

_START_SECONDS = 120.0


def _listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _listening(port):
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, f"nothing listens on {port}: {log.read_text()[-2000:]}"
        time.sleep(0.05)


class Postgres:
    """A database server; ``kill`` is -9 to all of it."""

    def __init__(self, home: Path) -> None:
        found = (
            sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").is_dir() else []
        )
        if not found:
            raise FileNotFoundError("PostgreSQL is not installed below /usr/lib/postgresql")
        self._bin = found[-1]
        self._home = home
        self._data = home / "data"
        self._as = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, host: str = "127.0.0.1") -> str:
        """The URL of its database."""
        return f"postgresql://postgres@{host}:{self.port}/postgres"

    def create(self) -> None:
        """Make its data directory."""
        self._home.mkdir(parents=True)
        if os.getuid() == 0:
            shutil.chown(self._home, "postgres")
            for parent in self._home.parents:
                if parent != Path("/") and parent.stat().st_uid == 0 and parent != Path("/tmp"):
                    parent.chmod(parent.stat().st_mode | 0o011)
        subprocess.run(
            [*self._as, str(self._bin / "initdb"), "--auth=trust", "-U", "postgres", "-D", str(self._data)],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.199.0.0/16 trust\n")

    def start(self) -> None:
        """Start it; after a kill it recovers by itself."""
        log = self._home / "log"
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with log.open("ab") as out:
                self._process = subprocess.Popen(
                    [
                        *(
                            *self._as,
                            str(self._bin / "postgres"),
                            "-D",
                            str(self._data),
                            "-p",
                            str(self.port),
                        ),
                        *("-k", str(self._data), "-c", "listen_addresses=*", "-c", "max_connections=200"),
                    ],
                    stdout=out,
                    stderr=out,
                    cwd="/",
                    start_new_session=True,
                )
            while self._process.poll() is None and not self._ready():
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.1)
            if self._process.poll() is None:
                return
            # Of the one before, some processes may still be on their way out.
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)

    def _ready(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def kill(self) -> None:
        """Kill it with SIGKILL, as a power cut would; its other processes follow their parent."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Rabbit:
    """A broker; ``kill`` is -9 to all of it."""

    def __init__(self, home: Path) -> None:
        self._program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
        if not Path(self._program).exists():
            raise FileNotFoundError("RabbitMQ is not installed in /usr/lib/rabbitmq")
        self._home = home
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, host: str = "127.0.0.1") -> str:
        """Its URL."""
        return f"amqp://guest:guest@{host}:{self.port}//"

    def start(self) -> None:
        """Start it, with what it kept."""
        self._home.mkdir(parents=True, exist_ok=True)
        (self._home / "enabled_plugins").write_text("[].\n")
        (self._home / "rabbitmq.conf").write_text("loopback_users = none\n")
        environment = {
            **os.environ,
            "HOME": str(self._home),
            "RABBITMQ_NODENAME": f"chaos{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.port + 20000 if self.port < 45000 else self.port - 20000),
            "RABBITMQ_MNESIA_BASE": str(self._home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "enabled_plugins"),
            # Two schedulers are plenty for hints.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
        }
        out = self._home / "out"
        with out.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program], env=environment, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        _wait_for(self.port, self._process, out)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Netns:
    """A network namespace joined to this one by a cable that can be pulled. Needs root and iproute2."""

    def __init__(self, number: int) -> None:
        self.name = f"millrace-{os.getpid()}-{number}"
        self._outside = f"mr{os.getpid() % 10000}x{number}"
        inside = f"{self._outside}i"
        net = f"10.199.{number}"
        self.host = f"{net}.1"
        self._ip("netns", "add", self.name)
        try:
            self._ip("link", "add", self._outside, "type", "veth", "peer", "name", inside)
            self._ip("link", "set", inside, "netns", self.name)
            self._ip("addr", "add", f"{self.host}/24", "dev", self._outside)
            self._ip("link", "set", self._outside, "up")
            for command in (
                ("addr", "add", f"{net}.2/24", "dev", inside),
                ("link", "set", inside, "up"),
                ("link", "set", "lo", "up"),
            ):
                self._ip("-n", self.name, *command)
        except BaseException:
            self.close()
            raise

    @property
    def prefix(self) -> Sequence[str]:
        """What is put before a command to run it inside."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Pull the cable: nothing is refused, packets just vanish."""
        self._ip("link", "set", self._outside, "down")

    def mend(self) -> None:
        """Put the cable back."""
        self._ip("link", "set", self._outside, "up")

    def close(self) -> None:
        """Remove it."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._ip("link", "del", self._outside)
        with contextlib.suppress(subprocess.CalledProcessError):
            self._ip("netns", "del", self.name)

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, stderr=subprocess.DEVNULL)


def may_cut() -> bool:
    """Whether network namespaces can be made here."""
    if os.getuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        Netns(250).close()
    except (subprocess.CalledProcessError, OSError):
        return False
    return True
