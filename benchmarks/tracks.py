"""Scans and fixes a library of small video files through a real server, against the usual tools.

    python benchmarks/tracks.py [--files 2000] [--peer 100] [--dir DIR]

Measured end to end: from ``POST /batch`` until the job is finished, every result durable. The peers
are what people use in loops: ``mkvmerge -J`` + ``mkvpropedit`` for Matroska, ``ffprobe`` +
``ffmpeg -c copy`` for MP4; they run over ``--peer`` files of the same library. Also: how long after
the request a webhook's file is done, while a scan of the whole library runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.live import LiveServer
from tests.track_files import Audio, matroska, mp4

TRACKS = [Audio("eng", default=True, name="Main"), Audio("jpn", default=False), Audio("fre", default=False)]


def make_library(folder: Path, files: int) -> None:
    """Half MKV, half MP4; 16 KB to 2 MB of media behind a usual header."""
    mkv = [matroska(TRACKS, void_after=1200, clusters=clusters) for clusters in (10, 100, 1000)]
    flat = [
        mp4(TRACKS, mdat_bytes=size, moov_last=last) for size, last in ((20_000, False), (1_500_000, True))
    ]
    for number in range(files):
        season = folder / f"Show {number // 100}" / f"Season {number // 20 % 5 + 1:02}"
        season.mkdir(parents=True, exist_ok=True)
        if number % 2:
            (season / f"S01E{number:05}.mp4").write_bytes(flat[number // 2 % 2])
        else:
            (season / f"S01E{number:05}.mkv").write_bytes(mkv[number // 2 % 3])


def batch(server: LiveServer, path: Path, **body: object) -> tuple[float, dict]:
    started = time.perf_counter()
    answer = server.client.post("/batch", json={"path": str(path), **body}).raise_for_status().json()
    while True:
        row = server.client.get(f"/batch/{answer['job_id']}?limit=0").raise_for_status().json()
        if row["status"] in ("completed", "failed", "cancelled"):
            return time.perf_counter() - started, row
        time.sleep(0.01)


def webhook_latency(server: LiveServer, path: Path) -> float:
    payload = {
        "eventType": "Download",
        "series": {"title": "A Show", "originalLanguage": {"name": "French"}},
        "episodeFile": {"path": str(path)},
    }
    started = time.perf_counter()
    job = server.client.post("/webhook/sonarr", json=payload).raise_for_status().json()["job_id"]
    while True:
        row = server.client.get(f"/batch/{job}").raise_for_status().json()
        if row["status"] == "completed":
            assert row["results"][0]["status"] in ("success", "skipped"), row
            return time.perf_counter() - started
        time.sleep(0.001)


def webhooks_during_a_scan(server: LiveServer, library: Path, extra: Path) -> list[float]:
    """Send webhooks for fresh files one after the other for as long as a scan of the library runs."""
    files = []
    for number in range(40):
        path = extra / f"{number}.mkv"
        path.write_bytes(matroska(TRACKS, void_after=1200))
        files.append(path)
    job = server.client.post("/batch", json={"path": str(library), "dry_run": True}).raise_for_status().json()
    times = []
    for path in files:
        if server.client.get(f"/batch/{job['job_id']}?limit=0").json()["status"] == "completed":
            break
        times.append(webhook_latency(server, path))
    server.wait(job["job_id"])
    return times


def run(*command: object) -> str:
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def scan_mkv(path: Path) -> None:
    json.loads(run("mkvmerge", "-J", path))


def fix_mkv(path: Path) -> None:
    scan_mkv(path)
    run("mkvpropedit", path, "--edit", "track:a1", "--set", "flag-default=0",
        "--edit", "track:a2", "--set", "flag-default=1",
        "--edit", "track:a3", "--set", "flag-default=0")  # fmt: skip


def scan_mp4(path: Path) -> None:
    json.loads(run("ffprobe", "-v", "error", "-show_streams", "-of", "json", path))


def fix_mp4(path: Path) -> None:
    scan_mp4(path)
    aside = path.with_suffix(".new.mp4")
    # QuickTime's format for the PCM of these small files; -c copy all the same.
    run("ffmpeg", "-v", "error", "-y", "-i", path, "-map", "0", "-c", "copy", "-f", "mov",
        "-disposition:a:0", "0", "-disposition:a:1", "default", aside)  # fmt: skip
    aside.replace(path)


def peer(name: str, work: Callable[[Path], None], files: list[Path]) -> float | None:
    if not files or not shutil.which(name.split()[0]):
        print(f"  {name:34} not installed")
        return None
    started = time.perf_counter()
    for path in files:
        work(path)
    rate = len(files) / (time.perf_counter() - started)
    print(f"  {name:34} {rate:8.1f} files/s")
    return rate


def compare(ours: float, theirs: list[float | None]) -> None:
    rates = [rate for rate in theirs if rate]
    if rates:
        mixed = len(rates) / sum(1 / rate for rate in rates)
        print(f"  ratio                              {ours / mixed:8.1f} x (same mix of MKV and MP4)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--peer", type=int, default=100, help="files the peers are measured over")
    parser.add_argument("--dir", type=Path, help="where to make the library; default: a temporary directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tracks-bench-", dir=options.dir) as name:
        home = Path(name)
        library, theirs, extra = home / "library", home / "theirs", home / "extra"
        for folder in (library, theirs, extra):
            folder.mkdir()
        make_library(library, options.files)
        make_library(theirs, options.peer)
        settings = {"tracks": {"language_priority": ["ja"]}}
        with LiveServer(home / "server", settings=settings, media_roots=[home]) as server:
            batch(server, extra)
            measure(server, library, theirs, extra)


def measure(server: LiveServer, library: Path, theirs: Path, extra: Path) -> None:
    mkvs, mp4s = sorted(theirs.rglob("*.mkv")), sorted(theirs.rglob("*.mp4"))
    seconds, row = batch(server, library, dry_run=True)
    count = row["progress"]["total_files"]
    assert row["progress"]["success"] == count, row["progress"]
    print(f"scan of {count} files (dry run)")
    print(f"  {'millrace, end to end':34} {count / seconds:8.1f} files/s")
    compare(count / seconds, [peer("mkvmerge -J", scan_mkv, mkvs), peer("ffprobe", scan_mp4, mp4s)])

    times = webhooks_during_a_scan(server, library, extra)
    if times:
        print(f"webhook while a scan runs ({len(times)} webhooks)")
        print(f"  {'request to file done':34} {statistics.median(times) * 1000:8.1f} ms median")
        print(f"  {'':34} {max(times) * 1000:8.1f} ms worst")

    seconds, row = batch(server, library)
    assert row["progress"]["success"] == count, row["progress"]
    print(f"fix of {count} files")
    print(f"  {'millrace, end to end, journalled':34} {count / seconds:8.1f} files/s")
    compare(
        count / seconds,
        [peer("mkvmerge -J + mkvpropedit", fix_mkv, mkvs), peer("ffprobe + ffmpeg -c copy", fix_mp4, mp4s)],
    )
    seconds, row = batch(server, library)
    assert row["progress"]["skipped"] == count, row["progress"]
    print(f"again, nothing to do\n  {'millrace, end to end':34} {count / seconds:8.1f} files/s")


if __name__ == "__main__":
    main()
