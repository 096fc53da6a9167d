"""Metadata written into JPEG and PNG: read back right by ExifTool, everything else byte for byte there."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from millrace.workloads.images import exif, iptc, jpeg, png, xmp
from millrace.workloads.images.tags import Tags, clean, cut_utf8, unique_keywords
from tests.exiftool import comparable, metadata, needs_exiftool
from tests.unit.images import odd_files

CORPUS = Path(__file__).parents[3] / ".." / "shared" / "corpus" / "images"
TAGS = Tags(
    "Straße in Łódź am Morgen",
    'Zwei Zeilen:\nTrams & <Tauben> "im" Regen — 日本語 ' + "ö" * 1200,
    ("Straße", "tram", "日本語 " * 12, "x"),
    {"fr": ("Rue", "Une rue")},
).limited()
OURS = {
    "IFD0:ImageDescription", "IFD0:XPTitle", "IFD0:XPKeywords", "IPTC:ObjectName", "IPTC:Keywords",
    "IPTC:Caption-Abstract", "IPTC:CodedCharacterSet", "IPTC:ApplicationRecordVersion", "XMP-dc:Title",
    "XMP-dc:Title-fr", "XMP-dc:Description", "XMP-dc:Description-fr", "XMP-dc:Subject", "File:ExifByteOrder",
    "File:CurrentIPTCDigest", "Photoshop:IPTCDigest", "XMP-x:XMPToolkit",
}  # fmt: skip


def write(data: bytes, tags: Tags = TAGS) -> bytes:
    return b"".join((jpeg if data[:2] == b"\xff\xd8" else png).write(data, tags)[0])


def all_files() -> dict[str, bytes]:
    files = odd_files.every_odd_file()
    if CORPUS.is_dir():
        files |= {path.name: path.read_bytes() for path in sorted(CORPUS.glob("*.jpg"))}
    return files


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """ExifTool's reading of every file before and after."""
    before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
    for name, data in all_files().items():
        (before / name).write_bytes(data)
        (after / name).write_bytes(write(data))
    return metadata(before), metadata(after)


@needs_exiftool
@pytest.mark.parametrize("name", sorted(all_files()))
def test_exiftool_reads_every_field_back_and_nothing_else_changed(judged, name):
    before, after = (comparable(rows[name]) for rows in judged)
    assert after["XMP-dc:Title"] == TAGS.title
    assert after["XMP-dc:Description"] == TAGS.description
    assert after["XMP-dc:Subject"] == list(TAGS.keywords)
    assert after["XMP-dc:Title-fr"] == "Rue"
    assert after["IPTC:ObjectName"] == TAGS.title
    assert TAGS.description.startswith(after["IPTC:Caption-Abstract"])
    assert all(full.startswith(cut) for full, cut in zip(TAGS.keywords, after["IPTC:Keywords"], strict=True))
    assert after["IPTC:CodedCharacterSet"] == "\x1b%G"
    if name == "huge-exif.jpg":  # the block has no room for all of it
        assert after.get("IFD0:ImageDescription", "") in TAGS.description
    else:
        assert after["IFD0:ImageDescription"] == TAGS.description
        assert TAGS.title in xp(after["IFD0:XPTitle"])
        assert xp(after["IFD0:XPKeywords"]).split(";") == list(TAGS.keywords)
    moved = {"MPImage2:MPImageStart"}  # counted by ExifTool from the start of the file
    same = {key: value for key, value in before.items() if key not in OURS | moved}
    assert {key: after.get(key) for key in same} == same
    assert set(after) - set(before) <= OURS


def xp(value: str) -> str:
    import base64

    if value.startswith("base64:"):
        return base64.b64decode(value[7:]).decode()
    return value


@pytest.mark.parametrize("name", sorted(odd_files.every_odd_file()))
def test_every_byte_that_is_not_metadata_of_ours_is_kept(name):
    data = odd_files.every_odd_file()[name]
    new = write(data)
    if name.endswith("png"):
        ours = {b"eXIf", b"iTXt:XML:com.adobe.xmp", b"zTXt:Raw profile type iptc"}
        assert [c for c in chunks(new) if c[0] not in ours] == [c for c in chunks(data) if c[0] not in ours]
        assert new[png.parse(new).end :] == data[png.parse(data).end :]
    else:
        old, parsed = jpeg.parse(data), jpeg.parse(new)
        assert bytes(parsed.scans) == bytes(old.scans)
        assert [s for s in parsed.segments if not ours_in(s)] == [s for s in old.segments if not ours_in(s)]


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    parsed = png.parse(data)
    return [
        (c.type + (b":" + parsed.body(c).partition(b"\0")[0] if c.type in (b"iTXt", b"zTXt") else b""),
         data[c.start : c.end])
        for c in parsed.chunks
    ]  # fmt: skip


