"""A repaired dub fits its master, keeps its film, and says so after it was compared again."""

import av
import numpy as np
import pytest

from millrace.errors import BadInput, InvalidRequest
from millrace.media.decode import read_audio
from millrace.media.probe import probe
from millrace.workloads.sync.pipeline import repair_and_check
from millrace.workloads.sync.recording import Source, extract
from millrace.workloads.sync.repair import plan, repair
from tests.unit.media.media_files import write_media
from tests.unit.sync.sounds import RATE, bed, compared, later, recorded, stretched, write


@pytest.fixture(scope="module")
def sound():
    return bed(30, 4)


@pytest.fixture(scope="module")
def master(sound, tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("master"), "master", sound)


def mended(master, path, out, folder):
    home = folder / "dub"
    home.mkdir()
    analysis = compared(master, extract(Source(path), home))
    return repair_and_check(analysis, master, Source(path), out, folder, 0.02)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: later(s, 3.3),
        lambda s: later(s, -2.2),
        lambda s: later(stretched(s, 1.001), 1.0),
        lambda s: stretched(s, 24 / 25),
        lambda s: np.concatenate([s[: 12 * RATE], s[15 * RATE :]]),
        lambda s: np.concatenate([s[: 12 * RATE], bed(4, 8), s[12 * RATE :]]),
    ],
    ids=["late", "early", "0.1 %", "PAL", "missing", "added"],
)
def test_a_dub_fits_after_its_repair(master, sound, tmp_path, change):
    path = write(tmp_path / "dub.wav", change(sound))
    checked = mended(master, path, tmp_path / "out.wav", tmp_path)
    assert checked["status"] == "in_sync"
    assert checked["offset_seconds"] == pytest.approx(0, abs=5e-4)
    assert checked["drift_ppm"] == pytest.approx(0, abs=1)


def test_a_moved_dub_keeps_its_samples(master, sound, tmp_path):
    path = write(tmp_path / "dub.wav", later(sound, 1.0))
    mended(master, path, tmp_path / "out.wav", tmp_path)
    got, _ = read_audio(tmp_path / "out.wav")
    inside = slice(RATE, 29 * RATE)
    assert np.abs(got[inside] - sound[inside]).max() < 1e-3


def test_a_change_of_speed_keeps_tones_clean(tmp_path):
    t = np.arange(4 * 48000) / 48000
    tone = (0.5 * np.sin(2 * np.pi * 5000 * t)).astype(np.float32)
    path = write(tmp_path / "dub.wav", tone, 48000)
    from millrace.workloads.sync.result import Segment

    todo = plan([Segment(0.0, 4.0, 0.0, 1.001, 1.0, "phase")], 4.0)
    repair(path, tmp_path / "out.flac", todo)
    got, _ = read_audio(tmp_path / "out.flac")
    wanted = 0.5 * np.sin(2 * np.pi * 5000 * 1.001 * np.arange(len(got)) / 48000)
    middle = slice(4800, len(got) - 4800)
    error = np.sqrt(np.mean((got[middle] - wanted[middle]) ** 2))
    assert 20 * np.log10(error / 0.354) < -70


def test_the_film_is_copied_packet_by_packet(master, sound, tmp_path):
    path = write_media(tmp_path / "dub.mkv", later(np.repeat(sound, 3), 2.0, 48000), video=30.0)
    out = tmp_path / "out.mkv"
    assert mended(master, path, out, tmp_path)["status"] == "in_sync"
    assert probe(out).video == 1

    def packets(film):
        with av.open(str(film)) as container:
            return [bytes(p) for p in container.demux(container.streams.video[0]) if p.size]

    assert packets(out) == packets(path)


def test_stereo_stays_stereo(master, sound, tmp_path):
    both = np.stack([later(sound, 1.0), 0.5 * later(sound, 1.0)], axis=1)
    path = write(tmp_path / "dub.wav", both)
    mended(master, path, tmp_path / "out.wav", tmp_path)
    got, _ = read_audio(tmp_path / "out.wav", channels=2)
    inside = slice(RATE, 29 * RATE)
    assert np.abs(got[inside, 0] - sound[inside]).max() < 1e-3
    assert np.abs(got[inside, 1] - 0.5 * sound[inside]).max() < 1e-3


def test_what_cannot_be_repaired_is_refused(tmp_path):
    with pytest.raises(BadInput, match="matches no part"):
        plan([], 10.0)
    path = write(tmp_path / "dub.wav", bed(2, 1))
    from millrace.workloads.sync.result import Segment

    todo = plan([Segment(0.0, 2.0, 0.0, 1.0, 1.0, "phase")], 2.0)
    with pytest.raises(InvalidRequest, match=r"cannot write '\.xyz'"):
        repair(path, tmp_path / "out.xyz", todo)
