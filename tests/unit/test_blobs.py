"""Blobs: the same behaviour of every store; whole or not there; keys never lead out."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from millrace.blobs import DirectoryBlobs, check_key, open_blobs, open_store
from millrace.blobs.cache import BlobCache
from millrace.blobs.objects import PART, part_size
from millrace.blobs.s3 import S3Blobs
from millrace.errors import InvalidRequest, NotFound, Unavailable
from millrace.settings import Settings


class BlobsInMemory(S3Blobs):
    """The bucket's code over obstore's own store in memory, where no S3 server is at hand."""

    def _open(self):
        return MemoryStore()


@pytest.fixture(params=["directory", "memory", "s3"])
def blobs(request, tmp_path):
    if request.param == "directory":
        return DirectoryBlobs(tmp_path / "blobs")
    if request.param == "s3":
        account = request.getfixturevalue("s3")
        section = account.settings(account.make_bucket())
        # Below a prefix, as where several servers share a bucket.
        section["location"] += "/some/prefix"
        return open_blobs(Settings(data_dir=tmp_path / "data", blobs=section))
    return BlobsInMemory("s3://bucket", cache=tmp_path / "cache", cache_bytes=10_000_000)


@pytest.fixture
def write(tmp_path):
    def write(content: bytes = b"content", name: str = "file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def content(blobs, key, **span) -> bytes:
    return b"".join(blobs.chunks(key, **span))


def keys(blobs, prefix="") -> list[str]:
    return sorted(blob.key for blob in blobs.list(prefix))


@pytest.mark.parametrize("size", [0, 7, 20_000_000])
def test_a_staged_blob_is_seen_only_once_published(blobs, write, size):
    body = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)
    assert blobs.stage(write(body), "staging/1/a") == (size, hashlib.sha256(body).hexdigest())
    with pytest.raises(NotFound):
        blobs.stat("jobs/1/a")
    blobs.publish("staging/1/a", "jobs/1/a")
    assert blobs.stat("jobs/1/a").bytes == size
    assert content(blobs, "jobs/1/a") == body
    assert keys(blobs) == ["jobs/1/a"]


def test_publishing_again_changes_nothing(blobs, write):
    blobs.stage(write(), "staging/1/a")
    blobs.publish("staging/1/a", "jobs/1/a")
    before = blobs.stat("jobs/1/a")
    blobs.publish("staging/1/a", "jobs/1/a")
    assert blobs.stat("jobs/1/a") == before


def test_publishing_what_was_never_staged_fails(blobs):
    with pytest.raises(NotFound):
        blobs.publish("staging/1/a", "jobs/1/a")


def test_many_are_staged_and_published_together(blobs, write):
    bodies = [b"one", b"two", b"", b"four"]
    staged = [f"staging/1/{n}/a" for n in range(4)]
    sizes = blobs.stage_all([(write(body, str(n)), staged[n]) for n, body in enumerate(bodies)])
    assert sizes == [(len(body), hashlib.sha256(body).hexdigest()) for body in bodies]
    moves = [(staged[n], f"jobs/1/{n}/a") for n in range(4)]
    blobs.publish_all(moves)
    blobs.publish_all(moves)
    assert [content(blobs, key) for _, key in moves] == bodies
    assert keys(blobs) == [key for _, key in moves]
    with pytest.raises(NotFound):
        blobs.publish_all([*moves, ("staging/1/9/a", "jobs/1/9/a")])
    blobs.publish_all([])
    assert blobs.stage_all([]) == []


def written(blobs, key: str, body: bytes, piece: int = 1_000_000):
    """A writer that was given all its bytes, not yet closed."""
    writer = blobs.writer(key, len(body))
    for start in range(0, len(body), piece):
        writer.write(memoryview(body)[start : start + piece])
    return writer


@pytest.mark.parametrize("size", [0, 7, 8 * 2**20, 8 * 2**20 + 1, 30_000_000])
def test_what_comes_piece_by_piece_is_there_once_committed(blobs, size):
    body = os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)
    blobs.commit_all([written(blobs, "uploads/x/0", body)])
    assert blobs.stat("uploads/x/0").bytes == size
    assert content(blobs, "uploads/x/0") == body
    assert keys(blobs) == ["uploads/x/0"]


def test_many_are_committed_together(blobs):
    writers = [written(blobs, f"uploads/x/{n}", b"%d" % n) for n in range(50)]
    for writer in writers:
        writer.close()
        writer.close()
    blobs.commit_all(writers)
    blobs.commit_all([])
    assert {key: content(blobs, key) for key in keys(blobs)} == {
        f"uploads/x/{n}": b"%d" % n for n in range(50)
    }


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("size", [0, 100, 20_000_000])
def test_what_is_given_up_leaves_nothing(blobs, size, closed):
    writer = written(blobs, "uploads/x/0", b"x" * size)
    if closed:
        writer.close()
    writer.abort()
    writer.abort()
    assert keys(blobs) == []
    with pytest.raises(NotFound):
        blobs.stat("uploads/x/0")


def test_what_was_committed_is_not_given_up(blobs):
    writer = written(blobs, "uploads/x/0", b"content")
    blobs.commit_all([writer])
    writer.abort()
    assert content(blobs, "uploads/x/0") == b"content"


def test_a_later_attempt_replaces_and_changes_the_etag(blobs, write):
    blobs.put(write(b"one"), "a/b")
    first = blobs.stat("a/b").etag
    blobs.stage(write(b"two!"), "staging/2/b")
    blobs.publish("staging/2/b", "a/b")
    assert content(blobs, "a/b") == b"two!"
    assert blobs.stat("a/b").etag != first
    assert first.startswith('"')
    assert first.endswith('"')


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({"start": 3}, b"3456789"),
        ({"start": 2, "end": 5}, b"234"),
        ({"end": 4}, b"0123"),
        ({"start": 5, "end": 5}, b""),
        ({"start": 8, "end": 99}, b"89"),
    ],
)
def test_ranges(blobs, write, span, expected):
    blobs.put(write(b"0123456789"), "a")
    assert content(blobs, "a", **span) == expected


def test_discarding_takes_what_is_below_and_nothing_beside(blobs, write):
    for key in ("jobs/1/0/a", "jobs/1/1/b", "jobs/10/0/c", "jobs/1x"):
        blobs.put(write(), key)
    blobs.discard("jobs/1")
    assert keys(blobs) == ["jobs/10/0/c", "jobs/1x"]
    blobs.discard("jobs/1x")
    blobs.discard("jobs/1")
    blobs.discard("never/was")
    assert keys(blobs) == ["jobs/10/0/c"]


def test_listing_below_a_prefix(blobs, write):
    for key in ("a/1", "a/b/2", "ab/3"):
        blobs.put(write(), key)
    assert keys(blobs, "a") == ["a/1", "a/b/2"]
    assert keys(blobs, "none") == []


def test_a_local_path_has_the_content_whatever_happens_to_the_blob_cache(blobs, write, tmp_path):
    blobs.put(write(b"abc"), "a/sound.mp3")
    for n in range(3):
        assert blobs.local_path("a/sound.mp3", tmp_path / "work" / f"{n}.mp3").read_bytes() == b"abc"
    with pytest.raises(NotFound):
        blobs.local_path("a/none", tmp_path / "work" / "none")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a\0b",
        "a\nb",
        "a\x7f",
        "x" * 256,
        "a/" * 600 + "a",
        "a\ud800",
    ],
)
def test_a_key_never_leads_out(blobs, write, key, tmp_path):
    path = write()
    for attempt in (
        lambda: check_key(key),
        lambda: blobs.stage(path, key),
        lambda: blobs.writer(key, 1),
        lambda: blobs.publish("staging/a", key),
        lambda: blobs.discard(key),
        lambda: blobs.stat(key),
        lambda: blobs.path(key),
        lambda: content(blobs, key),
        lambda: blobs.local_path(key, tmp_path / "scratch"),
    ):
        with pytest.raises(InvalidRequest):
            attempt()
    assert path.exists()


@pytest.mark.parametrize(
    "name", ["a b.mp3", "ü%41#?.srt", "日本.srt", "[1]{2}|^`\\.mp4", "..b", "x~y", "*.mp3", "%2e%2e"]
)
def test_odd_names_are_kept_as_they_are(blobs, write, name):
    blobs.put(write(b"odd"), f"jobs/{name}")
    assert content(blobs, f"jobs/{name}") == b"odd"
    assert keys(blobs, "jobs") == [f"jobs/{name}"]


def test_the_store_says_when_it_can_be_written(blobs):
    blobs.check()
    assert keys(blobs) == []


def test_many_writers_and_a_sweeper_do_not_disturb_each_other(blobs, tmp_path):
    problems = []

    def work(worker: int) -> None:
        try:
            for n in range(20):
                path = tmp_path / f"{worker}-{n}"
                path.write_bytes(b"%d" % n)
                blobs.stage(path, f"staging/{worker}-{n}/a")
                blobs.publish(f"staging/{worker}-{n}/a", f"jobs/shared/{worker}/{n}/a")
                if n % 2:
                    blobs.discard(f"jobs/shared/{worker}/{n}")
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            problems.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(keys(blobs)) == 60


def test_directory_moves_a_file_but_copies_what_others_still_hold(tmp_path, write):
    blobs = DirectoryBlobs(tmp_path / "blobs")
    own = write(b"own", "own")
    blobs.put(own, "own")
    assert not own.exists()

    media = write(b"media", "media")
    os.link(media, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(media)
    for name in ("hard", "soft"):
        blobs.put(tmp_path / name, name)
        stored = blobs.path(name)
        assert stored.read_bytes() == b"media"
        assert not stored.is_symlink()
        assert not stored.samefile(media)
    assert media.read_bytes() == b"media"


@pytest.fixture
def flushed(monkeypatch):
    """Paths in the order in which they were flushed to disk."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to see what is flushed")
    paths = []
    real = os.fsync

    def fsync(handle):
        paths.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def test_directory_flushes_content_before_it_is_staged_and_names_before_it_is_published(
    tmp_path, write, flushed
):
    blobs, root = DirectoryBlobs(tmp_path / "blobs"), str(tmp_path / "blobs")
    paths = [write(b"x", "a"), write(b"y", "b")]
    blobs.stage_all([(path, f"staging/1/0/{path.name}") for path in paths])
    assert sorted(flushed) == [str(path) for path in paths]
    flushed.clear()
    blobs.publish_all([("staging/1/0/a", "jobs/1/0/a"), ("staging/1/0/b", "jobs/1/0/b")])
    assert sorted(flushed) == [root, f"{root}/jobs", f"{root}/jobs/1", f"{root}/jobs/1/0"]