def ours_in(segment: jpeg.Segment) -> bool:
    return segment.payload.startswith((jpeg.EXIF, jpeg.XMP, jpeg.EXTENDED, jpeg.PHOTOSHOP))


@pytest.mark.parametrize("name", sorted(odd_files.every_odd_file()))
def test_the_pixels_decode_the_same(name):
    data = odd_files.every_odd_file()[name]
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(write(data))) as after:
        assert after.tobytes() == before.tobytes()
        assert after.info.get("icc_profile") == before.info.get("icc_profile")


@pytest.mark.parametrize("name", sorted(odd_files.every_odd_file()))
def test_writing_again_changes_nothing(name):
    once = write(odd_files.every_odd_file()[name])
    assert write(once) == once


def test_maker_notes_and_every_other_exif_byte_stay_where_they_were():
    block = odd_files.exif(note=8)
    edited, notes = exif.edit(block, TAGS, 65000)
    assert notes == []
    assert edited[:4] == block[:4]
    assert edited[8 : len(block)] == block[8:]
    assert exif.read(edited)["exif"] == exif.read(block)["exif"]
    assert exif.read(edited)["ifd0"][0x0112] == 6


def test_an_edited_block_does_not_grow_with_every_edit():
    block, _ = exif.edit(odd_files.exif(), TAGS, 65000)
    for words in ("one", "two two", "three three three"):
        block, _ = exif.edit(block, Tags(words, words, (words,)), 65000)
    assert len(block) < len(odd_files.exif()) + 400
    assert exif.read(block)["ifd0"][exif.IMAGE_DESCRIPTION] == "three three three"


def test_a_tag_left_empty_keeps_what_an_earlier_edit_wrote():
    block, _ = exif.edit(odd_files.exif(), Tags("first title", "first", ("a",)), 65000)
    block, _ = exif.edit(block, Tags(description="second"), 65000)
    found = exif.read(block)["ifd0"]
    assert exif.xp_text(found[exif.XP_TITLE]) == "first title"
    assert found[exif.IMAGE_DESCRIPTION] == "second"


def test_a_full_exif_block_is_said_to_be_full_and_never_grows_past_its_segment():
    data = odd_files.with_exif(odd_files.jpeg(), odd_files.exif(note=255))
    pieces, notes = jpeg.write(data, TAGS)
    assert "EXIF block is full" in notes[0]
    assert jpeg.parse(b"".join(pieces)).first(0xE1, jpeg.XMP) is not None


@pytest.mark.parametrize(
    "block",
    [b"", b"II", b"XX*\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\0\0\0\0"],
)
def test_exif_that_cannot_be_read_is_left_alone_and_named(block):
    data = odd_files.with_exif(odd_files.jpeg(), block)
    pieces, notes = jpeg.write(data, TAGS)
    assert notes
    assert "EXIF was left as it is" in notes[0]
    assert jpeg.parse(b"".join(pieces)).first(0xE1, jpeg.EXIF) == block


def test_both_pictures_of_a_multi_picture_file_are_found_where_the_index_says():
    data = odd_files.mpf()
    assert odd_files.second_picture(data)[:2] == b"\xff\xd8"
    assert odd_files.second_picture(write(data)) == odd_files.second_picture(data)
    assert index_of(write(data)) == index_of(data)


def index_of(data: bytes) -> bytes:
    found = jpeg.parse(data).first(0xE2, jpeg.MPF)
    assert found is not None
    return found


def test_the_multi_picture_index_follows_when_metadata_stood_behind_it():
    data = odd_files.mpf()
    at = data.index(b"\xff\xe2") + 2 + struct.unpack(">H", data[data.index(b"\xff\xe2") + 2 :][:2])[0]
    packet = odd_files.segment(0xE1, jpeg.XMP + odd_files.RICH_XMP)
    late = bytearray(data[:at] + packet + data[at:])
    offset_at = late.index(b"MPF\0") + 4 + 8 + 2 + 36 + 4 + 16 + 8
    struct.pack_into(">I", late, offset_at, struct.unpack_from(">I", late, offset_at)[0] + len(packet))
    assert odd_files.second_picture(bytes(late)) == odd_files.second_picture(data)
    assert odd_files.second_picture(write(bytes(late))) == odd_files.second_picture(data)


