"""Decoding in bulk: to the last bit what decoding frame by frame gives."""

import numpy as np
import pytest

from millrace.media import decode, steady
from millrace.media.decode import AudioDecoder

from .media_files import tone, write_media, write_wav


def both_ways(monkeypatch, path, **options) -> list[np.ndarray]:
    found = []
    for worth in (0, 1 << 60):
        monkeypatch.setattr(decode, "_WORTH_BULK", worth)
        with AudioDecoder(path, block=0.5, **options) as decoder:
            found.append(np.concatenate(list(decoder)))
    return found


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", "pcm_s16le"), ("a.flac", "flac"), ("a.mka", "ac3"), ("a.ac3", "ac3"), ("a.m4a", "aac"),
        ("a.aac", "aac"), ("a.mp3", "libmp3lame"), ("a.ogg", "libopus"), ("a.mkv", "flac"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"rate": 16000, "fair": True}, {"rate": 22050, "channels": 2}])
def test_a_steady_stream_is_the_same_in_bulk_to_the_last_bit(tmp_path, monkeypatch, name, codec, options):
    whole = []
    monkeypatch.setattr(steady, "frames", noted(steady.frames, whole))
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (round(4.7 * 48000), 2)).astype(np.float32)
    path = write_media(tmp_path / name, noise, codec=codec, video=5.0 if name == "a.mkv" else 0.0)
    bulk, single = both_ways(monkeypatch, path, **options)
    assert whole == [True]
    assert np.array_equal(bulk, single)


def noted(frames, whole):
    def noting(*args, **options):
        yield from frames(*args, **options)
        whole.append(True)

    return noting


@pytest.mark.parametrize("at", [0.4, 0.8, 1.2, 1.5, 1.9, 2.2, 3.7, 4.6])
@pytest.mark.parametrize("hole", [0.15, 3.0])
def test_holes_are_where_they_are_in_bulk_too(tmp_path, monkeypatch, at, hole):
    path = write_media(tmp_path / "hole.mka", tone(4.7, 48000), codec="pcm_s16le", holes={at: hole})
    bulk, single = both_ways(monkeypatch, path, rate=16000)
    assert len(single) / 16000 == pytest.approx(4.7 + hole, abs=0.01)
    assert np.array_equal(bulk, single)


def test_damage_is_passed_over_in_bulk_too(tmp_path, monkeypatch):
    data = bytearray(write_media(tmp_path / "a.mka", tone(8.0, 48000)).read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 6000, 7):
        data[at] ^= 0x5A
    (tmp_path / "b.mka").write_bytes(data)
    bulk, single = both_ways(monkeypatch, tmp_path / "b.mka")
    assert np.array_equal(bulk, single)


def test_fair_resampling_is_true_to_three_eighths_of_the_rate(tmp_path):
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 96000).astype(np.float32)
    path = write_wav(tmp_path / "a.wav", noise, 48000)
    good, fair = (np.concatenate(list(AudioDecoder(path, rate=16000, fair=fair))) for fair in (False, True))
    spectra = [np.fft.rfft(sound[:16000] * np.hanning(16000)) for sound in (good, fair)]
    kept = slice(20, 5900)
    assert np.abs(spectra[1][kept] - spectra[0][kept]).max() < 0.01 * np.abs(spectra[0][kept]).max()
