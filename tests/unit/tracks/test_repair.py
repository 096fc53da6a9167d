"""One file from end to end: what must not change, what is refused, and what is waited for."""

import fcntl
import os
import shutil
import stat
import subprocess
import threading
import time
from pathlib import Path

import av
import pytest

from millrace.errors import BadInput, StageError, Transient
from millrace.workloads.tracks import propedit
from millrace.workloads.tracks.repair import Care, inspect
from tests.track_files import Audio, matroska, mp4, write
from tests.unit.tracks.oracles import (
    ffprobe_defaults,
    mkv_defaults,
    needs_ffmpeg,
    needs_mkvtoolnix,
    unchanged_facts,
)

ENG_JPN = [Audio("eng", default=True), Audio("jpn", default=False)]
NO_ROOM = matroska([Audio("eng"), Audio("jpn")])


def defaults(path):
    with path.open("rb") as file:
        return [track.default for track in inspect(file.fileno(), path)[1].audio]


@pytest.fixture(params=["mkv", "mp4"])
def sample(request, tmp_path):
    data = matroska(ENG_JPN) if request.param == "mkv" else mp4(ENG_JPN)
    return write(tmp_path / f"a.{request.param}", data)


def test_owner_mode_times_links_and_attributes_stay(sample, tmp_path, fix):
    sample.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(sample, 1234, 2345)
    os.utime(sample, ns=(1_000_000_000, 2_345_678_901))
    twin = tmp_path / "twin"
    twin.hardlink_to(sample)
    try:
        os.setxattr(sample, "user.note", b"kept")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    before = sample.stat()
    assert fix(sample).status == "success"
    after = sample.stat()
    for name in ("st_ino", "st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_nlink"):
        assert getattr(after, name) == getattr(before, name), name
    assert os.getxattr(sample, "user.note") == b"kept"
    assert twin.read_bytes() == sample.read_bytes()


def test_the_modification_time_may_change_when_wished(sample, fix):
    os.utime(sample, (1000, 1000))
    fix(sample, care=Care(quiet=0, keep_mtime=False))
    assert sample.stat().st_mtime > 1_000_000


def test_a_dry_run_changes_nothing(sample, fix):
    before = sample.read_bytes()
    outcome = fix(sample, dry_run=True)
    assert outcome.status == "dry_run"
    assert outcome.message.startswith("Would set default audio track to 'jpn'")
    assert sample.read_bytes() == before


def test_twice_is_once(sample, fix):
    assert fix(sample).status == "success"
    first = sample.read_bytes()
    second = fix(sample)
    assert (second.status, second.reason) == ("skipped", "already_correct")
    assert sample.read_bytes() == first


@needs_mkvtoolnix
@needs_ffmpeg
def test_without_room_mkvpropedit_plans_and_the_journal_writes(tmp_path, fix):
    path = write(tmp_path / "a.mkv", NO_ROOM)
    twin = tmp_path / "twin"
    twin.hardlink_to(path)
    os.utime(path, (1000, 1000))
    inode, facts = path.stat().st_ino, unchanged_facts(path)
    outcome = fix(path)
    assert (outcome.status, outcome.how) == ("success", "mkvpropedit")
    assert mkv_defaults(path) == ffprobe_defaults(path) == [False, True]
    after = unchanged_facts(path)
    for theirs in (after["mkvmerge"], facts["mkvmerge"]):
        theirs["container"]["properties"].pop("date_utc", None)
    assert after == facts
    assert (path.stat().st_ino, path.stat().st_mtime) == (inode, 1000)
    assert twin.read_bytes() == path.read_bytes()


def checksums(path):
    """The packets alone: FFmpeg's own muxer may say other things of a stream in its header."""
    return [line for line in unchanged_facts(path)["packets"].splitlines() if not line.startswith("#")]


@needs_ffmpeg
@needs_mkvtoolnix
def test_without_mkvpropedit_the_file_is_rewritten_beside_and_swapped(tmp_path, fix, monkeypatch):
    path = write(tmp_path / os.fsdecode(b"caf\xe9.mkv"), NO_ROOM)
    plain = write(tmp_path / "plain.mkv", NO_ROOM)
    packets = checksums(plain)
    path.chmod(0o604)
    os.utime(path, (1000, 1000))
    os.setxattr(path, "user.note", b"kept")
    monkeypatch.setattr(propedit, "installed", lambda: None)
    steps = []
    outcome = fix(path, progress=steps.append)
    assert (outcome.status, outcome.how) == ("success", "rewritten")
    shutil.copyfile(path, plain)
    assert mkv_defaults(plain) == [False, True]
    assert checksums(plain) == packets
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert path.stat().st_mtime == 1000
    assert os.getxattr(path, "user.note") == b"kept"
    assert steps
    assert not list(tmp_path.glob(".millrace-*"))


