"""Images through the API against the same work by bare library calls, and against ExifTool with Pillow.

For each size the same pictures go through six ways:

* ``api``       batches of base64 to a real server, one request after the other, until every picture is
                completed;
* ``bare``      the library calls of the stages alone (inspect, decode, look, caption, thumbnail, write, and
                storing the two files as durably as the server does, their new directory included), in as
                many processes as there are cores;
* ``peer``      what scripts do: Pillow opens and shrinks, ExifTool (``-stay_open``) writes the fields;
* ``write``     our writer on one core: to a new file, as the server does it, and in place as ``millrace
                images tag`` does (read, written beside, renamed over the old one, which is freed);
* ``exiftool``  ExifTool ``-stay_open`` doing the same two with the same fields (``-o``,
                ``-overwrite_original``);
* ``copy``      the files merely copied, and put in the place of the old ones: what no writer that keeps the
                original safe can be faster than.

It prints pictures a second and the ratios api/bare, and write/exiftool, and write/copy: each the median of
several rounds, in which the ways take turns. Beside api/bare stand the CPU milliseconds that a picture cost
the server with its workers, and the bare calls: they also mean something on a machine that does other
things at the same time.

Every run has a directory of its own, and its files are emptied afterwards, but deleted only at the end: an
ext4 without a journal looks past every inode that was freed in the last minutes whenever it makes a file.
After many files were deleted on such a file system, set ``TMPDIR`` to a new directory elsewhere, or wait
five minutes. A virtual machine may also pay for memory that its page cache touches for the first time, ten
times what the copy costs; where single files are written, each is therefore emptied before the next.

``--memory`` posts one body of a hundred images of 10 MB instead and prints the server's memory;
``--watchers N`` lets N WebSockets watch one job, and prints how late the last of them heard of its end.

    python benchmarks/images.py --count 400 --megapixels 0.1 3 12
    python benchmarks/images.py --memory
    python benchmarks/images.py --watchers 500
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import httpx2 as httpx
import numpy as np
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.live import LiveServer

from millrace.workloads.images import analysis, jpeg, pixels
from millrace.workloads.images.pieces import mapped, write_pieces
from millrace.workloads.images.tags import Tags

SETTINGS = {"log": {"level": "warning"}}
LIMIT = 50_000_000
BATCHES = 8
"""How many batches there are at least: no picture starts before the last of its batch was received."""


def picture(megapixels: float, seed: int) -> bytes:
    """Return a photograph-like JPEG: detail at every scale, and EXIF of a camera."""
    width = int((megapixels * 1e6 * 4 / 3) ** 0.5)
    height = width * 3 // 4
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height))
    for share in (64, 16, 4):
        noise = rng.integers(0, 255, (max(2, height // share), max(2, width // share), 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)
        image = Image.blend(image, layer, 0.5)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Bench", "B-1"
    exif.get_ifd(0x8769)[0x9003] = "2025:01:02 03:04:05"
    out = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(0.7)).save(out, "JPEG", quality=88, exif=exif)
    return out.getvalue()


def bare_call(job: tuple[bytes, int, str]) -> int:
    """Do to one picture what the stages do, and store the results durably."""
    data, number, folder = job
    found = analysis.analyse(data, f"IMG_{number}.jpg", max_pixels=LIMIT)
    tags = analysis.kept(found.facts.existing, found.tags).limited()
    pieces, _ = jpeg.write(data, tags)
    target = Path(folder) / str(number)
    target.mkdir()
    _durably(target / "thumbnail.jpg", [pixels.thumbnail(found.copy)])
    _durably(target / f"IMG_{number}.jpg", pieces)
    _flush(target)
    return number


def _durably(path: Path, pieces: list) -> None:
    with path.open("wb", buffering=0) as file:
        write_pieces(file.fileno(), pieces)
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process and its children."""
    seconds = 0.0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(entry.name) == pid or int(fields[1]) == pid:
                    seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def bare(pictures: list[bytes], folder: Path, cores: int) -> tuple[float, float]:
    """Return pictures a second of the bare calls, and CPU milliseconds of one.

    The processes are started before the clock.
    """
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        warm = [(pictures[0], -1 - n, str(folder)) for n in range(cores * 4)]
        list(pool.map(bare_call, warm))
        began, spent = time.perf_counter(), _cpu(os.getpid())
        list(pool.map(bare_call, [(data, n, str(folder)) for n, data in enumerate(pictures)]))
        seconds, cost = time.perf_counter() - began, _cpu(os.getpid()) - spent
        return len(pictures) / seconds, cost / len(pictures) * 1000


