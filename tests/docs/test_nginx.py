"""The configuration of the guide to nginx, in a real nginx before a real server."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.conftest import NewServer
from tests.docs.pages import DOCS, blocks
from tests.live import LiveServer, free_port, probe_path

TOKEN = "a long random text"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


@pytest.fixture(scope="module")
def behind(new_module_server: NewServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    folder = tmp_path_factory.mktemp("plugin")
    return new_module_server(
        path=probe_path(folder),
        environ={"REQUIRE_AUTH": "true", "BEARER_TOKEN": TOKEN},
    ).start()


@pytest.fixture(scope="module")
def nginx(behind: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an nginx with the documented configuration, its names and ports made ours."""
    if NGINX is None or shutil.which("openssl") is None:
        pytest.skip("nginx or openssl is not installed")
    home = tmp_path_factory.mktemp("nginx")
    _certificate(home)
    port = free_port()
    (block,) = blocks(DOCS / "guides" / "nginx.md", "nginx")
    site = block.text
    for old, new in {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{behind.port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/millrace": str(home / "millrace"),
    }.items():
        assert old in site
        site = site.replace(old, new)
    folders = "".join(
        f"{kind}_temp_path {home / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = home / "nginx.conf"
    config.write_text(
        f"pid {home / 'pid'};\nerror_log {home / 'error.log'};\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}{site}\n}}\n"
    )
    command = [NGINX, "-p", str(home), "-c", str(config)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
    address = f"https://localhost:{port}"
    while not _answers(address):
        assert process.poll() is None, (home / "error.log").read_text()
        time.sleep(0.02)
    yield address
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def client(nginx: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=nginx, verify=False, headers=headers, timeout=60.0) as client:
        yield client


def test_requests_go_through(client: httpx.Client) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/jobs", headers={"Authorization": ""}).status_code == 401


def test_an_upload_larger_than_nginx_takes_by_default_goes_through(client: httpx.Client) -> None:
    sent = client.post(
        "/jobs", data={"job": json.dumps({"kind": "probe"})}, files={"file": ("large.bin", bytes(5_000_000))}
    )
    assert sent.status_code == 202, sent.text


def test_events_arrive_when_they_happen(client: httpx.Client) -> None:
    job = client.post("/jobs", json={"kind": "probe", "items": [{"input": {}}], "held": True}).json()[
        "job_id"
    ]
    with client.stream("GET", f"/jobs/{job}/events") as stream:
        lines = stream.iter_lines()
        # The job has not ended, and does not by itself: only a stream that is not buffered says this now.
        assert any(line == "event: job.created" for line in lines)
        client.delete(f"/jobs/{job}").raise_for_status()
        assert any(line == "event: job.finished" for line in lines)


def test_websockets_are_let_through(nginx: str, client: httpx.Client) -> None:
    from websockets.sync.client import connect

    job = client.post("/jobs", json={"kind": "probe", "items": [{"input": {}}], "held": True}).json()[
        "job_id"
    ]
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    address = nginx.replace("https:", "wss:") + f"/jobs/{job}/ws"
    with connect(address, ssl=context, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
        assert json.loads(socket.recv(timeout=60))["type"] == "job.created"
        client.delete(f"/jobs/{job}").raise_for_status()
        types = [json.loads(frame)["type"] for frame in socket]
    assert types[-1] == "job.finished"


def _certificate(home: Path) -> None:
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-keyout", str(home / "millrace.key"), "-out", str(home / "millrace.pem")),
        ],
        check=True,
        capture_output=True,
    )


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", verify=False).status_code == 200
    except httpx.HTTPError:
        return False
