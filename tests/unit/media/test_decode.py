"""Decoding: time is kept, levels are kept, nothing declared is trusted."""

import struct
import tracemalloc

import numpy as np
import pytest

from millrace.errors import BadInput
from millrace.media import decode
from millrace.media.decode import AudioDecoder, read_audio
from millrace.media.probe import probe

from .media_files import tone, write_media, write_wav


@pytest.fixture(autouse=True, params=["frame by frame", "in bulk"])
def either_way(request, monkeypatch):
    """Whatever holds, holds however the file is decoded; by themselves only large files are in bulk."""
    monkeypatch.setattr(decode, "_WORTH_BULK", 0 if request.param == "in bulk" else 1 << 60)


def reason(error) -> str:
    assert error.value.code == "bad_audio"
    return error.value.details["reason"]


def test_a_wav_comes_back_sample_by_sample(tmp_path):
    samples = tone(1.3, 44100)
    got, rate = read_audio(write_wav(tmp_path / "a.wav", samples, 44100))
    assert rate == 44100
    assert got.dtype == np.float32
    assert got.shape == samples.shape
    assert np.abs(got - samples).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_any_rate_is_resampled_to_the_wanted_one(tmp_path, rate):
    got, out = read_audio(write_wav(tmp_path / "a.wav", tone(2.0, rate), rate), rate=16000)
    assert out == 16000
    assert abs(len(got) - 32000) <= 1
    middle = got[8000:24000]
    assert np.abs(middle - tone(2.0)[8000:24000]).max() < 0.02


def test_blocks_are_bounded_and_add_up(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(3.7, 16000))
    with AudioDecoder(path, rate=16000, block=0.5) as decoder:
        sizes = [len(block) for block in decoder]
    assert max(sizes) <= 8000
    assert sum(sizes) == round(3.7 * 16000)
    assert decoder.seconds == pytest.approx(3.7)


def test_a_mix_to_mono_keeps_the_level(tmp_path):
    x = tone(1.0, 48000)
    for channels in (2, 6, 8, 24):
        path = write_wav(tmp_path / f"{channels}.wav", np.repeat(x[:, None], channels, axis=1), 48000)
        got, _ = read_audio(path)
        assert got.shape == x.shape
        assert np.abs(got - x).max() < 1e-3, channels


def test_of_24_channels_each_is_heard(tmp_path):
    silent = np.zeros((48000, 24), np.float32)
    silent[:, 17] = tone(1.0, 48000, level=0.96)
    path = write_wav(tmp_path / "desk.wav", silent, 48000)
    assert np.abs(read_audio(path)[0]).max() == pytest.approx(0.96 / 24, rel=0.01)
    both = read_audio(path, channels=2)[0]
    assert np.array_equal(both[:, 0], both[:, 1])


def test_two_channels_are_left_and_right_and_mono_is_doubled_at_its_level(tmp_path):
    left, right = tone(1.0, 48000, 300), tone(1.0, 48000, 500)
    got, _ = read_audio(write_wav(tmp_path / "lr.wav", np.stack([left, right], 1), 48000), channels=2)
    assert np.abs(got - np.stack([left, right], 1)).max() < 1e-3
    got, _ = read_audio(write_wav(tmp_path / "m.wav", left, 48000), channels=2)
    assert np.abs(got - np.stack([left, left], 1)).max() < 1e-3


@pytest.mark.parametrize("name", ["late.mkv", "late.mka", "late.mp4"])
def test_a_stream_that_starts_late_begins_with_silence(tmp_path, name):
    x = tone(2.0, 48000)
    codec = "aac" if name.endswith("mp4") else "flac"
    path = write_media(tmp_path / name, x, start=1.436, codec=codec, video=4.0 if name != "late.mka" else 0)
    got, _ = read_audio(path)
    assert np.abs(got[: round(1.40 * 48000)]).max() < 1e-3
    first = np.flatnonzero(np.abs(got) > 0.05)[0] / 48000
    assert first == pytest.approx(1.436, abs=0.002)


