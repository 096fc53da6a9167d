"""What a picture's file says of itself, read from its structure alone: no pixel is decoded here.

Everything comes from strangers: sizes are checked before anything is unpacked, and a file that is
not a whole JPEG or PNG is refused with what it is instead.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millrace.errors import BadInput
from millrace.workloads.images import exif, iptc, jpeg, png, xmp
from millrace.workloads.images.pieces import Content
from millrace.workloads.images.tags import Tags

MAX_SCANS = 1000
_HEIF = {b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis"}
_PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%PDF", "a PDF document"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"8BPS", "a Photoshop document"),
    (b"\x1f\x8b", "a gzip archive"),
)


@dataclass(frozen=True, slots=True)
class Camera:
    """What took the picture, and how: whatever EXIF tells, None or empty where it does not."""

    make: str = ""
    model: str = ""
    lens: str = ""
    exposure: float | None = None
    aperture: float | None = None
    iso: int | None = None
    focal: float | None = None
    flash: bool | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """A picture's format, size and story.

    width, height   in pixels as stored; ``upright`` gives them as seen.
    orientation     EXIF 1–8.
    bits            a channel.
    colour          ``grey, rgb, cmyk, palette``; ``alpha`` whether parts can be transparent.
    taken           date and time of the photograph as the camera's clock had it, ``offset`` its
                    distance from UTC (``+02:00``) where known.
    latitude, longitude   degrees, north and east positive; altitude in metres.
    existing        title, description and keywords found in the file.
    """

    format: str
    width: int
    height: int
    bits: int
    colour: str
    alpha: bool = False
    progressive: bool = False
    animated: bool = False
    orientation: int = 1
    camera: Camera = field(default_factory=Camera)
    software: str = ""
    taken: datetime | None = None
    offset: str = ""
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    existing: Tags = field(default_factory=Tags)

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as a viewer shows them."""
        turned = self.orientation >= 5
        return (self.height, self.width) if turned else (self.width, self.height)


def media_type(data: Content) -> str | None:
    """Return ``image/jpeg`` or ``image/png`` by the first bytes, None for anything else."""
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    return "image/png" if data[:8] == png.SIGNATURE else None


def what_it_is(head: bytes) -> str:
    """Return in words what a file that is neither JPEG nor PNG seems to be."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "HEIC" if brand in _HEIF else "AVIF" if brand in (b"avif", b"avis") else "a video"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    for prefix, name in _PREFIXES:
        if head.startswith(prefix):
            return name
    text = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")) or b"<svg" in text:
        return "SVG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return "empty" if not head else "not an image known here"


def inspect(data: bytes, max_pixels: int) -> Inspection:
    """Read what a JPEG or PNG says of itself.

    BadInput with code ``unsupported_format`` for any other file, ``broken_image`` for a truncated or
    damaged one, ``too_many_pixels`` beyond ``max_pixels``.
    """
    kind = media_type(data)
    if kind is None:
        raise BadInput(
            f"Unsupported image format: this is {what_it_is(data[:4096])}; JPEG and PNG are supported",
            code="unsupported_format",
        )
    try:
        found = _jpeg(data) if kind == "image/jpeg" else _png(data)
    except (jpeg.BadJpeg, png.BadPng) as error:
        raise BadInput(f"The image is damaged or truncated: {error}", code="broken_image") from error
    if not found.width or not found.height:
        raise BadInput("The image is damaged: it has no width or no height", code="broken_image")
    if found.width * found.height > max_pixels:
        raise BadInput(
            f"The image has {found.width} × {found.height} pixels, more than the {max_pixels} allowed",
            code="too_many_pixels",
        )
    return found


def _jpeg(data: bytes) -> Inspection:
    parsed = jpeg.parse(data)
    scans = data.count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise jpeg.BadJpeg(f"it has {scans} scans, more than the {MAX_SCANS} a decoder should have to do")
    standard, _ = jpeg.read_xmp(parsed)
    colour = {1: "grey", 3: "rgb", 4: "cmyk"}.get(parsed.components, "other")
    return _told(
        Inspection(
            "JPEG", parsed.width, parsed.height, parsed.precision, colour, progressive=parsed.progressive
        ),
        parsed.first(0xE1, jpeg.EXIF),
        standard,
        parsed.resources(),
    )


def _png(data: bytes) -> Inspection:
    parsed = png.parse(data)
    png.check_bombs(parsed)
    colour = {0: "grey", 2: "rgb", 3: "palette", 4: "grey", 6: "rgb"}.get(parsed.colour, "other")
    alpha = parsed.colour in (4, 6) or any(c.type == b"tRNS" for c in parsed.chunks)
    found = Inspection(
        "PNG", parsed.width, parsed.height, parsed.depth, colour, alpha=alpha, animated=parsed.animated
    )
    profile = png.read_iptc(parsed)
    resources = profile if profile is None or profile[:4] == b"8BIM" else None
    return _told(found, png.read_exif(parsed), png.read_xmp(parsed), resources or b"")


def _told(found: Inspection, block: bytes | None, packet: bytes | None, resources: bytes) -> Inspection:
    """Return the inspection with what EXIF, XMP and IPTC tell; unreadable ones tell nothing."""
    values: dict[str, dict[int, Any]] = {"ifd0": {}, "exif": {}, "gps": {}}
    if block is not None:
        try:
            values = exif.read(block)
        except exif.BadExif:
            block = None
    ifd0, detail = values["ifd0"], values["exif"]
    orientation = ifd0.get(0x0112, 1)
    latitude, longitude = _position(values["gps"])
    return Inspection(
        found.format,
        found.width,
        found.height,
        found.bits,
        found.colour,
        found.alpha,
        found.progressive,
        found.animated,
        orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
        _camera(ifd0, detail),
        _text(ifd0.get(0x0131)),
        _moment(detail.get(0x9003)) or _moment(detail.get(0x9004)),
        _offset(detail.get(0x9011)),
        latitude,
        longitude,
        _altitude(values["gps"]),
        _existing(ifd0, packet, resources),
    )


def _existing(ifd0: dict[int, Any], packet: bytes | None, resources: bytes) -> Tags:
    """Return what the file already says, XMP before IPTC before EXIF; keywords are joined."""
    sources: list[Tags] = []
    if packet:
        try:
            sources.append(xmp.read(packet))
        except xmp.BadXmp:
            packet = None
    if resources:
        try:
            sources.append(iptc.read_resources(resources))
        except iptc.BadIptc:
            resources = b""
    words = exif.xp_text(ifd0.get(exif.XP_KEYWORDS)).split(";")
    sources.append(
        Tags(
            exif.xp_text(ifd0.get(exif.XP_TITLE)),
            _described(ifd0.get(exif.IMAGE_DESCRIPTION)),
            tuple(word.strip() for word in words if word.strip()),
        )
    )
    return Tags(
        next((s.title for s in sources if s.title), ""),
        next((s.description for s in sources if s.description), ""),
        _joined_keywords(sources),
    ).limited()


def _joined_keywords(sources: list[Tags]) -> tuple[str, ...]:
    """Join the keywords of several sources, leaving out IPTC's copies that were cut to 64 bytes."""
    joined: dict[str, str] = {}
    for source in sources:
        for word in source.keywords:
            cut = len(word.encode()) >= iptc.KEYWORD_BYTES - 3
            if not (cut and any(known.startswith(word.rstrip("\ufffd")) for known in joined.values())):
                joined.setdefault(word.casefold(), word)
    return tuple(joined.values())


