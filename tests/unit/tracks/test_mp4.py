"""MP4 and QuickTime: reading the movie header, and setting tkhd's enabled bit and alternate_group."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.workloads.tracks import mp4
from millrace.workloads.tracks.model import Damaged
from millrace.workloads.tracks.reader import Reader
from tests.track_files import Audio, box, write
from tests.track_files import mp4 as build
from tests.unit.tracks.oracles import ffprobe_defaults, needs_ffmpeg, run, unchanged_facts

TRACKS = [Audio("eng"), Audio("jpn", default=False), Audio("fra", default=False)]


def probe(path):
    with path.open("rb") as file:
        return mp4.probe(Reader(file.fileno()))


def test_reads_what_is_written(tmp_path):
    tracks = [
        Audio("eng", name="Main", channels=6),
        Audio("por", bcp47="pt-BR", default=False, commentary=True, group=3),
        Audio("", macintosh=11),
    ]
    first, second, third = probe(write(tmp_path / "a.mp4", build(tracks))).audio
    assert (first.language, first.name, first.codec, first.channels) == ("eng", "Main", "sowt", 6)
    assert (first.default, first.group, second.group) == (True, 1, 3)
    assert (second.language, second.default, second.commentary) == ("pt-BR", False, True)
    assert third.language == "ja"


@needs_ffmpeg
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"moov_last": True},
        {"wide": True},
        {"wide": True, "version": 1, "moov_last": True},
        {"version": 1},
        {"open_mdat": True},
        {"ftyp": False},
        {"brand": b"qt  "},
    ],
    ids=lambda layout: "+".join(layout) or "plain",
)
def test_two_bytes_change_in_every_layout(tmp_path, layout, fix):
    path = write(tmp_path / "a.mp4", build(TRACKS, **layout))
    before, old = path.read_bytes(), unchanged_facts(path)
    outcome = fix(path)
    assert (outcome.status, outcome.how) == ("success", "in_place")
    after = path.read_bytes()
    assert len(after) == len(before)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 2
    assert ffprobe_defaults(path) == [False, True, False]
    assert unchanged_facts(path) == old
    assert fix(path).reason == "already_correct"


def test_all_audio_tracks_come_to_share_one_alternate_group(tmp_path, fix):
    path = write(tmp_path / "a.mp4", build([Audio("eng", group=0), Audio("jpn", group=0, default=False)]))
    fix(path)
    assert [(track.default, track.group) for track in probe(path).audio] == [(False, 1), (True, 1)]


def test_a_right_flag_with_scattered_groups_is_not_yet_correct(tmp_path, fix):
    path = write(tmp_path / "a.mp4", build([Audio("jpn", group=2), Audio("eng", group=0, default=False)]))
    assert fix(path).status == "success"
    assert [track.group for track in probe(path).audio] == [2, 2]
    assert fix(path).reason == "already_correct"


def test_an_alternate_group_of_subtitles_is_left_to_them():
    header = mp4.TrackHeader(b"sbtl", 0, 1, 0, 1)
    audio = [mp4.TrackHeader(b"soun", 0, 1, 0, group) for group in (0, 0)]
    assert mp4.wanted_group((header, *audio)) == 2


@needs_ffmpeg
def test_fragmented_files_of_a_real_muxer(tmp_path, fix):
    source = write(tmp_path / "source.mp4", build(TRACKS))
    path = tmp_path / "a.mov"
    run("ffmpeg", "-v", "error", "-i", source, "-map", "0", "-c", "copy", "-movflags",
        "frag_keyframe+empty_moov+default_base_moof", path)  # fmt: skip
    assert b"moof" in path.read_bytes()
    before = unchanged_facts(path)
    assert fix(path).status == "success"
    assert ffprobe_defaults(path) == [False, True, False]
    assert unchanged_facts(path) == before


def test_reads_little_of_a_large_file(tmp_path):
    path = write(tmp_path / "a.mp4", build(TRACKS, moov_last=True, mdat_bytes=3_000_000))
    with path.open("rb") as file:
        reader = Reader(file.fileno())
        assert len(mp4.probe(reader).audio) == 3
        assert reader.bytes_read < 64 * 1024


class TestHostile:
    """No box makes the reader loop, read much, or fail with anything but Damaged."""

    def refused(self, tmp_path, data):
        path = write(tmp_path / "bad.mp4", data)
        with pytest.raises(Damaged) as refusal, path.open("rb") as file:
            mp4.probe(Reader(file.fileno()))
        return refusal.value.message

    def test_a_box_longer_than_its_parent(self, tmp_path):
        data = bytearray(build(TRACKS))
        at = data.index(b"mdia") - 4
        data[at : at + 4] = struct.pack(">I", 0x7FFFFFFF)
        assert "longer than what holds it" in self.refused(tmp_path, bytes(data))

    def test_a_box_shorter_than_its_header(self, tmp_path):
        data = bytearray(build(TRACKS))
        at = data.index(b"tkhd") - 4
        data[at : at + 4] = struct.pack(">I", 4)
        self.refused(tmp_path, bytes(data))

    def test_no_movie_header(self, tmp_path):
        assert "no movie header" in self.refused(tmp_path, box("ftyp", b"isom" * 4) + box("mdat", bytes(100)))

    def test_a_movie_header_cut_off(self, tmp_path):
        assert "incomplete" in self.refused(tmp_path, build(TRACKS, moov_last=True)[:-40])

    def test_a_hundred_thousand_boxes(self, tmp_path):
        self.refused(tmp_path, box("ftyp", b"isom" * 4) + box("free", b"") * 100_000)

    def test_a_box_of_more_than_the_world(self, tmp_path):
        huge = struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 2**63)
        self.refused(tmp_path, box("ftyp", b"isom" * 4) + huge + bytes(100))

    @settings(max_examples=150, deadline=None)
    @given(position=st.integers(0, 1700), value=st.integers(0, 255), cut=st.integers(0, 1500))
    def test_any_damaged_byte(self, tmp_path_factory, position, value, cut):
        data = bytearray(build(TRACKS))
        data[position % len(data)] = value
        path = write(tmp_path_factory.getbasetemp() / "fuzzed.mp4", bytes(data[: max(16, len(data) - cut)]))
        with path.open("rb") as file:
            reader = Reader(file.fileno())
            try:
                found = mp4.probe(reader)
                if found.audio:
                    mp4.plan(reader, found, 0)
            except Damaged:
                pass
            assert reader.bytes_read < 1_000_000
