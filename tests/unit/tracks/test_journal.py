"""A crash at any point, of the process or of the power, leaves the old file or the new one."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from millrace.errors import BadInput, StageError
from millrace.workloads.tracks import matroska, matroska_edit
from millrace.workloads.tracks.journal import Disk, Journal
from millrace.workloads.tracks.model import Write, apply_to
from millrace.workloads.tracks.reader import Reader
from tests.track_files import Audio
from tests.track_files import matroska as build


class Crash(BaseException):
    """The process ends here: nothing of it may run any more."""


@dataclass
class CrashingDisk(Disk):
    """Stops for good after so many bytes, in the middle of a write."""

    budget: int

    def write(self, fd, data, offset):
        part = data[: self.budget]
        self.budget -= len(part)
        super().write(fd, part, offset)
        if len(part) < len(data) or self.budget == 0:
            raise Crash

    def truncate(self, fd, size):
        raise AssertionError("a dead process undoes nothing")


def name_of(fd):
    return str(Path(f"/proc/self/fd/{fd}").readlink())


@dataclass
class RecordingDisk(Disk):
    """Remembers what was written to which file, and when it was synced."""

    log: list[tuple[str, int, bytes] | str] = field(default_factory=list)

    def write(self, fd, data, offset):
        self.log.append((name_of(fd), offset, bytes(data)))
        super().write(fd, data, offset)

    def sync(self, fd):
        self.log.append(name_of(fd))
        super().sync(fd)


def die(journal):
    """What the kernel does for a process that ends: its descriptors close, its locks go."""
    if journal._fd is not None:
        os.close(journal._fd)


def apply(journal, path, writes, **options):
    fd = os.open(path, os.O_RDWR)
    try:
        journal.apply(fd, path, writes, **{"keep_mtime": True, **options})
    finally:
        os.close(fd)


def record_length(path, writes, tmp_path):
    """How many bytes the journal takes before the first byte of the file is written."""
    disk = RecordingDisk()
    journal = Journal(tmp_path / "measured", disk)
    before = path.read_bytes()
    apply(journal, path, writes)
    journal.close()
    path.write_bytes(before)
    return len(disk.log[0][2])


@pytest.fixture
def patch(tmp_path):
    """A file, its bytes, and a patch of several writes in it (Tracks moved, SeekHead, checksums)."""
    path = tmp_path / "a.mkv"
    path.write_bytes(build([Audio("eng"), Audio("jpn")], void_before=3000, crc=True, clusters=1))
    with path.open("rb") as file:
        reader = Reader(file.fileno())
        writes = matroska_edit.plan(reader, matroska.probe(reader), 1)
    assert len(writes) >= 3
    return path, path.read_bytes(), writes


def test_a_crash_of_the_process_at_every_byte(patch, tmp_path):
    path, old, writes = patch
    new = apply_to(old, writes)
    record = record_length(path, writes, tmp_path)
    everything = record + sum(len(write.new) for write in writes)
    seen = set()
    # Every byte of the file's own writes; of the journal's, which are protected by a checksum, each 97th.
    for budget in [*range(1, record, 97), *range(record - 2, everything + 4)]:
        path.write_bytes(old)
        journal = Journal(tmp_path / "journal", CrashingDisk(budget))
        with pytest.raises(Crash):
            apply(journal, path, writes)
        die(journal)
        Journal(tmp_path / "journal").recover()
        assert path.read_bytes() == (old if budget < record else new), f"after {budget} bytes"
        seen.add(path.read_bytes())
        assert list((tmp_path / "journal").iterdir()) == []
    assert seen == {old, new}


def test_a_power_cut_that_loses_any_unsynced_writes(patch, tmp_path):
    path, old, writes = patch
    disk = RecordingDisk()
    journal = Journal(tmp_path / "journal", disk)
    apply(journal, path, writes)
    die(journal)
    new = path.read_bytes()
    (journal_path,) = (tmp_path / "journal").iterdir()
    seen = set()
    for crash in range(len(disk.log) + 1):
        for surviving in survivors(disk.log[:crash]):
            images = {str(path): bytearray(old), str(journal_path): bytearray(64 * 1024)}
            for name, offset, data in surviving:
                images[name][offset : offset + len(data)] = data
            for name, image in images.items():
                Path(name).write_bytes(image)
            Journal(tmp_path / "journal").recover()
            assert path.read_bytes() in (old, new), f"after {crash} of {len(disk.log)} steps"
            seen.add(path.read_bytes())
    assert seen == {old, new}


def survivors(log):
    """Yield each way in which the unsynced writes of a log may have reached the disk or not, or half."""
    safe, loose = [], []
    for entry in log:
        if isinstance(entry, str):
            safe += [write for write in loose if write[0] == entry]
            loose = [write for write in loose if write[0] != entry]
        else:
            loose.append(entry)
    for kept in itertools.product((0, 0.5, 1), repeat=len(loose)):
        torn = [
            (name, offset, data[: int(len(data) * part)])
            for (name, offset, data), part in zip(loose, kept, strict=True)
        ]
        yield [*safe, *torn]


def test_recovery_does_no_harm_twice(patch, tmp_path):
    path, old, writes = patch
    new = apply_to(old, writes)
    more = [*writes, Write(len(old) - 600, old[-600:], bytes(600))]
    journal = Journal(tmp_path / "journal", CrashingDisk(record_length(path, more, tmp_path) + 20))
    with pytest.raises(Crash):
        apply(journal, path, more)
    die(journal)
    second = Journal(tmp_path / "journal")
    assert second.recover() == 1
    assert second.recover() == 0
    assert path.read_bytes() == new[:-600] + bytes(600)


def test_a_living_process_is_left_alone(patch, tmp_path):
    path, _, writes = patch
    journal = Journal(tmp_path / "journal", CrashingDisk(record_length(path, writes, tmp_path) + 20))
    with pytest.raises(Crash):
        apply(journal, path, writes)
    between = path.read_bytes()
    assert Journal(tmp_path / "journal").recover() == 0
    assert path.read_bytes() == between
    die(journal)
    assert Journal(tmp_path / "journal").recover() == 1


def test_a_dying_process_is_waited_for_by_whoever_has_the_file(patch, tmp_path):
    path, old, writes = patch
    journal = Journal(tmp_path / "journal", CrashingDisk(record_length(path, writes, tmp_path) + 20))
    with pytest.raises(Crash):
        apply(journal, path, writes)
    threading.Timer(0.2, die, [journal]).start()
    other = tmp_path / "other"
    other.write_bytes(b"x")
    second = Journal(tmp_path / "journal")
    with other.open("rb") as unrelated, path.open("rb") as locked:
        assert second.recover(unrelated.fileno()) == 0
        assert second.recover(locked.fileno()) == 1
    assert path.read_bytes() == apply_to(old, writes)


def test_an_interrupted_patch_is_finished_before_the_next_one(patch, tmp_path):
    path, old, writes = patch
    disk = CrashingDisk(record_length(path, writes, tmp_path) + 20)
    journal = Journal(tmp_path / "journal", disk)
    with pytest.raises(Crash):
        apply(journal, path, writes)
    disk.budget = 10**9
    other = tmp_path / "other.bin"
    other.write_bytes(b"old")
    apply(journal, other, [Write(0, b"old", b"new")])
    assert (path.read_bytes(), other.read_bytes()) == (apply_to(old, writes), b"new")


def test_a_file_that_others_changed_after_the_crash_is_left_as_it_is(patch, tmp_path, caplog):
    path, _, writes = patch
    journal = Journal(tmp_path / "journal", CrashingDisk(record_length(path, writes, tmp_path) + 20))
    with pytest.raises(Crash):
        apply(journal, path, writes)
    die(journal)
    changed = bytearray(path.read_bytes())
    changed[writes[0].offset] ^= 0x55
    path.write_bytes(changed)
    assert Journal(tmp_path / "journal").recover() == 0
    assert path.read_bytes() == bytes(changed)
    assert "changed by others" in caplog.text
    assert [entry.suffix for entry in (tmp_path / "journal").iterdir()] == [".unresolved"]


def test_bytes_that_are_not_the_expected_ones_are_not_overwritten(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    journal = Journal(tmp_path / "journal")
    with pytest.raises(BadInput, match="changed while it was being worked on"):
        apply(journal, path, [Write(2, b"XX", b"YY")])
    assert path.read_bytes() == b"abcdef"


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_write_that_fails_is_undone(tmp_path, failing):
    class FailingDisk(Disk):
        calls = 0

        def write(self, fd, data, offset):
            self.calls += 1
            if self.calls == failing + 1:
                super().write(fd, data[:1], offset)
                raise OSError(28, "No space left on device")
            super().write(fd, data, offset)

    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    os.utime(path, ns=(1, 1_000_000_000))
    journal = Journal(tmp_path / "journal", FailingDisk())
    writes = [Write(0, b"ab", b"AB"), Write(3, b"d", b"D"), Write(6, b"", b"appended")]
    with pytest.raises(StageError, match="was undone"):
        apply(journal, path, writes)
    assert path.read_bytes() == b"abcdef"
    assert path.stat().st_mtime_ns == 1_000_000_000
    journal.close()
    assert Journal(tmp_path / "journal").recover() == 0


def test_the_modification_time_is_kept_or_not(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abcdef")
    os.utime(path, ns=(5, 123_456_789))
    journal = Journal(tmp_path / "journal")
    apply(journal, path, [Write(0, b"a", b"A")])
    assert path.stat().st_mtime_ns == 123_456_789
    apply(journal, path, [Write(0, b"A", b"a")], keep_mtime=False)
    assert path.stat().st_mtime > time.time() - 60
    journal.close()


FLIPPER = """
import sys
from pathlib import Path
from millrace.workloads.tracks.choice import Wish
from millrace.workloads.tracks.journal import Journal
from millrace.workloads.tracks.repair import Care, repair
path, directory = Path(sys.argv[1]), Path(sys.argv[2])
journal = Journal(directory)
journal.recover()
print("ready", flush=True)
while True:
    for language in ("jpn", "eng"):
        repair(path, [Wish(language, "test")], Care(quiet=0), journal, lambda: path.parent)
"""


def test_a_process_killed_again_and_again(patch, tmp_path):
    path, old, writes = patch
    new = apply_to(old, writes)
    directory = tmp_path / "journal"
    states = set()
    chance = random.Random(7)
    for _ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", FLIPPER, str(path), str(directory)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.005, 0.05))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        Journal(directory).recover()
        with path.open("rb") as file:
            found = matroska.probe(Reader(file.fileno()))
        states.add(tuple(track.default for track in found.audio))
        after = path.read_bytes()
        assert len(after) == len(old)
        assert after[-700:] == old[-700:]
    assert states <= {(True, True), (False, True), (True, False)}
    assert len(states) >= 1
    assert new != old
