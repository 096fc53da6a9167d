"""Matroska: reading the header, and setting FlagDefault within the bytes that are there."""

import os
import shutil
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.workloads.tracks import matroska, matroska_edit
from millrace.workloads.tracks.ebml import crc_after
from millrace.workloads.tracks.matroska import SEGMENT, TRACKS
from millrace.workloads.tracks.model import Damaged, NoRoom, apply_to
from millrace.workloads.tracks.reader import Reader
from tests.track_files import Audio, element, encode_id, number, write
from tests.track_files import matroska as build
from tests.unit.tracks.oracles import (
    ffprobe_defaults,
    mkv_defaults,
    mkvmerge,
    needs_ffmpeg,
    needs_mkvtoolnix,
    run,
    unchanged_facts,
)

ENG_JPN = [Audio("eng"), Audio("jpn", default=False)]
BOTH_ABSENT = [Audio("eng"), Audio("jpn")]


def probe(path):
    with path.open("rb") as file:
        return matroska.probe(Reader(file.fileno()))


def edit(path, target):
    """Plan, apply to a copy, and return it with the plan."""
    with path.open("rb") as file:
        reader = Reader(file.fileno())
        writes = matroska_edit.plan(reader, matroska.probe(reader), target)
    changed = path.with_name("changed-" + path.name)
    changed.write_bytes(apply_to(path.read_bytes(), writes))
    return changed, writes


def defaults(path):
    return [track.default for track in probe(path).audio]


def test_reads_what_is_written(tmp_path):
    tracks = [
        Audio("fre", default=True, name="VFF", channels=6, codec="A_EAC3"),
        Audio("por", bcp47="pt-BR", default=False, commentary=True),
        Audio("", visual_impaired=True, enabled=False),
    ]
    first, second, third = probe(write(tmp_path / "a.mkv", build(tracks))).audio
    assert (first.language, first.name, first.codec, first.channels) == ("fre", "VFF", "A_EAC3", 6)
    assert (first.default, first.enabled, first.commentary) == (True, True, False)
    assert (second.language, second.default, second.commentary) == ("pt-BR", False, True)
    assert (third.language, third.default, third.descriptive, third.enabled) == ("eng", True, True, False)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"seek_head": False},
        {"crc": True},
        {"open_segment": True},
        {"open_segment": True, "open_clusters": True, "seek_head": False},
        {"tracks_last": True},
        {"tracks_last": True, "seek_head": False},
        {"tracks_last": True, "seek_head": False, "open_clusters": True},
        {"void_before": 4096},
        {"segment_crc": True},
        {"doc_type": "webm"},
    ],
    ids=lambda layout: "+".join(layout) or "plain",
)
def test_finds_and_changes_the_tracks_in_every_layout(tmp_path, layout):
    path = write(
        tmp_path / "a.mkv", build([Audio("eng", default=True), Audio("jpn", default=False)], **layout)
    )
    assert defaults(path) == [True, False]
    changed, writes = edit(path, 1)
    assert defaults(changed) == [False, True]
    assert changed.stat().st_size == path.stat().st_size
    assert sum(len(write.new) for write in writes) <= 2 + 17 * 4, "only the flags and checksums change"
    back, _ = edit(changed, 0)
    assert back.read_bytes() == path.read_bytes()


def test_reads_only_the_header(tmp_path):
    path = write(tmp_path / "a.mkv", build(ENG_JPN, clusters=4000))
    assert path.stat().st_size > 4_000_000
    with path.open("rb") as file:
        reader = Reader(file.fileno())
        matroska.probe(reader)
        assert reader.bytes_read <= 16 * 1024


