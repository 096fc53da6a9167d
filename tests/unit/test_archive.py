"""ZIP archives written as they are sent."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from millrace.server.archive import Entry, SizeChanged, length, write


def entry(name: str, *blocks: bytes, size: int | None = None, modified: float = 1_768_471_200.0) -> Entry:
    return Entry(name, sum(map(len, blocks)) if size is None else size, modified, lambda: iter(blocks))


def test_what_goes_in_comes_out() -> None:
    entries = [
        entry("a.srt", b"one ", b"two"),
        entry("0 Überfall 映画/leer.txt"),
        entry("b.bin", bytes(70_000)),
    ]
    data = b"".join(write(entries))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [e.name for e in entries]
        assert archive.read("a.srt") == b"one two"
        assert archive.read("b.bin") == bytes(70_000)
        info = archive.getinfo("a.srt")
        assert info.compress_type == zipfile.ZIP_STORED
        assert info.date_time == (2026, 1, 15, 10, 0, 0)


@pytest.mark.parametrize("entries", [[], [entry("ä", b"x")], [entry("a", b"1"), entry("b/c", b"", b"22")]])
def test_its_length_is_known_before(entries: list[Entry]) -> None:
    assert length(entries) == len(b"".join(write(entries)))


def test_more_files_than_the_old_format_can_count() -> None:
    entries = [entry(f"{n}", b"") for n in range(66_000)]
    data = b"".join(write(entries))
    assert length(entries) == len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.namelist()) == 66_000


def test_sizes_and_places_beyond_four_gigabytes(tmp_path: Path) -> None:
    """Only the directory is looked at: the content is written as a hole."""
    block = bytes(64 * 1024 * 1024)
    blocks = 65  # 4.06 GiB
    entries = [
        Entry("large", len(block) * blocks, 0.0, lambda: (block for _ in range(blocks))),
        entry("behind", b"it"),
    ]
    place = tmp_path / "large.zip"
    with place.open("wb") as file:
        for piece in write(entries):
            if piece is block:
                file.seek(len(piece), io.SEEK_CUR)
            else:
                file.write(piece)
    assert place.stat().st_size == length(entries)
    with zipfile.ZipFile(place) as archive:
        assert archive.getinfo("large").file_size == len(block) * blocks
        assert archive.getinfo("behind").header_offset > 2**32
        assert archive.read("behind") == b"it"
        assert archive.getinfo("large").date_time[0] == 1980


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs unzip")
def test_other_programs_read_it(tmp_path: Path) -> None:
    place = tmp_path / "a.zip"
    place.write_bytes(b"".join(write([entry("a/b.txt", b"hello"), entry("ü.txt", b"welt")])))
    subprocess.run(["unzip", "-tq", place], check=True, capture_output=True)


@pytest.mark.parametrize("size", [2, 4])
def test_a_file_that_changed_meanwhile_breaks_it_off(size: int) -> None:
    with pytest.raises(SizeChanged):
        list(write([entry("a", b"123", size=size)]))