# What cameras write into ImageDescription by themselves says nothing about the picture.
_BY_CAMERAS = re.compile(
    r"^(OLYMPUS DIGITAL CAMERA|SONY DSC|MINOLTA DIGITAL CAMERA|KONICA MINOLTA.*|DIGITAL CAMERA|"
    r"Exif_JPEG_PICTURE|DCIM.*|SAMSUNG.*|DIGITAL IMAGE|default|untitled|image|picture|[\W_]*)$",
    re.IGNORECASE,
)


def _described(value: Any) -> str:
    text = _text(value)
    return "" if _BY_CAMERAS.match(text) else text


def _text(value: Any) -> str:
    return " ".join(str(value).split()) if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    if isinstance(value, tuple):
        value = value[0] if value else None
    if isinstance(value, (int, float)) and math.isfinite(value) and value > 0:
        return float(value)
    return None


def _camera(ifd0: dict[int, Any], detail: dict[int, Any]) -> Camera:
    iso, flash = _number(detail.get(0x8827)), detail.get(0x9209)
    return Camera(
        make=_text(ifd0.get(0x010F))[:100],
        model=_text(ifd0.get(0x0110))[:100],
        lens=_text(detail.get(0xA434))[:100],
        exposure=_number(detail.get(0x829A)),
        aperture=_number(detail.get(0x829D)),
        iso=int(iso) if iso is not None and iso < 10**8 else None,
        focal=_number(detail.get(0x920A)),
        flash=bool(flash & 1) if isinstance(flash, int) else None,
    )


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return moment if moment.year >= 1826 else None


def _offset(value: Any) -> str:
    text = _text(value)
    return text if re.fullmatch(r"[+-]\d\d:\d\d|Z", text) else ""


def _degrees(value: Any, reference: Any, negative: str, limit: float) -> float | None:
    parts = value if isinstance(value, tuple) else (value,)
    numbers = [part for part in parts if isinstance(part, (int, float))]
    if not numbers or len(numbers) != len(parts) or len(parts) > 3:
        return None
    degrees: float = sum(number / 60**index for index, number in enumerate(numbers))
    if not 0 <= degrees <= limit:
        return None
    return -degrees if _text(reference).upper().startswith(negative) else degrees


def _position(gps: dict[int, Any]) -> tuple[float | None, float | None]:
    latitude = _degrees(gps.get(2), gps.get(1), "S", 90)
    longitude = _degrees(gps.get(4), gps.get(3), "W", 180)
    # Cameras without a fix write zeros; Null Island has no photographers.
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None, None
    return round(latitude, 6), round(longitude, 6)


def _altitude(gps: dict[int, Any]) -> float | None:
    value = gps.get(6)
    if not isinstance(value, (int, float)) or not -12_000 < value < 100_000:
        return None
    below = gps.get(5) in (1, b"\1")
    return round(-value if below else float(value), 1)