@needs_mkvtoolnix
@needs_ffmpeg
@pytest.mark.parametrize(
    ("room", "tracks"),
    [
        ({"void_after": 200}, BOTH_ABSENT),
        ({"void_after": 3}, BOTH_ABSENT),
        ({"void_after": 4}, BOTH_ABSENT),
        ({"void_after": 5}, BOTH_ABSENT),
        (
            {"void_after": 6},
            [Audio("eng"), Audio("jpn", default=False), Audio("ger"), Audio("fre", default=True)],
        ),
        ({"entry_width": 8}, BOTH_ABSENT),
        ({"inner_void": 6}, BOTH_ABSENT),
        ({"void_before": 2000}, BOTH_ABSENT),
        ({"void_before": 2000, "crc": True}, BOTH_ABSENT),
        ({"void_after": 300, "crc": True}, BOTH_ABSENT),
        ({"void_after": 300, "segment_crc": True, "crc": True}, BOTH_ABSENT),
        ({"void_after": 300}, [Audio("eng", empty_flag=True), Audio("jpn", default=False)]),
        (
            {"void_after": 400, "open_clusters": True, "open_segment": True},
            [Audio("eng")] * 40 + [Audio("jpn")],
        ),
    ],
    ids=str,
)
def test_an_absent_flag_finds_room(tmp_path, room, tracks):
    path = write(tmp_path / "a.mkv", build(tracks, **room))
    target = next(index for index, track in enumerate(tracks) if track.language == "jpn")
    changed, _ = edit(path, target)
    expected = [index == target for index in range(len(tracks))]
    assert defaults(changed) == expected
    assert changed.stat().st_size == path.stat().st_size
    assert mkv_defaults(changed) == expected
    assert ffprobe_defaults(changed) == expected
    assert unchanged_facts(changed) == unchanged_facts(path)


def test_without_any_room_it_says_so(tmp_path):
    path = write(tmp_path / "a.mkv", build(BOTH_ABSENT))
    with pytest.raises(NoRoom):
        edit(path, 1)


def test_checksums_stay_right(tmp_path):
    path = write(tmp_path / "a.mkv", build(BOTH_ABSENT, crc=True, segment_crc=True, void_before=3000))
    changed, _ = edit(path, 1)
    data = changed.read_bytes()
    checked = 0
    for at in range(len(data) - 16):
        for identity, levels in ((SEGMENT, 4), (TRACKS, 4), (0x114D9B74, 4), (0x1549A966, 4)):
            if data[at : at + levels] != encode_id(identity):
                continue
            head = at + levels
            width = 9 - data[head].bit_length()
            size = int.from_bytes(data[head : head + width], "big") & ((1 << (7 * width)) - 1)
            body = data[head + width : head + width + size]
            if len(body) != size or body[:2] != b"\xbf\x84":
                continue
            assert int.from_bytes(body[2:6], "little") == zlib.crc32(body[6:]), hex(identity)
            checked += 1
    assert checked >= 4


@given(st.binary(min_size=1, max_size=80), st.binary(max_size=300), st.binary(max_size=300), st.data())
def test_the_crc_of_changed_bytes_needs_no_second_look_at_the_rest(changed, before, after, data):
    new = data.draw(st.binary(min_size=len(changed), max_size=len(changed)))
    difference = bytes(a ^ b for a, b in zip(changed, new, strict=True))
    crc = crc_after(zlib.crc32(before + changed + after), difference, len(after))
    assert crc == zlib.crc32(before + new + after)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_the_layout_only_the_flags_change(tmp_path_factory, data):
    tracks = data.draw(
        st.lists(
            st.builds(
                Audio,
                language=st.sampled_from(["", "eng", "jpn"]),
                default=st.sampled_from([None, True, False]),
                name=st.text("abc", max_size=9),
                empty_flag=st.booleans(),
                enabled=st.booleans(),
            ),
            min_size=1,
            max_size=6,
        )
    )
    room = st.one_of(st.just(0), st.integers(2, 40), st.integers(200, 900))
    whole = build(
        tracks,
        void_after=data.draw(room),
        void_before=data.draw(room),
        inner_void=data.draw(room),
        crc=data.draw(st.booleans()),
        segment_crc=data.draw(st.booleans()),
        seek_head=data.draw(st.booleans()),
        open_clusters=data.draw(st.booleans()),
        entry_width=data.draw(st.sampled_from([None, 2, 8])),
    )
    target = data.draw(st.integers(0, len(tracks) - 1))
    path = write(tmp_path_factory.getbasetemp() / "drawn.mkv", whole)
    try:
        changed, _ = edit(path, target)
    except NoRoom:
        return
    before, after = probe(path).audio, probe(changed).audio
    assert [track.default for track in after] == [index == target for index in range(len(tracks))]
    assert [replace(track, default=False) for track in after] == [
        replace(track, default=False) for track in before
    ]
    media = whole.index(encode_id(0x1F43B675))
    assert changed.read_bytes()[media:] == whole[media:]
    assert edit(changed, target)[1] == [], "and then there is nothing left to do"