def api(pictures: list[bytes], server: LiveServer) -> tuple[float, float]:
    """Return pictures a second from the first request until the last was completed, and CPU ms of one."""
    assert server.process is not None
    batch = min(100, -(-len(pictures) // BATCHES))
    bodies = [_body(pictures[at : at + batch]) for at in range(0, len(pictures), batch)]
    for _ in range(2):
        _run(server, [_body(pictures[:16])])
    began, spent = time.time(), _cpu(server.process.pid)
    seconds = _run(server, bodies) - began
    return len(pictures) / seconds, (_cpu(server.process.pid) - spent) / len(pictures) * 1000


def _body(pictures: list[bytes]) -> bytes:
    images = [
        {"base64": base64.b64encode(d).decode(), "name": f"IMG_{n}.jpg"} for n, d in enumerate(pictures)
    ]
    return json.dumps({"images": images}).encode()


def _run(server: LiveServer, bodies: list[bytes]) -> float:
    """Send the bodies, wait until all pictures are done; return when they were, in epoch seconds."""
    headers = {"content-type": "application/json"}
    ids = [server.client.post("/api/v1/batch", content=b, headers=headers).json()["job_id"] for b in bodies]
    ends = []
    for id in ids:
        while (job := server.client.get(f"/jobs/{id}").json())["state"] not in ("succeeded", "failed"):
            time.sleep(0.05)
        assert job["counts"]["succeeded"] == job["counts"]["total"]
        ends.append(datetime.fromisoformat(job["finished_at"]).timestamp())
    return max(ends)


class ExifTool:
    """ExifTool kept open, as its faster users run it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["exiftool", "-stay_open", "True", "-@", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def write(self, path: Path, tags: Tags, target: Path | None = None) -> None:
        """Write the same fields as we do, in place or to a new file."""
        where = ["-overwrite_original"] if target is None else ["-o", str(target)]
        lines = [*where, "-codedcharacterset=utf8", "-charset", "iptc=utf8"]
        for name in ("XMP-dc:Title", "IPTC:ObjectName", "EXIF:XPTitle"):
            lines.append(f"-{name}={tags.title}")
        for name in ("XMP-dc:Description", "IPTC:Caption-Abstract", "EXIF:ImageDescription"):
            lines.append(f"-{name}={tags.description}")
        lines.append(f"-EXIF:XPKeywords={';'.join(tags.keywords)}")
        for name in ("XMP-dc:Subject", "IPTC:Keywords"):
            lines += [f"-{name}={word}" for word in tags.keywords]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n".join([*lines, str(path), "-execute\n"]))
        self._process.stdin.flush()
        while True:
            line = self._process.stdout.readline()
            if line.startswith("{ready") or not line:
                return

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.write("-stay_open\nFalse\n")
        self._process.stdin.close()
        self._process.wait()


def peer(pictures: list[bytes], folder: Path) -> float:
    """Return pictures a second of a loop of Pillow and ExifTool."""
    tool = ExifTool()
    try:
        tool.write(_file(folder, "warm", pictures[0]), TAGS)
        began = time.perf_counter()
        for number, data in enumerate(pictures):
            path = _file(folder, f"peer-{number}", data)
            with Image.open(path) as image:
                image.draft("RGB", (512, 512))
                image.thumbnail((512, 512))
                image.convert("RGB").quantize(8).getcolors()
                image.convert("RGB").resize((320, 240)).save(folder / "thumbnail.jpg")
            tool.write(path, TAGS)
        return len(pictures) / (time.perf_counter() - began)
    finally:
        tool.close()


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / f"{name}.jpg"
    path.write_bytes(data)
    return path


TAGS = Tags(
    "Photograph taken near Arezzo, Italy, 22 October 2008",
    "Photograph of 4000 × 3000 pixels taken on 22 October 2008 at 16:28 near Arezzo, Tuscany, Italy.",
    ("Arezzo", "Tuscany", "Italy", "2008", "October", "photograph", "landscape", "tan", "olive", "brown"),
)


def measure(arguments: argparse.Namespace) -> None:
    """Print both tables."""
    cores = len(os.sched_getaffinity(0))
    sets = []
    for megapixels in arguments.megapixels:
        count = max(8, int(arguments.count / max(1.0, megapixels)))
        kinds = [picture(megapixels, seed) for seed in range(min(count, 12))]
        sets.append((megapixels, [kinds[n % len(kinds)] for n in range(count)]))
    print(f"{cores} cores; pictures a second, medians of {arguments.rounds} rounds")
    with tempfile.TemporaryDirectory() as name:
        folders = Folders(Path(name))
        print(f"{'MP':>5} {'MB':>6} {'api':>8} {'bare':>8} {'api/bare':>9} {'CPU ms':>13} {'peer':>8}")
        for megapixels, pictures in sets:
            print(f"{megapixels:5.1f} {len(pictures[0]) / 1e6:6.2f}", end=" ", flush=True)
            print(_through(pictures, folders, arguments.rounds, cores), flush=True)
        print(f"{'':5} to a new file{'':19} | in place\n{'MP':>5}", end="")
        print(f" {'write':>8} {'exiftool':>8} {'ratio':>6} {'/copy':>6}    |" * 2)
        for megapixels, pictures in sets:
            print(f"{megapixels:5.1f}", end="", flush=True)
            for place in WAYS:
                print(_writing(pictures, folders, arguments.rounds, place), end="", flush=True)
            print()


class Folders:
    """Gives each run a directory of its own; see the head of this file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._number = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[Path]:
        """Make a new directory; empty its files afterwards."""
        self._number += 1
        folder = self._root / str(self._number)
        folder.mkdir()
        yield folder
        for path in folder.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)


def _through(pictures: list[bytes], folders: Folders, rounds: int, cores: int) -> str:
    ways = []
    for _ in range(rounds):
        with folders.one() as folder, LiveServer(folder, settings=SETTINGS) as server:
            through, cost = api(pictures, server)
        with folders.one() as folder:
            calls, bare_cost = bare(pictures, folder, cores)
        ways.append((through, calls, through / calls, cost, bare_cost))
    through, calls, ratio, cost, bare_cost = (statistics.median(way) for way in zip(*ways, strict=True))
    row = f"{through:8.1f} {calls:8.1f} {ratio:9.2f} {f'{cost:.1f} : {bare_cost:.1f}':>13}"
    if not _has_exiftool():
        return f"{row} {'-':>8}"
    with folders.one() as folder:
        return f"{row} {peer(pictures[:60], folder):8.1f}"


def _writing(pictures: list[bytes], folders: Folders, rounds: int, place: str) -> str:
    ways = []
    # Once before: a file system looks for free room longer the first time.
    with folders.one() as folder:
        each(pictures, folder, _copy_anew)
    for _ in range(rounds):
        runs = []
        for way in WAYS[place]:
            with folders.one() as folder:
                runs.append(each(pictures, folder, way))
        with folders.one() as folder:
            runs.append(exiftool(pictures, folder, place) if _has_exiftool() else float("nan"))
        ours, copied, tool = runs
        ways.append((ours, tool, ours / tool, ours / copied))
    ours, tool, ratio, share = (statistics.median(way) for way in zip(*ways, strict=True))
    return f" {ours:8.1f} {tool:8.1f} {ratio:6.1f} {share:6.2f}    |"


def _has_exiftool() -> bool:
    return shutil.which("exiftool") is not None


Way = Callable[[Path, Path], Path]
"""Writes the first file anew, to the second or in place, and returns the one that it wrote."""


def each(pictures: list[bytes], folder: Path, way: Way) -> float:
    """Return pictures a second that a way of writing makes of files, one after the other."""
    sources = [_file(folder, f"each-{n}", data) for n, data in enumerate(pictures)]
    os.sync()  # nobody's clock is to pay for these
    seconds = 0.0
    for source in sources:
        target = source.with_suffix(".out")
        began = time.perf_counter()
        written = way(source, target)
        seconds += time.perf_counter() - began
        # The next one is to find memory that is in use already.
        os.truncate(written, 0)
    return len(pictures) / seconds


def _write_anew(source: Path, target: Path) -> Path:
    return _put(target, jpeg.write(mapped(source), TAGS)[0])


def _write_in_place(source: Path, target: Path) -> Path:
    return _put(target, jpeg.write(source.read_bytes(), TAGS)[0]).replace(source)


def _copy_anew(source: Path, target: Path) -> Path:
    return _put(target, [source.read_bytes()])


def _copy_in_place(source: Path, target: Path) -> Path:
    return _put(target, [source.read_bytes()]).replace(source)


def _put(target: Path, pieces: Sequence[bytes | memoryview]) -> Path:
    with target.open("xb", buffering=0) as file:
        write_pieces(file.fileno(), pieces)
    return target


WAYS = {"to a new file": (_write_anew, _copy_anew), "in place": (_write_in_place, _copy_in_place)}


def exiftool(pictures: list[bytes], folder: Path, place: str) -> float:
    """Return pictures a second that ExifTool writes."""
    tool = ExifTool()

    def anew(source: Path, target: Path) -> Path:
        tool.write(source, TAGS, target)
        return target

    def in_place(source: Path, _: Path) -> Path:
        tool.write(source, TAGS)
        return source

    try:
        tool.write(_file(folder, "warm", pictures[0]), TAGS)
        return each(pictures, folder, in_place if place == "in place" else anew)
    finally:
        tool.close()


def memory() -> None:
    """Post a hundred images of 10 MB in one body; print what it cost the server."""
    image = base64.b64encode(bytes(10 * 2**20))

    def body() -> Iterator[bytes]:
        yield b'{"images":['
        for number in range(100):
            yield b'%s{"name":"%d.jpg","base64":"' % (b"," if number else b"", number)
            yield from (image[at : at + 2**20] for at in range(0, len(image), 2**20))
            yield b'"}'
        yield b"]}"

    with tempfile.TemporaryDirectory() as folder, LiveServer(Path(folder) / "s", settings=SETTINGS) as server:
        server.client.get("/api/v1/batch")
        idle, began = _peak(server), time.perf_counter()
        headers = {"content-type": "application/json"}
        answer = httpx.post(f"{server.url}/api/v1/batch", content=body(), headers=headers, timeout=600)
        seconds = time.perf_counter() - began
        print(f"{answer.status_code} after {seconds:.1f} s ({len(image) * 100 / 1e6 / seconds:.0f} MB/s)")
        print(
            f"server: {idle:.0f} MiB idle, {_peak(server):.0f} MiB at most: {_peak(server) - idle:+.0f} MiB"
        )


def _peak(server: LiveServer) -> float:
    assert server.process is not None
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def watchers(number: int) -> None:
    """Let many WebSockets watch one job of a hundred pictures."""
    import websockets

    async def session(server: LiveServer, job: str) -> tuple[int, float]:
        opened = 0

        async def one() -> tuple[list[str], float]:
            nonlocal opened
            url = f"ws://127.0.0.1:{server.port}/api/v1/batch/{job}/ws"
            async with websockets.connect(url, proxy=None, open_timeout=60) as socket:
                opened += 1
                kinds = [json.loads(message)["type"] async for message in socket]
                return kinds, time.perf_counter()

        tasks = [asyncio.create_task(one()) for _ in range(number)]
        while opened < number:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(server.client.post, "/workloads/images/resume")
        heard = await asyncio.gather(*tasks)
        assert all(kinds.count("image_complete") == 100 for kinds, _ in heard)
        ends = [end for _, end in heard]
        return sum(len(kinds) for kinds, _ in heard), max(ends) - min(ends)

    with tempfile.TemporaryDirectory() as folder, LiveServer(Path(folder) / "s", settings=SETTINGS) as server:
        server.client.post("/workloads/images/pause").raise_for_status()
        body = _body([picture(0.02, 1)] * 100)
        job = server.client.post("/api/v1/batch", content=body, headers={"content-type": "application/json"})
        messages, spread = asyncio.run(session(server, job.json()["job_id"]))
        print(f"{number} watchers, {messages} messages; the last heard the end {spread * 1000:.0f} ms late")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=800, help="pictures of up to 1 MP; fewer of larger ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.1, 3.0, 12.0])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--watchers", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.memory:
        memory()
    elif arguments.watchers:
        watchers(arguments.watchers)
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
