"""Which sound of a file is compared, when it starts, and what is no sound at all."""

import json
import os
import subprocess
import sys
import threading
import time

import av
import numpy as np
import pytest

from millrace.errors import BadInput
from millrace.workloads.sync.decoding import prepared
from millrace.workloads.sync.recording import RecordingCache, Source, extract, open_recording
from tests.unit.media.media_files import write_media
from tests.unit.sync.sounds import RATE, bed, compared, later, recorded, write

WIDE = 48000


@pytest.fixture(scope="module")
def sound():
    return bed(20, 5, WIDE)


@pytest.fixture(scope="module")
def master(sound, tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("master"), "master", sound, WIDE)


def taken(tmp_path, path, **choice):
    home = tmp_path / "recording"
    home.mkdir()
    return extract(Source(path, **choice), home)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("dub.mkv", "flac"),
        ("dub.mov", "pcm_s16le"),
        ("dub.mp4", "aac"),
        ("dub.ogg", "libopus"),
        ("dub.mp3", "libmp3lame"),
    ],
)
def test_containers_keep_time_to_a_millisecond(master, sound, tmp_path, name, codec):
    path = write_media(tmp_path / name, later(sound, 1.5, WIDE), codec=codec)
    assert compared(master, taken(tmp_path, path)).chosen.offset == pytest.approx(-1.5, abs=1e-3)


def test_mxf_with_several_mono_streams_is_read(master, sound, tmp_path):
    path = tmp_path / "dub.mxf"
    with av.open(str(path), "w") as container:
        film = container.add_stream("mpeg2video", rate=25)
        film.width, film.height, film.pix_fmt = 64, 64, "yuv420p"
        streams = [container.add_stream("pcm_s16le", rate=WIDE, layout="mono") for _ in range(2)]
        for number in range(20 * 25):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            picture.pts = number
            container.mux(film.encode(picture))
            part = (later(sound, 1.5, WIDE)[number * 1920 : (number + 1) * 1920] * 32767).astype("<i2")
            for stream, data in zip(streams, (part * 0, part), strict=True):
                frame = av.AudioFrame.from_ndarray(data[None, :], format="s16", layout="mono")
                frame.sample_rate, frame.pts = WIDE, number * 1920
                container.mux(stream.encode(frame))
        for stream in (film, *streams):
            container.mux(stream.encode(None))
    dub = taken(tmp_path, path)
    assert (dub.facts.stream, dub.facts.streams) == (1, 2)
    assert compared(master, dub).chosen.offset == pytest.approx(-1.5, abs=1e-3)


def test_a_stream_that_starts_late_is_late(master, sound, tmp_path):
    path = write_media(tmp_path / "dub.mkv", sound, codec="flac", start=1.436, video=2.0)
    assert compared(master, taken(tmp_path, path)).chosen.offset == pytest.approx(-1.436, abs=2e-3)


def test_a_broadcast_wav_with_its_chunk_is_read(master, sound, tmp_path):
    path = write(tmp_path / "dub.wav", sound, WIDE)
    raw = path.read_bytes()
    bext = b"bext" + (602).to_bytes(4, "little") + bytes(602)
    size = (len(raw) + len(bext) - 8).to_bytes(4, "little")
    path.write_bytes(raw[:4] + size + raw[8:12] + bext + raw[12:])
    assert compared(master, taken(tmp_path, path)).status == "in_sync"


def test_a_silent_first_stream_is_passed_over(master, sound, tmp_path):
    path = write_media(tmp_path / "dub.mkv", [np.zeros_like(sound), later(sound, 2.0, WIDE)], codec="flac")
    dub = taken(tmp_path, path)
    assert dub.facts.stream == 1
    assert compared(master, dub).chosen.offset == pytest.approx(-2, abs=1e-3)


def test_a_stream_can_be_chosen(master, sound, tmp_path):
    path = write_media(tmp_path / "dub.mkv", [bed(20, 9, WIDE), later(sound, 2.0, WIDE)], codec="flac")
    assert compared(master, taken(tmp_path, path, stream=1)).chosen.offset == pytest.approx(-2, abs=1e-3)


def test_mono_streams_that_belong_together_can_be_mixed(master, sound, tmp_path):
    noise = 0.05 * np.random.default_rng(1).standard_normal(len(sound)).astype(np.float32)
    path = write_media(tmp_path / "dub.mkv", [noise, later(sound, 2.0, WIDE)], codec="flac")
    dub = taken(tmp_path, path, mix=True)
    assert dub.facts.samples == 22 * RATE
    assert compared(master, dub).chosen.offset == pytest.approx(-2, abs=1e-3)