def test_what_an_interrupted_rewrite_left_is_swept_away(tmp_path, fix, monkeypatch):
    path = write(tmp_path / "a.mkv", NO_ROOM)
    left = write(tmp_path / ".millrace-0123456789abcdef.part", b"half a file")
    living = write(tmp_path / ".millrace-fedcba9876543210.part", b"of another process")
    monkeypatch.setattr(propedit, "installed", lambda: None)
    with living.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert fix(path).how == "rewritten"
    assert not left.exists()
    assert living.exists()


def test_a_rewrite_that_would_part_hard_links_is_refused(tmp_path, fix, monkeypatch):
    path = write(tmp_path / "a.mkv", NO_ROOM)
    (tmp_path / "twin").hardlink_to(path)
    monkeypatch.setattr(propedit, "installed", lambda: None)
    with pytest.raises(BadInput, match="2 hard links") as refusal:
        fix(path)
    assert refusal.value.code == "hard_links"
    assert path.read_bytes() == NO_ROOM


@needs_mkvtoolnix
def test_a_rewrite_that_would_flatten_editions_is_refused(tmp_path, fix, monkeypatch):
    atom = b"\xb6\x8a" + b"\x73\xc4\x81\x01" + b"\x91\x81\x00" + b"\x98\x81\x00"
    edition = b"\x45\xb9" + bytes([0x80 + len(atom)]) + atom
    chapters = b"\x10\x43\xa7\x70" + bytes([0x80 + 2 * len(edition)]) + edition * 2
    path = write(tmp_path / "a.mkv", matroska([Audio("eng"), Audio("jpn")], chapters=chapters))
    monkeypatch.setattr(propedit, "installed", lambda: None)
    with pytest.raises(BadInput, match="2 chapter edition"):
        fix(path)


def test_a_rewrite_can_be_forbidden(tmp_path, fix, monkeypatch):
    path = write(tmp_path / "a.mkv", NO_ROOM)
    monkeypatch.setattr(propedit, "installed", lambda: None)
    with pytest.raises(BadInput, match="no room in its header") as refusal:
        fix(path, care=Care(quiet=0, rewrite=False))
    assert refusal.value.code == "no_room"


HOLE = 5 * 1024**3


def with_hole(path):
    """Turn a small Matroska file into one of 5 GB: a Void behind its Clusters that is a hole on disk."""
    data = bytearray(path.read_bytes())
    size_at = data.index(b"\x18\x53\x80\x67") + 4
    data += b"\xec\x01" + HOLE.to_bytes(7, "big")
    data[size_at : size_at + 8] = b"\x01" + (len(data) - size_at - 8 + HOLE).to_bytes(7, "big")
    path.write_bytes(data)
    os.truncate(path, len(data) + HOLE)
    return path


@needs_ffmpeg
def test_matroska_over_4_gigabytes(tmp_path, fix):
    path = with_hole(write(tmp_path / "big.mkv", matroska([Audio("eng"), Audio("jpn")], void_after=100)))
    blocks = path.stat().st_blocks
    assert fix(path).how == "in_place"
    assert path.stat().st_size > HOLE
    assert path.stat().st_blocks <= blocks + 16, "it stays sparse"
    assert defaults(path) == [False, True]
    # ffprobe would read through the hole: it gets the file without it.
    os.truncate(path, path.stat().st_size - HOLE)
    assert ffprobe_defaults(path) == [False, True]


@needs_mkvtoolnix
def test_mkvpropedit_works_on_a_stand_in_of_some_kilobytes(tmp_path, fix):
    path = write(tmp_path / "big.mkv", matroska([Audio("eng"), Audio("jpn")], clusters=1))
    data = bytearray(path.read_bytes())
    cluster = data.rindex(b"\x1f\x43\xb6\x75")
    body = bytes(data[cluster + 6 :])
    size_at = data.index(b"\x18\x53\x80\x67") + 4
    data[cluster:] = b"\x1f\x43\xb6\x75\x01" + (len(body) + 9 + HOLE).to_bytes(7, "big") + body
    data += b"\xec\x01" + HOLE.to_bytes(7, "big")
    data[size_at : size_at + 8] = b"\x01" + (len(data) - size_at - 8 + HOLE).to_bytes(7, "big")
    path.write_bytes(data)
    os.truncate(path, len(data) + HOLE)
    assert fix(path).how == "mkvpropedit"
    assert defaults(path) == [False, True]
    assert path.stat().st_blocks * 512 < 1_000_000


@needs_ffmpeg
def test_mp4_over_4_gigabytes(tmp_path, fix):
    whole = mp4([Audio("eng"), Audio("jpn", default=False)], moov_last=True, wide=True)
    at = whole.index(b"mdat") + 12
    moov = whole.index(b"moov") - 4
    size = int.from_bytes(whole[at - 8 : at], "big")
    path = tmp_path / "big.mp4"
    with path.open("wb") as file:
        file.write(whole[: at - 8] + (size + HOLE).to_bytes(8, "big") + whole[at:moov])
        file.seek(HOLE, os.SEEK_CUR)
        file.write(whole[moov:])
    assert path.stat().st_size > HOLE
    assert fix(path).status == "success"
    assert path.stat().st_blocks * 512 < 1_000_000
    assert ffprobe_defaults(path) == [False, True]