def test_a_transport_stream_begins_at_its_own_start(tmp_path):
    path = write_media(tmp_path / "a.ts", tone(2.0, 48000), codec="mp2", start=1.4)
    assert probe(path).audio[0].start > 1
    got, _ = read_audio(path)
    assert len(got) / 48000 == pytest.approx(2.0, abs=0.1)
    assert np.flatnonzero(np.abs(got) > 0.05)[0] / 48000 < 0.05


def test_a_hole_in_a_stream_is_silence_of_its_length(tmp_path):
    path = write_media(tmp_path / "hole.mka", tone(3.072, 48000), holes={1.024: 5.0})
    got, _ = read_audio(path)
    assert len(got) / 48000 == pytest.approx(8.072, abs=0.01)
    assert np.abs(got[round(1.1 * 48000) : round(5.9 * 48000)]).max() == 0
    assert np.abs(got[round(6.1 * 48000) :]).max() > 0.4


def test_a_clock_set_anew_is_no_silence(tmp_path):
    path = write_media(tmp_path / "wrap.mka", tone(3.072, 48000), holes={1.024: 90000.0})
    assert len(read_audio(path)[0]) / 48000 == pytest.approx(3.072, abs=0.01)


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.ogg", "libopus"), ("a.m4a", "aac")])
def test_lossy_files_keep_time_to_some_milliseconds(tmp_path, name, codec):
    click = np.zeros(48000 * 2, np.float32)
    click[48000:48480] = tone(0.01, 48000, 1000, 0.9)
    got, _ = read_audio(write_media(tmp_path / name, click, codec=codec))
    assert np.abs(got).argmax() / 48000 == pytest.approx(1.005, abs=0.007)


def test_the_chosen_stream_is_decoded(tmp_path):
    path = write_media(tmp_path / "two.mkv", [tone(1.0, 48000, 300), tone(1.0, 48000, 3000)])
    for stream, frequency in ((None, 300), (0, 300), (1, 3000)):
        got, _ = read_audio(path, stream=stream)
        peak = np.abs(np.fft.rfft(got[:48000])).argmax()
        assert peak == pytest.approx(frequency, abs=2)
    with pytest.raises(BadInput, match="there is no audio stream 2: the file has 2") as error:
        read_audio(path, stream=2)
    assert reason(error) == "no_such_stream"


def test_a_stream_may_change_its_format_midway(tmp_path):
    write_media(tmp_path / "a.aac", tone(1.0, 48000), codec="aac")
    write_media(tmp_path / "b.aac", np.stack([tone(1.0, 44100)] * 2, 1), codec="aac", rate=44100)
    joined = tmp_path / "joined.aac"
    joined.write_bytes((tmp_path / "a.aac").read_bytes() + (tmp_path / "b.aac").read_bytes())
    got, rate = read_audio(joined)
    assert rate == 48000
    assert len(got) / rate == pytest.approx(2.0, abs=0.1)


def test_a_truncated_file_yields_what_is_there(tmp_path):
    whole = write_wav(tmp_path / "whole.wav", tone(4.0)).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    assert len(read_audio(tmp_path / "cut.wav")[0]) / 16000 == pytest.approx(2.0, abs=0.01)
    write_media(tmp_path / "whole.mp3", tone(4.0, 48000), codec="libmp3lame")
    whole = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    assert 1.5 < len(read_audio(tmp_path / "cut.mp3")[0]) / 48000 < 2.5


def test_damaged_packets_are_left_out_and_counted(tmp_path):
    data = bytearray(write_media(tmp_path / "a.mka", tone(4.0, 48000)).read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 6000, 7):
        data[at] ^= 0x5A
    (tmp_path / "b.mka").write_bytes(data)
    with AudioDecoder(tmp_path / "b.mka") as decoder:
        seconds = sum(len(block) for block in decoder) / decoder.rate
    assert decoder.damaged > 0
    assert 2.0 < seconds < 5.0


def ten_hours_in_a_header() -> bytes:
    """A WAV header that declares ten hours of audio, with 200 samples behind it."""
    declared = 36000 * 16000 * 2
    fmt = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", declared + 36) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
        + b"data" + struct.pack("<I", declared) + b"\x10\x00" * 200
    )  # fmt: skip