def test_a_channel_can_be_chosen(master, sound, tmp_path):
    both = np.stack([bed(20, 9, WIDE), sound], axis=1)
    dub = taken(tmp_path, write(tmp_path / "dub.wav", both, WIDE), channel=1)
    assert compared(master, dub).status == "in_sync"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (np.zeros(5 * RATE, np.float32), "silent"),
        (bed(0.6, 1), "too_short"),
    ],
)
def test_what_cannot_be_compared_says_why(tmp_path, content, code):
    with pytest.raises(BadInput, match=r"dub\.wav is ") as error:
        taken(tmp_path, write(tmp_path / "dub.wav", content))
    assert error.value.code == code


def test_a_stream_or_channel_that_is_not_there_is_refused(tmp_path):
    path = write(tmp_path / "dub.wav", bed(2, 1))
    with pytest.raises(BadInput, match="no audio stream 3"):
        taken(tmp_path, path, stream=3)
    with pytest.raises(BadInput, match="no channel 2"):
        extract(Source(path, channel=2), tmp_path / "recording")


def test_reading_outside_a_recording_gives_silence(master):
    assert not master.sound(-100, 50).any()
    assert not master.sound(master.facts.samples + 5, 50).any()
    around = master.sound(-50, 100)
    assert not around[:50].any()
    assert len(around) == 100
    assert master.excerpt("mfcc", -20, 60).shape == (13, 60)


def test_a_master_is_decoded_once_however_many_want_it(tmp_path):
    cache = RecordingCache(tmp_path / "cache", 1 << 30)
    source = Source(write(tmp_path / "master.wav", bed(5, 1)))
    made = []

    def make(source, folder):
        made.append(folder)
        time.sleep(0.2)
        extract(source, folder)

    def use():
        with cache.use(source, make) as recording:
            assert recording.seconds == 5.0

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    os.utime(source.path, (1, 1))
    use()
    assert len(made) == 2


def test_what_fails_is_not_kept(tmp_path):
    cache = RecordingCache(tmp_path / "cache", 1 << 30)
    source = Source(write(tmp_path / "dub.wav", np.zeros(RATE * 2, np.float32)))
    for _ in range(2):
        with (
            pytest.raises(BadInput, match=r"dub: .* silent"),
            prepared(cache, Source(write(tmp_path / "m.wav", bed(2, 1))), source),
        ):
            pass
    assert not list(cache.folder.glob("*.part"))


def test_the_cache_keeps_to_its_limit_and_to_what_is_in_use(tmp_path):
    cache = RecordingCache(tmp_path / "cache", 0)

    def make(source, folder):
        extract(source, folder)

    first = Source(write(tmp_path / "a.wav", bed(2, 1)))
    second = Source(write(tmp_path / "b.wav", bed(2, 2)))
    with cache.use(first, make) as recording:
        with cache.use(second, make):
            pass
        assert recording.sound(0, 10).any()
        assert open_recording(recording.folder).seconds == 2.0
    assert cache.shrink() == 0


@pytest.mark.parametrize("bulk", [0, 1 << 60], ids=["in threads", "in processes"])
def test_large_files_are_decoded_at_once_with_the_same_result(tmp_path, monkeypatch, bulk):
    monkeypatch.setattr("millrace.media.decode._WORTH_BULK", bulk)
    monkeypatch.setattr("millrace.workloads.sync.decoding._WORTH_ANOTHER", 0)
    sound = bed(10, 1)
    cache = RecordingCache(tmp_path / "cache", 1 << 30)
    master, dub = write(tmp_path / "m.wav", sound), write(tmp_path / "d.wav", later(sound, 1.0))
    told = []
    with prepared(cache, Source(master), Source(dub), slots=2, progress=told.append) as (first, second):
        assert compared(first, second).chosen.offset == pytest.approx(-1, abs=1e-4)
    assert told == sorted(told)
    silent = write(tmp_path / "s.wav", np.zeros(RATE * 2, np.float32))
    with (
        pytest.raises(BadInput, match=r"dub: s\.wav is silent") as error,
        prepared(cache, Source(master), Source(silent), slots=2),
    ):
        pass
    assert error.value.code == "silent"


def test_memory_does_not_grow_with_the_length(tmp_path):
    """Twenty minutes take as much as their features; 77 MB of samples are never held."""
    long = np.tile(bed(60, 3, 8000), 20)
    write(tmp_path / "m.wav", long, 8000)
    script = (
        "import resource, json, sys; from pathlib import Path\n"
        "from millrace.workloads.sync.recording import Source, extract\n"
        "from millrace.media.decode import AudioDecoder\n"
        "import av\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "home = Path(sys.argv[1]); (home / 'r').mkdir()\n"
        "r = extract(Source(home / 'm.wav'), home / 'r'); r.features('mfcc')\n"
        "print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=100
    )
    assert json.loads(done.stdout) < 60