class TestRefusals:
    """Each a clear failure with a code, and the file untouched."""

    def refused(self, fix, path, code, error=BadInput, **options):
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(error) as refusal:
            fix(path, **options)
        assert refusal.value.code == code
        assert str(path.name) in refusal.value.message
        if before is not None:
            assert path.read_bytes() == before
        return refusal.value

    def test_a_file_without_write_permission(self, sample, fix):
        sample.chmod(0o444)
        assert "read-only (mode 444)" in self.refused(fix, sample, "read_only").message

    def test_an_immutable_file(self, sample, fix):
        if subprocess.run(["chattr", "+i", sample], capture_output=True, check=False).returncode:
            pytest.skip("this file system or user cannot make files immutable")
        try:
            self.refused(fix, sample, "read_only")
        finally:
            subprocess.run(["chattr", "-i", sample], check=True)

    def test_a_missing_file(self, tmp_path, fix):
        self.refused(fix, tmp_path / "gone.mkv", "not_found")

    def test_a_fifo_does_not_block(self, tmp_path, fix):
        os.mkfifo(tmp_path / "pipe.mkv")
        self.refused(fix, tmp_path / "pipe.mkv", "not_a_file")

    def test_a_folder(self, tmp_path, fix):
        (tmp_path / "folder.mkv").mkdir()
        self.refused(fix, tmp_path / "folder.mkv", "not_a_file")

    def test_a_link_out_of_the_roots(self, sample, tmp_path, fix):
        root = tmp_path / "root"
        root.mkdir()
        (root / "link.mkv").symlink_to(sample)
        error = self.refused(fix, root / "link.mkv", "outside_roots", care=Care(roots=(root,), quiet=0))
        assert "a link to" in error.message

    def test_a_link_inside_the_roots_changes_what_it_points_at(self, sample, tmp_path, fix):
        (tmp_path / "link").symlink_to(sample)
        assert fix(tmp_path / "link", care=Care(roots=(tmp_path,), quiet=0)).status == "success"
        assert (tmp_path / "link").is_symlink()
        assert defaults(sample) == [False, True]

    def test_an_empty_file_and_one_that_is_no_media(self, tmp_path, fix):
        self.refused(fix, write(tmp_path / "empty.mkv", b""), "unreadable")
        self.refused(fix, write(tmp_path / "text.mkv", b"just words\n" * 100), "unreadable")

    def test_a_locked_file(self, sample, fix):
        with sample.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            assert self.refused(fix, sample, "busy", Transient).retryable

    def test_a_file_that_keeps_growing(self, tmp_path, fix):
        path = write(tmp_path / "a.mkv", matroska(ENG_JPN, open_segment=True, open_clusters=True))
        stop = threading.Event()

        def grow():
            with path.open("ab", buffering=0) as file:
                while not stop.wait(0.05):
                    file.write(b"\xec\x81\x00")

        writer = threading.Thread(target=grow)
        writer.start()
        try:
            time.sleep(0.1)
            with pytest.raises(Transient, match="still being written, it grew"):
                fix(path, care=Care(quiet=0.5))
        finally:
            stop.set()
            writer.join()
        assert fix(path, care=Care(quiet=0.5)).status == "success"


def test_a_file_whose_writer_has_just_finished_is_done_at_once(sample, fix):
    started = time.monotonic()
    assert fix(sample, care=Care(quiet=30)).status == "success"
    assert time.monotonic() - started < 20, "nobody has it open, so nothing is waited for"


def test_a_file_still_open_for_writing_is_waited_for(sample, fix):
    writer = sample.open("r+b")
    threading.Timer(0.3, writer.close).start()
    assert fix(sample, care=Care(quiet=20)).status == "success"
    assert writer.closed


def test_other_containers_are_explained_and_left_alone(tmp_path, fix):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.rate = 8000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    outcome = fix(path)
    assert (outcome.status, outcome.reason) == ("skipped", "unsupported_container")
    assert "AVI" in outcome.message


def test_a_file_without_audio_is_skipped(tmp_path, fix):
    assert fix(write(tmp_path / "a.mkv", matroska([]))).reason == "no_audio_tracks"


def test_two_processes_on_one_file_take_turns(sample, fix, tmp_path):
    results = []
    threads = [threading.Thread(target=lambda: results.append(fix(sample).status)) for _ in range(2)]
    Path(tmp_path / "journal").mkdir(exist_ok=True)
    for thread in threads:
        thread.start()
        thread.join()
    assert sorted(results) == ["skipped", "success"]


def test_damaged_headers_fail_with_a_reason(tmp_path, fix):
    with pytest.raises(StageError) as refusal:
        fix(write(tmp_path / "a.mkv", matroska(ENG_JPN)[:130]))
    assert refusal.value.code == "damaged"