def test_directory_flushes_names_again_that_may_not_have_been(tmp_path, write, flushed):
    blobs, root = DirectoryBlobs(tmp_path / "blobs"), str(tmp_path / "blobs")
    blobs.stage(write(), "staging/1/0/a")
    blobs.publish("staging/1/0/a", "jobs/a")
    flushed.clear()
    blobs.publish("staging/1/0/a", "jobs/a")
    assert sorted(flushed) == [root, f"{root}/jobs"]


def test_directory_flushes_what_is_put_and_every_folder_above_it(tmp_path, write, flushed):
    blobs, root = DirectoryBlobs(tmp_path / "blobs"), str(tmp_path / "blobs")
    path = write()
    blobs.put(path, "uploads/x/0")
    assert flushed[0] == str(path)
    assert sorted(flushed[1:]) == [root, f"{root}/uploads", f"{root}/uploads/x"]


def test_directory_blobs_are_files_that_need_no_copy(tmp_path, write):
    blobs = DirectoryBlobs(tmp_path / "blobs")
    blobs.put(write(b"x"), "a/b")
    assert blobs.local_path("a/b", tmp_path / "scratch") == tmp_path / "blobs" / "a" / "b"
    with pytest.raises(NotFound):
        blobs.path("a")


def test_directory_leaves_no_empty_folders_but_the_one_for_what_is_staged(tmp_path, write):
    blobs = DirectoryBlobs(tmp_path / "blobs")
    blobs.stage(write(), "staging/1/a")
    blobs.publish("staging/1/a", "jobs/1/0/a")
    blobs.discard("jobs/1")
    assert [path.name for path in (tmp_path / "blobs").rglob("*")] == ["staging"]