def test_tracks_that_cannot_be_told_apart_are_refused(tmp_path):
    data = build([Audio("eng", default=True), Audio("jpn", default=False)])
    same = data.replace(b"\xd7\x81\x03", b"\xd7\x81\x02")
    assert same != data
    with pytest.raises(Damaged, match="number 2"):
        edit(write(tmp_path / "a.mkv", same), 1)


def test_every_copy_of_tracks_is_changed(tmp_path):
    tracks = [Audio("eng", default=True), Audio("jpn", default=False)]
    single, double = build(tracks, seek_head=False), build(tracks, seek_head=False, tracks_twice=True)
    assert len(double) > len(single)
    data = build(tracks, tracks_twice=True)
    first = data.index(encode_id(TRACKS), 100)
    second = data.index(encode_id(TRACKS), first + 4)
    # Let the SeekHead name the second copy as well as the walk finding the first.
    start = data.index(encode_id(TRACKS))
    assert start < first
    position = int.from_bytes(data[start + 7 : start + 15], "big")
    data = data[: start + 7] + (position + second - first).to_bytes(8, "big") + data[start + 15 :]
    changed, _ = edit(write(tmp_path / "a.mkv", data), 1)
    after = changed.read_bytes()
    assert after[first : first + 300].count(b"\x88\x81\x01") == 1
    assert after[second : second + 300].count(b"\x88\x81\x01") == 1


@needs_mkvtoolnix
@needs_ffmpeg
class TestFilesOfRealMuxers:
    """Real muxers' files, chapters in several editions, tags and attachments: only the flags change."""

    @pytest.fixture
    def sample(self, tmp_path):
        def sample(muxer):
            source = write(tmp_path / "source.mkv", build([Audio("eng", name="Main"), Audio("jpn")]))
            if muxer == "ffmpeg":
                run("ffmpeg", "-v", "error", "-i", source, "-map", "0", "-c", "copy",
                    "-disposition:a:0", "default", "-disposition:a:1", "0", tmp_path / "a.mkv")  # fmt: skip
                return tmp_path / "a.mkv"
            (tmp_path / "c.xml").write_text(EDITIONS)
            (tmp_path / "t.xml").write_text(TAGS)
            (tmp_path / "f.ttf").write_bytes(b"not really a font")
            run("mkvmerge", "-q", "-o", tmp_path / "a.mkv", "--chapters", tmp_path / "c.xml",
                "--global-tags", tmp_path / "t.xml", "--attachment-mime-type", "font/ttf",
                "--attach-file", tmp_path / "f.ttf", source)  # fmt: skip
            if muxer == "mkvpropedit":
                run("mkvpropedit", tmp_path / "a.mkv", "--edit", "track:a1", "--set", "flag-default=0")
            return tmp_path / "a.mkv"

        return sample

    @pytest.mark.parametrize("muxer", ["ffmpeg", "mkvmerge", "mkvpropedit"])
    def test_only_the_flags_change(self, sample, muxer, fix):
        path = sample(muxer)
        before = unchanged_facts(path)
        if muxer != "ffmpeg":
            assert mkvmerge(path)["chapters"] == [{"num_entries": 2}]
            assert before["chapters_xml"].count("<EditionEntry>") == 2
            assert len(mkvmerge(path)["attachments"]) == 1
        for language, expected in (("jpn", [False, True]), ("eng", [True, False]), ("jpn", [False, True])):
            outcome = fix(path, language)
            assert outcome.status in ("success", "skipped")
            assert mkv_defaults(path) == expected
            assert ffprobe_defaults(path) == expected
            assert unchanged_facts(path) == before

    def test_mkvpropedit_comes_to_the_same_flags(self, sample, tmp_path, fix):
        path = sample("mkvmerge")
        theirs = shutil.copy(path, tmp_path / "theirs.mkv")
        run("mkvpropedit", theirs, "--edit", "track:a1", "--set", "flag-default=0",
            "--edit", "track:a2", "--set", "flag-default=1")  # fmt: skip
        fix(path)
        assert mkv_defaults(path) == mkv_defaults(theirs)
        assert defaults(path) == defaults(theirs)


