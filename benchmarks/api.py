"""How fast the jobs API answers on a large job, through a real server on this machine.

Prints: submitting N items in one ``POST /jobs`` until it is answered 202 (durable); then the median
and the 95th percentile of listing jobs, reading the job, and paging through its items at the
beginning, in the middle and at the end; the server's memory before and after; and how fast an upload
is stored, and how long ``/livez`` takes meanwhile, which shows whether anything holds up the event loop.

    python benchmarks/api.py --items 100000 --requests 50
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx2 as httpx
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.live import LiveServer, probe_path


def rss_mib(server: LiveServer) -> float:
    """Return the resident memory of the server's process, in MiB."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def timed(client: httpx.Client, path: str, requests: int) -> tuple[float, float]:
    """Return median and 95th percentile of GET, in milliseconds."""
    taken = []
    for _ in range(requests):
        began = time.perf_counter()
        client.get(path).raise_for_status()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), sorted(taken)[int(len(taken) * 0.95) - 1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=200, help="how many small jobs there are besides")
    parser.add_argument("--upload", type=int, default=256, help="MiB of the upload; 0: none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with LiveServer(home / "server", path=probe_path(home)) as server:
            measure(server, arguments)
            if arguments.upload:
                upload(server, home / "upload.bin", arguments.upload)


def measure(server: LiveServer, arguments: argparse.Namespace) -> None:
    """Print the table."""
    headers = {"content-type": "application/json"}
    small = orjson.dumps({"kind": "probe", "items": [{"input": {}}], "held": True})
    for _ in range(arguments.jobs):
        server.client.post("/jobs", content=small, headers=headers).raise_for_status()
    items = [{"name": f"file {n}.mp4", "input": {"n": n}} for n in range(arguments.items)]
    body = orjson.dumps({"kind": "probe", "items": items, "held": True})
    before = rss_mib(server)
    began = time.perf_counter()
    reply = server.client.post("/jobs", content=body, headers=headers, timeout=600).raise_for_status()
    seconds = time.perf_counter() - began
    job = reply.json()["job_id"]
    print(f"submit {arguments.items} items ({len(body) / 2**20:.1f} MiB)   {seconds:6.2f} s   (target < 5 s)")
    for what, path in (
        ("list jobs", "/jobs?limit=50"),
        ("list jobs by status", "/jobs?limit=50&status=queued"),
        ("read the job", f"/jobs/{job}"),
        ("items, first page", f"/jobs/{job}/items?limit=100"),
        ("items, middle page", f"/jobs/{job}/items?limit=100&after={arguments.items // 2}"),
        ("items, last page", f"/jobs/{job}/items?limit=100&after={max(0, arguments.items - 101)}"),
        ("items by state", f"/jobs/{job}/items?limit=100&state=queued&after={arguments.items // 2}"),
        ("items that failed (none)", f"/jobs/{job}/items?limit=100&state=failed"),
        ("statistics", "/jobs/stats"),
    ):
        median, high = timed(server.client, path, arguments.requests)
        print(f"{what:28} p50 {median:7.2f} ms   p95 {high:7.2f} ms   (target < 50 ms)")
    print(f"memory of the server {before:.0f} MiB before, {rss_mib(server):.0f} MiB after")


def upload(server: LiveServer, file: Path, mebibytes: int) -> None:
    """Upload a file in 1 MiB writes, and ask ``/livez`` all the while."""
    with file.open("wb") as out:
        for _ in range(mebibytes):
            out.write(os.urandom(1 << 20))
    before, waits, done = rss_mib(server), [], threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url) as client:
            while not done.is_set():
                began = time.perf_counter()
                client.get("/livez").raise_for_status()
                waits.append((time.perf_counter() - began) * 1000)

    asking = threading.Thread(target=ask)
    asking.start()
    began = time.perf_counter()
    with file.open("rb") as body:
        files = {"file": ("upload.bin", body)}
        data = {"job": '{"kind": "probe", "held": true}'}
        server.client.post("/jobs", data=data, files=files, timeout=600).raise_for_status()
    seconds = time.perf_counter() - began
    done.set()
    asking.join()
    waits.sort()
    print(
        f"upload of {mebibytes} MiB           {mebibytes / seconds:7.0f} MiB/s, memory {before:.0f} MiB to ",
        end="",
    )
    print(f"{rss_mib(server):.0f} MiB")
    print(f"/livez meanwhile             p50 {statistics.median(waits):7.2f} ms   max {waits[-1]:7.2f} ms")


if __name__ == "__main__":
    main()
