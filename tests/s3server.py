"""A real S3 server for tests: Ceph's RADOS gateway over one monitor, one manager and one store in memory.

From Debian: ``radosgw ceph-mon ceph-osd ceph-mgr ceph-common`` (no recommends). Up in about half a
minute, below a gigabyte of memory, on free ports, its data in one directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live import free_port

PROGRAMS = (
    "ceph",
    "ceph-mon",
    "ceph-osd",
    "ceph-mgr",
    "ceph-authtool",
    "monmaptool",
    "radosgw",
    "radosgw-admin",
)
_START_SECONDS = 180.0

CONFIG = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {home}/keyring
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = {home}/run
admin socket = {home}/run/$name.asok
pid file = {home}/run/$name.pid
log file = {home}/$name.log
mon cluster log file = {home}/cluster.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 0
mon data avail warn = 0
osd objectstore = memstore
memstore device bytes = 2147483648
osd data = {home}/osd
mon data = {home}/mon
mgr data = {home}/mgr
mgr initial modules =
osd op num threads per shard = 1
osd op num shards = 1
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{rgw}
rgw thread pool size = 32
rgw data = {home}/rgw
rgw enable usage log = false
rgw enable ops log = false
rgw gc obj min wait = 1
"""


@dataclass(frozen=True, slots=True)
class S3Account:
    """Where the server is, and who may use it."""

    endpoint: str
    access_key: str
    secret_key: str

    def settings(self, bucket: str) -> dict[str, str]:
        """Return the section ``blobs`` of the settings for a bucket of it."""
        return {
            "location": f"s3://{bucket}",
            "endpoint": self.endpoint,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }

    def make_bucket(self) -> str:
        """Make an empty bucket with a name of its own; return the name."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        _sign(request, self)
        urllib.request.urlopen(request, timeout=60).close()
        return name

    def unfinished(self, bucket: str) -> list[str]:
        """Return the keys of the multipart uploads that are under way in it."""
        request = urllib.request.Request(f"{self.endpoint}/{bucket}?uploads")
        _sign(request, self)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return re.findall("<Key>(.*?)</Key>", answer.read().decode())

    def keys(self, bucket: str) -> list[str]:
        """Return the keys of all objects in it, which may be a thousand."""
        request = urllib.request.Request(f"{self.endpoint}/{bucket}")
        _sign(request, self)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return re.findall("<Key>(.*?)</Key>", answer.read().decode())


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class S3Server:
    """One server. ``home`` must be an empty directory with a short path."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._processes: list[subprocess.Popen[bytes]] = []
        self._config = home / "ceph.conf"

    def start(self) -> S3Account:
        """Start it and return an account on it."""
        ports = {name: free_port() for name in ("mon_v1", "mon_v2", "rgw")}
        for folder in ("run", "mon", "osd", "mgr", "rgw"):
            (self.home / folder).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        self._config.write_text(CONFIG.format(home=self.home, fsid=fsid, **ports))
        self._keyring()
        self._monitor(fsid, ports)
        self._spawn("ceph-mgr", "-i", "a")
        self._store()
        account = self._gateway(ports["rgw"])
        self._wait_for_gateway(account)
        return account

    def stop(self) -> None:
        """Stop everything that was started."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.wait(30)
        self._processes.clear()

    def _run(self, *command: str, timeout: float = 90.0) -> str:
        done = subprocess.run(
            [command[0], "-c", str(self._config), *command[1:]],
            capture_output=True,
            timeout=timeout,
            env=self._environment(),
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.decode()[-2000:]}")
        return done.stdout.decode()

    def _spawn(self, program: str, *arguments: str) -> None:
        output = (self.home / f"{program}.out").open("wb")
        with output:
            self._processes.append(
                subprocess.Popen(
                    [program, "-f", "-c", str(self._config), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment(),
                )
            )

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self._config)}

    def _keyring(self) -> None:
        keyring = str(self.home / "keyring")
        every = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
        first = True
        for name, caps in (
            ("mon.", ("--cap", "mon", "allow *")),
            ("client.admin", every),
            ("mgr.a", every),
            ("osd.0", every),
            ("client.rgw", every),
        ):
            create = ["--create-keyring"] if first else []
            command = ["ceph-authtool", *create, keyring, "--gen-key", "-n", name, *caps]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            first = False

    def _monitor(self, fsid: str, ports: dict[str, int]) -> None:
        monmap = str(self.home / "monmap")
        address = f"[v2:127.0.0.1:{ports['mon_v2']},v1:127.0.0.1:{ports['mon_v1']}]"
        subprocess.run(
            ["monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap],
            check=True,
            capture_output=True,
            timeout=60,
        )
        self._run(
            "ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", str(self.home / "keyring")
        )
        self._spawn("ceph-mon", "-i", "a")
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
                self._run("ceph", "-s", timeout=15)
                break
            assert time.monotonic() < deadline, (self.home / "ceph-mon.out").read_text()
            time.sleep(0.2)
        self._run("ceph", "auth", "import", "-i", str(self.home / "keyring"))

    def _store(self) -> None:
        self._run("ceph", "osd", "new", str(uuid.uuid4()))
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", self._osd_uuid())
        self._spawn("ceph-osd", "-i", "0")
        self._run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default")
        deadline = time.monotonic() + _START_SECONDS
        while "1 up" not in self._run("ceph", "osd", "stat"):
            assert time.monotonic() < deadline, (self.home / "ceph-osd.out").read_text()
            time.sleep(0.2)

    def _osd_uuid(self) -> str:
        found: str = json.loads(self._run("ceph", "osd", "dump", "-f", "json"))["osds"][0]["uuid"]
        return found

    def _gateway(self, port: int) -> S3Account:
        self._spawn("radosgw", "-n", "client.rgw")
        made = self._run(
            *("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=millrace"),
            *("--display-name=Millrace", "--access-key=millrace", "--secret-key=millrace-secret"),
            timeout=_START_SECONDS,
        )
        keys = json.loads(made[made.index("{") :])["keys"][0]
        return S3Account(f"http://127.0.0.1:{port}", keys["access_key"], keys["secret_key"])

    def _wait_for_gateway(self, account: S3Account) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(account.endpoint, timeout=10).close()
                return
            assert time.monotonic() < deadline, (self.home / "radosgw.out").read_text()
            time.sleep(0.2)


def _sign(request: urllib.request.Request, account: S3Account) -> None:
    """Sign a request without a body as S3's first version does (RGW still takes it): enough for a bucket."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate

    date = formatdate(usegmt=True)
    path = request.selector
    text = f"{request.get_method()}\n\n\n{date}\n{path}"
    mac = hmac.new(account.secret_key.encode(), text.encode(), hashlib.sha1).digest()
    request.add_header("Date", date)
    request.add_header("Authorization", f"AWS {account.access_key}:{base64.b64encode(mac).decode()}")


def run_s3_server(home: Path) -> contextlib.AbstractContextManager[S3Account]:
    """Run a server as long as the context lasts; skip the test, saying why, where Ceph is absent."""
    absent = missing()
    if absent:
        pytest.skip(
            f"no S3 server: {', '.join(absent)} not installed "
            "(Debian: radosgw ceph-mon ceph-osd ceph-mgr ceph-common)"
        )

    @contextlib.contextmanager
    def running():
        server = S3Server(home)
        try:
            yield server.start()
        finally:
            server.stop()

    return running()