class TestHostile:
    """No header makes the reader read much, loop or fail with anything but Damaged."""

    def refused(self, tmp_path, data):
        path = write(tmp_path / "bad.mkv", data)
        with pytest.raises(Damaged) as refusal, path.open("rb") as file:
            matroska.probe(Reader(file.fileno()))
        return refusal.value.message

    def test_a_tracks_element_beyond_the_file(self, tmp_path):
        good = build(ENG_JPN, seek_head=False)
        at = good.index(encode_id(TRACKS))
        self.refused(tmp_path, good[: at + 4] + b"\x08" + b"\xff" * 4 + good[at + 9 :])

    def test_a_cut_off_file(self, tmp_path):
        good = build(ENG_JPN)
        for length in range(8, good.index(encode_id(TRACKS), 100) + 60, 7):
            self.refused(tmp_path, good[:length])

    def test_a_seek_head_pointing_at_itself(self, tmp_path):
        data = build(ENG_JPN, tracks_last=True)
        at = data.index(encode_id(TRACKS))
        looped = data[: at + 7] + bytes(8) + data[at + 15 :]
        path = write(tmp_path / "a.mkv", looped)
        assert defaults(path) == [True, False], "found by walking instead"

    def test_millions_of_empty_elements(self, tmp_path):
        start = build(ENG_JPN)
        start = start[: start.index(encode_id(SEGMENT))]
        voids = b"\xec\x80" * 300_000
        message = self.refused(tmp_path, start + encode_id(SEGMENT) + b"\x01" + b"\xff" * 7 + voids)
        assert "more elements" in message

    def test_thousands_of_tracks(self, tmp_path):
        entry = element(0xAE, number(0xD7, 1) + number(0x83, 2))
        start = build(ENG_JPN)
        start = start[: start.index(encode_id(SEGMENT))]
        self.refused(tmp_path, start + element(SEGMENT, element(TRACKS, entry * 3000)))

    def test_another_document_type(self, tmp_path):
        assert "type 'evil'" in self.refused(tmp_path, build(ENG_JPN, doc_type="evil"))

    @settings(max_examples=150, deadline=None)
    @given(position=st.integers(0, 900), value=st.integers(0, 255), cut=st.integers(0, 1500))
    def test_any_damaged_byte(self, tmp_path_factory, position, value, cut):
        data = bytearray(build(ENG_JPN, void_after=100, crc=True))
        data[position % len(data)] = value
        data = data[: max(16, len(data) - cut)]
        path = write(tmp_path_factory.getbasetemp() / "fuzzed.mkv", bytes(data))
        with path.open("rb") as file:
            reader = Reader(file.fileno())
            try:
                found = matroska.probe(reader)
                if found.audio:
                    matroska_edit.plan(reader, found, 0)
            except (Damaged, NoRoom):
                pass
            assert reader.bytes_read < 1_000_000

    def test_a_file_that_shrinks_while_it_is_read(self, tmp_path):
        path = write(tmp_path / "a.mkv", build(ENG_JPN, clusters=100))
        with path.open("r+b") as file:
            reader = Reader(file.fileno())
            os.ftruncate(file.fileno(), 0)
            with pytest.raises(Damaged):
                matroska.probe(reader)


EDITIONS = """<?xml version="1.0"?><Chapters>
<EditionEntry><EditionUID>111</EditionUID><EditionFlagDefault>1</EditionFlagDefault>
<ChapterAtom><ChapterUID>1</ChapterUID><ChapterTimeStart>00:00:00.000</ChapterTimeStart>
<ChapterDisplay><ChapterString>One</ChapterString><ChapterLanguage>eng</ChapterLanguage></ChapterDisplay>
</ChapterAtom></EditionEntry>
<EditionEntry><EditionUID>222</EditionUID><EditionFlagOrdered>1</EditionFlagOrdered>
<ChapterAtom><ChapterUID>2</ChapterUID><ChapterTimeStart>00:00:00.000</ChapterTimeStart>
<ChapterTimeEnd>00:00:00.100</ChapterTimeEnd>
<ChapterDisplay><ChapterString>Two</ChapterString><ChapterLanguage>eng</ChapterLanguage></ChapterDisplay>
</ChapterAtom></EditionEntry></Chapters>"""
TAGS = """<?xml version="1.0"?><Tags><Tag><Targets/>
<Simple><Name>TITLE</Name><String>A title</String></Simple></Tag></Tags>"""