def test_ten_hours_in_a_header_cost_nothing(tmp_path):
    path = tmp_path / "liar.wav"
    path.write_bytes(ten_hours_in_a_header())
    tracemalloc.start()
    got, _ = read_audio(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(got) == 200
    assert peak < 20e6


def test_really_long_audio_is_refused_where_the_limit_is_reached(tmp_path):
    path = write_wav(tmp_path / "long.wav", np.zeros(16000 * 8, np.float32))
    with AudioDecoder(path, max_seconds=5.0) as decoder:
        blocks = iter(decoder)
        yielded = sum(len(next(blocks)) for _ in range(5))
        assert yielded == 5 * 16000
        with pytest.raises(BadInput, match="longer than the 5 seconds") as error:
            list(blocks)
    assert reason(error) == "too_long"


def test_a_tiny_file_cannot_blow_up_by_a_tiny_sample_rate(tmp_path):
    path = tmp_path / "slow.wav"
    write_wav(path, np.zeros(100_000, np.float32), 1)
    sizes = []
    with AudioDecoder(path, rate=16000, max_seconds=30) as decoder, pytest.raises(BadInput) as error:
        sizes.extend(map(len, decoder))
    assert reason(error) == "too_long"
    assert all(size <= 16000 for size in sizes)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("empty.wav", b"", "empty"),
        ("text.mp3", b"this is no recording at all\n" * 200, "not_media"),
        ("noise.mp3", bytes(range(256)) * 16, "not_media"),
        ("page.html", b"<html><body>not found</body></html>", "not_media"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "not_media"),
        ("list.txt", b"ffconcat version 1.0\nfile /etc/hostname\n", "not_media"),
        ("session.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n", "not_media"),
    ],
)
def test_what_is_not_audio_is_named_so(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as error:
        read_audio(tmp_path / name)
    assert reason(error) == why
    assert name in error.value.message
    assert str(tmp_path) not in error.value.message


def test_a_playlist_cannot_name_another_file(tmp_path):
    write_wav(tmp_path / "secret.wav", tone(1.0))
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n")
    with pytest.raises(BadInput) as error:
        read_audio(tmp_path / "list.m3u8")
    assert reason(error) == "not_media"


def test_an_mp4_cut_before_its_index_is_refused(tmp_path):
    whole = write_media(tmp_path / "a.m4a", tone(3.0, 48000), codec="aac").read_bytes()
    (tmp_path / "cut.m4a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="cut off") as error:
        read_audio(tmp_path / "cut.m4a")
    assert reason(error) == "not_media"


def test_a_film_without_sound_and_a_header_without_samples_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no audio stream") as error:
        read_audio(write_media(tmp_path / "mute.mkv", None, video=1.0))
    assert reason(error) == "no_audio_stream"
    with pytest.raises(BadInput, match="zero length") as error:
        read_audio(write_wav(tmp_path / "zero.wav", np.zeros(0, np.float32)))
    assert reason(error) == "empty"


def test_a_directory_and_a_missing_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.wav"):
        with pytest.raises(BadInput) as error:
            read_audio(path)
        assert reason(error) == "unreadable"


def test_a_probe_names_the_streams(tmp_path):
    path = write_media(
        tmp_path / "film.mkv", [tone(1.0, 48000), np.stack([tone(1.0, 48000)] * 2, 1)], video=1.0
    )
    info = probe(path)
    assert info.container == "matroska"
    assert info.video == 1
    assert [(s.position, s.codec, s.rate, s.channels) for s in info.audio] == [
        (0, "flac", 48000, 1),
        (1, "flac", 48000, 2),
    ]
    assert info.bytes == path.stat().st_size
    assert info.duration == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("channels", [2, 6, 24])
def test_one_channel_can_be_chosen(tmp_path, channels):
    each = np.stack([tone(0.5, 48000, 200.0 * (n + 1), 0.1) for n in range(channels)], axis=1)
    path = write_wav(tmp_path / "a.wav", each, 48000)
    with AudioDecoder(path, channel=channels - 1) as decoder:
        got = np.concatenate(list(decoder))
    assert np.abs(got - each[:, -1]).max() < 1e-3


def test_a_channel_that_is_not_there_is_refused(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(0.5))
    with pytest.raises(BadInput, match="no channel 1: the stream has 1") as error:
        AudioDecoder(path, channel=1)
    assert reason(error) == "no_such_channel"
