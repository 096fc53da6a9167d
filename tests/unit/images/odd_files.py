"""Makes pictures that are odd in one way each, for tests of what is read and written."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, ImageDraw, PngImagePlugin


def gradient(size=(64, 48), mode="RGB"):
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    for x in range(size[0]):
        draw.line([(x, 0), (x, size[1])], fill=(x * 255 // size[0], 120, 255 - x * 200 // size[0]))
    draw.ellipse([size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2], fill=(250, 240, 20))
    return image.convert(mode)


def jpeg(image=None, **options) -> bytes:
    out = io.BytesIO()
    (image or gradient()).save(out, "JPEG", **options)
    return out.getvalue()


def png(image=None, **options) -> bytes:
    out = io.BytesIO()
    (image or gradient()).save(out, "PNG", **options)
    return out.getvalue()


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_segments(data: bytes, *segments: bytes, after_jfif: bool = True) -> bytes:
    at = 2
    if after_jfif and data[2:4] == b"\xff\xe0":
        at = 4 + struct.unpack(">H", data[4:6])[0]
    return data[:at] + b"".join(segments) + data[at:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    return data[:33] + b"".join(chunks) + data[33:]


def exif(**tags) -> bytes:
    """A TIFF block with orientation, camera and date, and a maker note full of offsets."""
    block = Image.Exif()
    block[0x0112] = tags.get("orientation", 6)
    block[0x010F] = "Millrace Optics"
    block[0x0110] = "M-1"
    block[0x0132] = "2021:03:04 05:06:07"
    block.get_ifd(0x8769)[0x9003] = "2021:03:04 05:06:07"
    block.get_ifd(0x8769)[0x927C] = b"NOTE" + bytes(range(256)) * tags.get("note", 1)
    return block.tobytes()[6:]


def mpf(shift: int = 0) -> bytes:
    """A JPEG of two pictures with a Multi-Picture index, as phones and 3D cameras write them."""
    second = jpeg(gradient((32, 24)))
    first = jpeg(gradient((80, 60)))
    index_size = 4 + 8 + 2 + 3 * 12 + 4 + 32
    whole = len(first) + index_size + 4
    header_at = 20 + 4 + 4
    entries = struct.pack(">IIIHH", 0x20030000, whole, 0, 0, 0)
    entries += struct.pack(">IIIHH", 0x00020002, len(second), whole - header_at + shift, 0, 0)
    directory = struct.pack(">H", 3)
    directory += struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    directory += struct.pack(">HHII", 0xB001, 4, 1, 2)
    directory += struct.pack(">HHII", 0xB002, 7, 32, 8 + 2 + 36 + 4)
    body = b"MPF\0MM\0*" + struct.pack(">I", 8) + directory + struct.pack(">I", 0) + entries
    assert len(body) == index_size
    return with_segments(first, segment(0xE2, body)) + second


def second_picture(data: bytes) -> bytes:
    """The second picture of a Multi-Picture file, found by its index as a viewer finds it."""
    at = data.index(b"MPF\0") + 4
    size, offset = struct.unpack_from(">II", data, at + 8 + 2 + 36 + 4 + 16 + 4)
    return data[at + offset : at + offset + size]


def every_odd_file() -> dict[str, bytes]:
    """Name → file: all of them can be decoded, and carry what a careless writer would lose."""
    icc = bytes(range(256)) * 300
    files = {f"orientation-{n}.jpg": with_exif(jpeg(), exif(orientation=n)) for n in range(1, 9)}
    files |= {
        "plain.jpg": jpeg(),
        "grey.jpg": jpeg(gradient(mode="L")),
        "cmyk.jpg": jpeg(gradient(mode="CMYK")),
        "progressive.jpg": jpeg(progressive=True),
        "restart-markers.jpg": jpeg(restart_marker_blocks=1),
        "comment.jpg": jpeg(comment=b"made by hand"),
        "icc.jpg": jpeg(icc_profile=icc),
        "huge-exif.jpg": with_exif(jpeg(), exif(note=254)),
        "trailing.jpg": with_exif(jpeg(), exif()) + b"trailing data \xff\xd8 of any kind" * 9,
        "mpf.jpg": mpf(),
        "fill-bytes.jpg": jpeg().replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
        "no-jfif.jpg": without_jfif(jpeg()),
        "xmp.jpg": with_segments(jpeg(), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + RICH_XMP)),
        "latin1-iptc.jpg": with_segments(jpeg(), segment(0xED, b"Photoshop 3.0\0" + latin1_iptc())),
        "plain.png": png(),
        "16-bit.png": sixteen_bit(),
        "grey16.png": png(Image.new("I;16", (20, 20), 40000)),
        "palette.png": png(gradient(mode="P"), transparency=3),
        "rgba.png": png(gradient(mode="RGBA")),
        "interlaced.png": interlaced(),
        "icc.png": png(icc_profile=icc),
        "exif.png": png(exif=exif(orientation=3)),
        "text.png": png(pnginfo=png_text()),
        "animated.png": animated(),
        "trailing.png": png() + b"after the end",
        "xmp.png": with_chunks(
            png(), chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(RICH_XMP))
        ),
    }
    return files


def with_exif(data: bytes, block: bytes) -> bytes:
    return with_segments(data, segment(0xE1, b"Exif\0\0" + block))


def without_jfif(data: bytes) -> bytes:
    return data[:2] + data[4 + struct.unpack(">H", data[4:6])[0] :]


def latin1_iptc() -> bytes:
    """City and headline in Latin-1, with no charset marked, and a digest of it."""
    records = b"".join(
        struct.pack(">BBBH", 0x1C, 2, number, len(value)) + value
        for number, value in ((0, b"\0\4"), (90, "Köln".encode("latin-1")), (105, "Ärger".encode("latin-1")))
    )
    resources = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records + b"\0" * (len(records) & 1)
    resources += (
        b"8BIM\x03\xed\0\0" + struct.pack(">I", 16) + bytes.fromhex("00480000000100020048000000010002")
    )
    return resources + b"8BIM\x04\x25\0\0" + struct.pack(">I", 16) + bytes(16)


def png_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Ada")
    info.add_text("Comment", "compressed " * 50, zip=True)
    info.add_itxt("Title", "Überschrift", lang="de")
    return info


def sixteen_bit() -> bytes:
    """RGB with 16 bits a channel, which Pillow reads but does not write."""
    width, height = 8, 6
    rows = b"".join(
        b"\0" + struct.pack(">24H", *(257 * ((x * y) % 256) for x in range(24))) for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def interlaced() -> bytes:
    """One Adam7 pass of a single pixel is the smallest interlaced picture."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    data = chunk(b"IDAT", zlib.compress(b"\0\x10\x20\x30"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def animated() -> bytes:
    out = io.BytesIO()
    gradient().save(out, "PNG", save_all=True, append_images=[gradient().rotate(90)], duration=100)
    return out.getvalue()


RICH_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmp:Rating="4" photoshop:City="Łódź">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Old title</rdf:li>
<rdf:li xml:lang="de-DE">Alter Titel</rdf:li></rdf:Alt></dc:title>
<dc:subject><rdf:Bag><rdf:li>old</rdf:li></rdf:Bag></dc:subject>
<dc:creator><rdf:Seq><rdf:li>Ada &amp; Grace</rdf:li></rdf:Seq></dc:creator>
</rdf:Description>
<rdf:Description rdf:about="" xmlns:lr="http://ns.adobe.com/lightroom/1.0/">
<lr:hierarchicalSubject><rdf:Bag><rdf:li>place|Łódź</rdf:li></rdf:Bag></lr:hierarchicalSubject>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()