def test_other_properties_and_languages_of_an_xmp_packet_are_kept():
    merged = xmp.merge(odd_files.RICH_XMP, Tags("New", "Said", ("a", "b"), {"de": ("Neu", "Gesagt")}))
    text = merged.decode()
    assert 'photoshop:City="Łódź"' in text
    assert "Ada &amp; Grace" in text
    assert "place|Łódź" in text
    assert "Alter Titel" in text
    assert "Old title" not in text
    assert ">old<" not in text
    assert xmp.read(merged) == Tags("New", "Said", ("a", "b"))


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_packet_in_another_unicode_encoding_becomes_utf8(codec):
    packet = odd_files.RICH_XMP.decode().encode(codec)
    assert 'photoshop:City="Łódź"' in xmp.merge(packet, TAGS).decode()


@pytest.mark.parametrize(
    "packet",
    [
        b"<x",
        b"<a/>",
        b"\xff\xfe\x00",
        b'<!DOCTYPE r [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><r>&b;</r>',
        b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><r/>',
        '<!DOCTYPE r [<!ENTITY a SYSTEM "http://127.0.0.1/">]><r>&a;</r>'.encode("utf-16"),
    ],
)
def test_a_packet_that_is_broken_or_declares_entities_is_replaced_and_said_to_be(packet):
    data = odd_files.with_segments(odd_files.jpeg(), odd_files.segment(0xE1, jpeg.XMP + packet))
    pieces, notes = jpeg.write(data, TAGS)
    assert "XMP packet was replaced" in notes[0]
    standard, _ = jpeg.read_xmp(jpeg.parse(b"".join(pieces)))
    assert standard is not None
    assert xmp.read(standard).title == TAGS.title


