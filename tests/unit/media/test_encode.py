"""MP3 stems: exact length for a gapless decoder, any rate, any cutting into blocks."""

import shutil
import subprocess

import av
import numpy as np
import pytest

from millrace.media.decode import read_audio
from millrace.media.encode import MP3_RATES, Mp3Writer, mp3_rate


def noise(frames: int, level: float = 0.2) -> np.ndarray:
    return (level * np.random.default_rng(frames).standard_normal((frames, 2))).astype(np.float32)


def write(path, samples, rate=44100, block=5000):
    with Mp3Writer(path, rate) as out:
        for begin in range(0, len(samples), block):
            out.write(samples[begin : begin + block])
    return path


def frames_of(path) -> int:
    with av.open(str(path), format="mp3") as container:
        return sum(frame.samples for frame in container.decode(audio=0))


# 4619, 5783 and 40: lengths for which FFmpeg's own Info frame is wrong; 1152 · n ± the delay: frame borders.
@pytest.mark.parametrize("frames", [1, 40, 47, 1151, 1152, 1153, 4619, 5783, 11520 - 1105, 44100, 44117])
@pytest.mark.parametrize("rate", MP3_RATES)
def test_a_gapless_decoder_gives_back_exactly_what_was_written(tmp_path, rate, frames):
    assert frames_of(write(tmp_path / "a.mp3", noise(frames), rate)) == frames


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")
@pytest.mark.parametrize("frames", [40, 4619, 44117])
def test_the_ffmpeg_command_gives_back_exactly_what_was_written(tmp_path, frames):
    path = write(tmp_path / "a.mp3", noise(frames))
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "mp3", "-i", path, "-f", "f32le", "-"],
        capture_output=True,
        check=True,
    ).stdout
    assert len(raw) == frames * 8


def test_the_sound_is_in_place_not_shifted_by_the_encoders_delay(tmp_path):
    click = np.zeros((44100, 2), np.float32)
    click[20000:20004] = 0.8
    heard, rate = read_audio(write(tmp_path / "a.mp3", click), channels=2)
    assert rate == 44100
    assert abs(int(np.abs(heard[:, 0]).argmax()) - 20002) <= 2


def test_the_bit_rate_is_constant_256_kbit(tmp_path):
    with av.open(str(write(tmp_path / "a.mp3", noise(44100 * 2)))) as container:
        sizes = {packet.size for packet in container.demux(audio=0) if packet.size}
        assert container.streams.audio[0].bit_rate == 256_000
    assert sizes <= {835, 836}


def test_how_it_is_cut_into_blocks_makes_no_difference(tmp_path):
    samples = noise(9000)
    one = write(tmp_path / "one.mp3", samples, block=9000).read_bytes()
    assert write(tmp_path / "many.mp3", samples, block=77).read_bytes() == one


def test_a_rate_that_mp3_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not 22050"):
        Mp3Writer(tmp_path / "a.mp3", 22050)


@pytest.mark.parametrize(
    ("rate", "chosen"),
    [
        (44100, 44100),
        (48000, 48000),
        (32000, 32000),
        (8000, 32000),
        (16000, 32000),
        (24000, 48000),
        (12000, 48000),
        (11025, 44100),
        (22050, 44100),
        (88200, 44100),
        (96000, 48000),
        (37800, 48000),
    ],
)
def test_the_rate_of_an_mp3_is_a_multiple_of_the_source_where_there_is_one(rate, chosen):
    assert mp3_rate(rate) == chosen