def test_objects_are_no_files(tmp_path, write):
    blobs = BlobsInMemory("s3://bucket", cache=tmp_path / "cache", cache_bytes=100)
    blobs.put(write(b"x"), "a/b")
    assert blobs.path("a/b") is None


def test_another_process_opens_the_same_store(tmp_path, write):
    blobs = open_blobs(Settings(data_dir=tmp_path))
    blobs.put(write(b"x"), "a")
    assert content(open_store(blobs.descriptor()), "a") == b"x"


def test_a_bucket_is_described_with_its_keys(tmp_path):
    settings = Settings(
        data_dir=tmp_path,
        blobs={
            "location": "s3://b/p",
            "endpoint": "http://127.0.0.1:1",
            "access_key": "k",
            "secret_key": "s",
        },
    )
    described = open_blobs(settings).descriptor()
    assert open_store(described).descriptor() == described
    assert (described["location"], described["secret_key"]) == ("s3://b/p", "s")


def test_a_bucket_that_is_not_there_is_unavailable(tmp_path, write):
    blobs = S3Blobs("s3://b", cache=tmp_path, endpoint="http://127.0.0.1:1", access_key="k", secret_key="s")
    with pytest.raises(Unavailable):
        blobs.check()


def cached(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").iterdir() if path.name != "lock"]


def test_the_cache_drops_the_least_lately_used_and_never_what_was_handed_out(tmp_path):
    cache = BlobCache(tmp_path / "cache", 100)
    loads = []

    def get(name: str, size: int = 40):
        def load():
            loads.append(name)
            yield name.encode() * size

        return cache.copy(name, size, load, tmp_path / f"out-{name}-{len(loads)}")

    first = get("a")
    os.utime(cached(tmp_path)[0], (1, 1))
    get("b"), get("b")
    assert loads == ["a", "b"]
    get("c")
    assert len(cached(tmp_path)) == 2
    assert first.read_bytes() == b"a" * 40
    get("b"), get("a")
    assert loads == ["a", "b", "c", "a"]


def test_what_is_too_large_for_the_cache_goes_past_it(tmp_path):
    cache = BlobCache(tmp_path / "cache", 100)
    out = cache.copy("big", 60, lambda: iter([b"x" * 60]), tmp_path / "out")
    assert out.read_bytes() == b"x" * 60
    assert not (tmp_path / "cache").exists()


def test_what_is_being_fetched_counts_and_is_not_dropped(tmp_path):
    cache = BlobCache(tmp_path / "cache", 100)

    def slow():
        yield b"a" * 20
        # Two more come while this one is under way: there is room for one of them.
        for name in ("b", "c"):
            out = cache.copy(name, 50, lambda name=name: iter([name.encode() * 50]), tmp_path / name)
            assert out.read_bytes() == name.encode() * 50
            assert sum(path.stat().st_size for path in cached(tmp_path)) <= 100
        yield b"a" * 30

    out = cache.copy("a", 50, slow, tmp_path / "a")
    assert out.read_bytes() == b"a" * 50
    assert len(cached(tmp_path)) == 2


def test_what_another_drops_at_once_is_handed_out_whole(tmp_path, monkeypatch):
    cache = BlobCache(tmp_path / "cache", 100)
    replace = Path.replace

    def replaced(path, target):
        done = replace(path, target)
        if target.parent.name == "cache":
            target.unlink()
        return done

    monkeypatch.setattr(Path, "replace", replaced)
    for n in range(3):
        out = cache.copy("a", 40, lambda: iter([b"a" * 20, b"a" * 20]), tmp_path / f"{n}")
        assert out.read_bytes() == b"a" * 40


def test_a_fetch_that_breaks_off_leaves_nothing_and_is_not_cached(tmp_path):
    cache = BlobCache(tmp_path / "cache", 100)

    def broken():
        yield b"a" * 10
        raise Unavailable("the store is away")

    for size, content in ((40, broken), (40, lambda: iter([b"a" * 10])), (60, lambda: iter([b"a" * 10]))):
        with pytest.raises(Unavailable):
            cache.copy("a", size, content, tmp_path / "out")
    assert cached(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


def test_fetches_that_were_killed_give_their_room_back_after_a_day(tmp_path):
    cache = BlobCache(tmp_path / "cache", 100)
    cache.copy("a", 10, lambda: iter([b"a" * 10]), tmp_path / "a")
    left = tmp_path / "cache" / "b.123.part"
    left.write_bytes(b"b" * 90)
    cache.copy("c", 50, lambda: iter([b"c" * 50]), tmp_path / "c")
    assert left.exists()
    os.utime(left, (1, 1))
    cache.copy("c", 50, lambda: iter([b"c" * 50]), tmp_path / "c")
    assert not left.exists()


def test_many_share_a_small_cache_and_each_gets_what_it_asked_for(tmp_path):
    sizes = {f"{n}": 1000 + 400 * n for n in range(8)}
    largest, wrong = [0], []

    def fetch(worker: int) -> None:
        cache = BlobCache(tmp_path / "cache", 10_000)
        for turn in range(60):
            name = f"{(worker * 3 + turn * 5) % 8}"
            content = name.encode() * sizes[name]
            out = cache.copy(
                name, len(content), lambda content=content: iter([content]), tmp_path / f"{worker}"
            )
            if out.read_bytes() != content:
                wrong.append(name)
            total = 0
            for path in cached(tmp_path):
                with contextlib.suppress(FileNotFoundError):
                    total += path.stat().st_size
            largest[0] = max(largest[0], total)

    threads = [threading.Thread(target=fetch, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 0 < largest[0] <= 10_000 + sum(sizes.values())
    assert sum(path.stat().st_size for path in cached(tmp_path)) <= 10_000


@pytest.fixture
def bucket(s3, tmp_path):
    """A bucket's name, and the store in it."""
    name = s3.make_bucket()
    section = s3.settings(name)
    section["location"] += "/some pre/fix"
    return name, open_blobs(Settings(data_dir=tmp_path / "data", blobs=section))


@pytest.mark.parametrize("closed", [False, True])
def test_parts_of_what_is_given_up_do_not_stay_in_the_bucket(s3, bucket, closed):
    name, blobs = bucket
    writer = written(blobs, "uploads/x/0", b"x" * 30_000_000)
    if not closed:
        assert s3.unfinished(name) == ["some pre/fix/uploads/x/0"]
    else:
        writer.close()
    writer.abort()
    assert (s3.unfinished(name), s3.keys(name)) == ([], [])


KILLED = """
import json, os, signal, sys
from millrace.blobs import open_store
blobs = open_store(json.loads(sys.argv[1]))
for key in ("uploads/a b%41#?ü/0", "staging/7/0.0"):
    writer = blobs.writer(key, 30_000_000)
    for _ in range(30):
        writer.write(b"x" * 1_000_000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_parts_of_writers_that_were_killed_are_dropped_later(s3, bucket):
    name, blobs = bucket
    command = [sys.executable, "-c", KILLED, json.dumps(blobs.descriptor())]
    assert subprocess.run(command, timeout=60).returncode == -9
    assert sorted(s3.unfinished(name)) == ["some pre/fix/staging/7/0.0", "some pre/fix/uploads/a b%41#?ü/0"]
    assert blobs.drop_unfinished(time.time() - 3600) == 0
    assert len(s3.unfinished(name)) == 2
    assert blobs.drop_unfinished(time.time() + 3600) == 2
    assert blobs.drop_unfinished(time.time() + 3600) == 0
    assert s3.unfinished(name) == []


def test_what_others_have_in_the_bucket_is_left_alone(s3, bucket, tmp_path):
    name, blobs = bucket
    other = open_blobs(Settings(data_dir=tmp_path / "other", blobs=s3.settings(name)))
    writer = written(other, "some pre/fixed/uploads/0", b"x" * 30_000_000)
    assert blobs.drop_unfinished(time.time() + 3600) == 0
    assert len(s3.unfinished(name)) == 1
    writer.abort()


def test_what_is_too_large_to_be_copied_at_once_is_published_in_parts(bucket, write, monkeypatch, s3):
    name, blobs = bucket
    monkeypatch.setattr("millrace.blobs.s3._LARGEST_COPY", 1_000_000)
    body = os.urandom(20_000_001)
    blobs.stage(write(body), "staging/1/a")
    blobs.publish("staging/1/a", "jobs/1/a")
    assert content(blobs, "jobs/1/a") == body
    assert keys(blobs) == ["jobs/1/a"]
    assert s3.unfinished(name) == []


def test_an_object_may_have_more_parts_than_the_usual_size_would_allow():
    assert part_size(1) == PART
    assert 10_000 * part_size(5 * 10**12) >= 5 * 10**12


def test_a_store_that_goes_away_fails_the_writer_that_writes_on(tmp_path):
    blobs = S3Blobs("s3://b", cache=tmp_path, endpoint="http://127.0.0.1:1", access_key="k", secret_key="s")
    writer = blobs.writer("uploads/x/0", 10**9)

    def write_on() -> None:
        for _ in range(1000):
            writer.write(b"x" * 1_000_000)

    with pytest.raises(Unavailable):
        write_on()
    writer.abort()
    small = blobs.writer("uploads/x/1", 10)
    small.write(b"x")
    small.close()
    with pytest.raises(Unavailable):
        blobs.commit_all([small])