def long_packet(size: int) -> bytes:
    entries = "".join(f"<rdf:li>{'history ' * 8}{n}</rdf:li>" for n in range(size // 80))
    return (
        odd_files.RICH_XMP.decode()
        .replace(
            "<dc:creator>", f'<p:History xmlns:p="urn:p"><rdf:Seq>{entries}</rdf:Seq></p:History><dc:creator>'
        )
        .encode()
    )


def split_file(size: int = 150_000) -> bytes:
    """A JPEG whose XMP was too large for one segment, as Adobe's applications write it."""
    packet = xmp.merge_split(None, None, Tags("t"), 65000)
    assert packet.extended is None
    packet = xmp.merge_split(long_packet(size), None, Tags("old", "old", ("old",)), 65504)
    assert packet.extended is not None
    segments = [odd_files.segment(0xE1, jpeg.XMP + packet.standard)]
    for at in range(0, len(packet.extended), 60_000):
        head = jpeg.EXTENDED + packet.guid.encode() + struct.pack(">II", len(packet.extended), at)
        segments.append(odd_files.segment(0xE1, head + packet.extended[at : at + 60_000]))
    return odd_files.with_segments(odd_files.jpeg(), *segments)


def test_a_packet_over_64_kb_is_split_into_standard_and_extended_and_stays_whole():
    data = split_file()
    standard, extended = jpeg.read_xmp(jpeg.parse(write(data)))
    assert standard is not None
    assert extended is not None
    assert len(standard) <= 65504
    assert hashlib.md5(extended).hexdigest().upper() == xmp.extended_guid(standard)
    assert extended.count(b"<rdf:li>history") == 150_000 // 80
    assert xmp.read(standard) == Tags(TAGS.title, TAGS.description, TAGS.keywords)


def test_an_extended_part_that_need_not_change_is_not_touched():
    data = split_file()
    before, after = jpeg.read_xmp(jpeg.parse(data))[1], jpeg.read_xmp(jpeg.parse(write(data)))[1]
    assert before == after


@needs_exiftool
def test_exiftool_reads_a_split_packet_whole(tmp_path):
    (tmp_path / "split.jpg").write_bytes(
        write(split_file(75_000))
    )  # it reads at most a thousand entries of a list
    row = metadata(tmp_path)["split.jpg"]
    assert row["XMP-dc:Title"] == TAGS.title
    assert row["XMP-photoshop:City"] == "Łódź"
    assert len(row["XMP-p:History"]) == 75_000 // 80


def test_an_extended_part_with_pieces_missing_is_left_as_it_is():
    data = split_file()
    second = [m for m in range(len(data)) if data.startswith(jpeg.EXTENDED, m)][1]
    size = struct.unpack(">H", data[second - 2 : second])[0]
    broken = data[: second - 4] + data[second - 2 + size :]
    pieces = [s.payload for s in jpeg.parse(broken).segments if s.payload.startswith(jpeg.EXTENDED)]
    kept = [s.payload for s in jpeg.parse(write(broken)).segments if s.payload.startswith(jpeg.EXTENDED)]
    assert kept == pieces


def test_latin1_text_beside_ours_is_converted_with_the_charset_it_is_marked_with():
    merged = iptc.merge_resources(odd_files.latin1_iptc(), TAGS)
    resources = {number: body for _, number, _, body in iptc.parse_resources(merged)}
    datasets = dict(iptc.parse(resources[iptc.IPTC_RESOURCE]))
    assert datasets[(1, 90)] == b"\x1b%G"
    assert datasets[(2, 90)].decode() == "Köln"
    assert iptc.DIGEST_RESOURCE not in resources
    assert 0x03ED in resources


def test_resources_spread_over_two_segments_are_joined_and_split_again():
    body = odd_files.latin1_iptc() + b"8BIM\x04\x0f\0\0" + struct.pack(">I", 70_000) + bytes(70_000)
    parts = [jpeg.PHOTOSHOP + body[i : i + 65_000] for i in range(0, len(body), 65_000)]
    data = odd_files.with_segments(odd_files.jpeg(), *(odd_files.segment(0xED, part) for part in parts))
    new = jpeg.parse(write(data)).resources()
    assert {number: len(b) for _, number, _, b in iptc.parse_resources(new)}[0x040F] == 70_000
    assert iptc.read_resources(new).title == TAGS.title


@pytest.mark.parametrize("cut", range(60, 70))
def test_fields_are_cut_on_a_character_border(cut):
    text = "ä" * 30 + "日" * 30
    assert text.startswith(cut_utf8(text, cut).decode())
    assert len(cut_utf8(text, cut)) <= cut


def test_png_profiles_of_imagemagick_are_merged_not_doubled():
    once = write(odd_files.png())
    twice = write(once, Tags("Another", "Another", ("one",)))
    assert twice.count(b"Raw profile type iptc") == 1
    assert twice.count(b"XML:com.adobe.xmp") == 1
    resources = png.read_iptc(png.parse(twice))
    assert resources is not None
    assert iptc.read_resources(resources) == Tags("Another", "Another", ("one",))


def test_compressed_xmp_that_is_a_bomb_is_not_unpacked_but_replaced():
    bomb = zlib.compress(bytes(40 * 2**20))
    data = odd_files.with_chunks(
        odd_files.png(), odd_files.chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)
    )
    assert png.read_xmp(png.parse(data)) is None
    assert len(write(data)) < len(data)


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


@settings(max_examples=60, deadline=None)
@given(words, words, st.lists(words, max_size=60))
def test_whatever_is_written_is_read_back_as_it_was_limited(title, description, keywords):
    tags = Tags(title, description, tuple(keywords)).limited()
    for data in (odd_files.jpeg(), odd_files.png()):
        new = write(data, tags)
        packet = (
            jpeg.read_xmp(jpeg.parse(new))[0] if data[:2] == b"\xff\xd8" else png.read_xmp(png.parse(new))
        )
        assert packet is not None
        # An XML parser gives spaces at the ends of an element back; readers of ours trim them.
        found = xmp.read(packet)
        assert found.title == tags.title.strip()
        assert found.keywords == tuple(k for k in tags.keywords if k.strip())


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_a_jpeg_damaged_anywhere_is_refused_or_written_never_a_crash(noise, at):
    data = odd_files.with_exif(odd_files.jpeg(), odd_files.exif())
    broken = data[: at % len(data)] + noise + data[at % len(data) + len(noise) :]
    with contextlib.suppress(jpeg.BadJpeg):
        jpeg.parse(write(b"\xff\xd8" + broken[2:]))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(8, 400))
def test_a_png_damaged_anywhere_is_refused_or_written_never_a_crash(noise, at):
    data = odd_files.every_odd_file()["text.png"]
    broken = data[: at % len(data)] + noise + data[at % len(data) + len(noise) :]
    with contextlib.suppress(png.BadPng):
        png.parse(b"".join(png.write(png.SIGNATURE + broken[8:], TAGS)[0]))


def test_limits_are_those_of_the_contract():
    tags = Tags("t" * 900, "d" * 5000, tuple(f"{n} " + "k" * 200 for n in range(80))).limited()
    assert len(tags.title) == 500
    assert len(tags.description) == 2000
    assert len(tags.keywords) == 50
    assert max(map(len, tags.keywords)) == 100


def test_text_is_cut_at_a_word_and_cleaned_of_control_characters():
    assert clean("one\x00 two\u200b\tthree " * 3, 20).startswith("one two")
    assert clean("alpha beta gamma delta", 18) == "alpha beta gamma…"
    assert unique_keywords(["Tram", "tram", " ", "a;b, c"]) == ("Tram", "a b c")
