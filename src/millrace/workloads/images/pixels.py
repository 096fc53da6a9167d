"""What a picture looks like, measured on a small upright copy of it: no model, no network.

The copy has at most 512 pixels a side; its shares and thresholds are those of ordinary viewing.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from millrace.errors import BadInput
from millrace.workloads.images import jpeg, png
from millrace.workloads.images.inspection import Inspection

SIDE = 512
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NAMED = {
    "black": "000000", "dark grey": "404040", "grey": "808080", "light grey": "c8c8c8", "white": "ffffff",
    "red": "d81e1e", "dark red": "7d1414", "orange": "f08020", "brown": "7a4a24", "dark brown": "40281a",
    "tan": "c8a070", "beige": "e8dcc0", "yellow": "f5e03c", "gold": "c89a28", "olive": "707028",
    "light green": "a0d890", "green": "3c9640", "dark green": "1c4a24", "turquoise": "40c8b8",
    "teal": "1e7878", "light blue": "a0c8ec", "sky blue": "5aa8e0", "blue": "2858c8", "navy": "14285a",
    "purple": "7030a0", "violet": "9a78d8", "lavender": "cfc0ea", "pink": "f0a0b8", "magenta": "d02890",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """What was measured.

    colours      name → share of the picture, the largest first, at most five.
    monochrome   whether it has no colour to speak of.
    sharpness    variance of the Laplacian of the 512-pixel copy (0: flat; above 100: sharp), None
                 where there is too little in it to tell.
    brightness   median luminance, 0–1; ``dark`` and ``bright`` its 2nd and 98th percentile.
    clipped      share of pixels that are pure white.
    flat         share of neighbouring pixels that are alike: near 1 in drawings and screenshots.
    edges        share of neighbouring pixels that differ strongly.
    fingerprint  64-bit perceptual hash, 16 hexadecimal digits.
    """

    colours: dict[str, float]
    monochrome: bool
    sharpness: float | None
    brightness: float
    dark: float
    bright: float
    clipped: float
    flat: float
    edges: float
    fingerprint: str


def decode(data: bytes, facts: Inspection, side: int = SIDE) -> Image.Image:
    """Return an upright RGB copy of at most ``side`` pixels; transparent parts become white.

    Every byte of the picture data is decoded, so that a truncated file is found out. BadInput with
    code ``broken_image`` when it cannot be. Metadata is not handed to the decoder at all.
    """
    plain = _plain_jpeg(data) if facts.format == "JPEG" else png.parse(data).pixels_only()
    try:
        with warnings.catch_warnings():
            # Dimensions were checked against the limit of the settings, which is the one that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(plain), formats=[facts.format])
        if image.size != (facts.width, facts.height):
            raise BadInput("The image is damaged: it states two different sizes", code="broken_image")
        image.draft("RGB", (side, side))
        image.load()
        small = _reduced(image, side)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"The image is damaged or truncated: {error}", code="broken_image") from error
    turn = _TURNS.get(facts.orientation)
    return small.transpose(turn) if turn is not None else small


def _plain_jpeg(data: bytes) -> bytes:
    parsed = jpeg.parse(data)
    kept = [s.raw() for s in parsed.segments if not 0xE1 <= s.marker <= 0xED and s.marker != 0xFE]
    return b"".join((b"\xff\xd8", *kept, parsed.scans))


def _reduced(image: Image.Image, side: int) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit grey instead of scaling it.
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "1":
        image = image.convert("L")
    image.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    return image.convert("RGB")


def thumbnail(copy: Image.Image) -> bytes:
    """Return the copy as a JPEG: at most 512 pixels a side, enough for a tile on any screen."""
    out = io.BytesIO()
    copy.save(out, "JPEG", quality=80)
    return out.getvalue()


def look(copy: Image.Image) -> Look:
    """Measure an upright RGB copy, as ``decode`` makes it."""
    grey_image = copy.convert("L")
    grey = np.asarray(grey_image, dtype=np.float32)
    shades = np.cumsum(np.array(grey_image.histogram(), dtype=np.float64))
    dark, median, bright = (float(np.searchsorted(shades, shades[-1] * q)) / 255 for q in (0.02, 0.5, 0.98))
    colours, monochrome = _colours(copy)
    steps = np.abs(np.diff(grey, axis=1)) if grey.shape[1] > 1 else np.zeros((1, 1), np.float32)
    return Look(
        colours=colours,
        monochrome=monochrome,
        sharpness=_sharpness(grey),
        brightness=round(median, 3),
        dark=round(dark, 3),
        bright=round(bright, 3),
        clipped=round(float((grey >= 254).mean()), 3),
        flat=round(float((steps <= 1).mean()), 3),
        edges=round(float((steps > 40).mean()), 4),
        fingerprint=fingerprint(grey_image),
    )


def _sharpness(grey: NDArray[np.float32]) -> float | None:
    if min(grey.shape) < 16 or grey.std() < 4:
        return None
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    return round(float(laplacian.var()), 1)


@cache
def _palette() -> tuple[list[str], NDArray[np.float64]]:
    rgb = np.array([[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in _NAMED.values()])
    return list(_NAMED), _lab(rgb)


def _lab(rgb: NDArray[np.int64]) -> NDArray[np.float64]:
    """sRGB 0–255 to CIELAB, D65 (IEC 61966-2-1; CIE 15)."""
    linear = rgb / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def _colours(copy: Image.Image) -> tuple[dict[str, float], bool]:
    small = copy.copy()
    small.thumbnail((128, 128), Image.Resampling.BOX)
    reduced = small.quantize(24, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    counts = reduced.getcolors() or []
    table = np.array(reduced.getpalette() or [0, 0, 0]).reshape(-1, 3)
    names, named = _palette()
    shares: dict[str, float] = {}
    chroma = 0.0
    total = sum(count for count, _ in counts)
    labs = _lab(table)
    for count, index in counts:
        lab = labs[int(index)]  # type: ignore[arg-type]
        name = names[int(np.argmin(((named - lab) ** 2).sum(axis=1)))]
        shares[name] = shares.get(name, 0.0) + count / total
        chroma += count / total * float(np.hypot(lab[1], lab[2]))
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    kept = {name: round(share, 3) for name, share in ranked[:5] if share >= 0.06}
    return kept or {ranked[0][0]: round(ranked[0][1], 3)}, chroma < 3


@cache
def _cosines(size: int, count: int) -> NDArray[np.float64]:
    return np.cos(np.pi / size * np.outer(np.arange(count), np.arange(size) + 0.5))


def fingerprint(grey: Image.Image) -> str:
    """Return the DCT perceptual hash (Zauner 2010): 64 bits in hexadecimal."""
    values = np.asarray(grey.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float64)
    basis = _cosines(32, 9)
    low = (basis @ values @ basis.T)[1:, 1:]
    bits = (low > np.median(low)).flatten()
    return "".join(
        f"{int(''.join('1' if b else '0' for b in bits[i : i + 4]), 2):x}" for i in range(0, 64, 4)
    )


def distance(first: str, second: str) -> int:
    """Return in how many of 64 bits two fingerprints differ: 0 the same, up to 6 near duplicates."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


def may_hold_text(copy: Image.Image) -> bool:
    """Whether rows of letters may be in the picture: cheap, and made to say yes too often.

    Letters are dark and light with little between, and change often along a row: that is looked for
    in three neighbouring blocks, small letters at full size and large ones in a quarter.
    """
    for side in (SIDE, SIDE // 4):
        grey = copy.convert("L")
        grey.thumbnail((side, side), Image.Resampling.BOX)
        if _letter_rows(np.asarray(grey, dtype=np.float32)) >= 3:
            return True
    return False


def _letter_rows(grey: NDArray[np.float32]) -> int:
    rows, columns = grey.shape[0] // 16, grey.shape[1] // 16
    if not rows or columns < 3:
        return 0
    blocks = grey[: rows * 16, : columns * 16].reshape(rows, 16, columns, 16).swapaxes(1, 2)
    low = blocks.min(axis=(2, 3), keepdims=True)
    high = blocks.max(axis=(2, 3), keepdims=True)
    contrast = high - low
    edge = np.minimum(blocks - low, high - blocks) < 0.25 * contrast
    light = blocks > (low + high) / 2
    changes = (light[..., 1:] != light[..., :-1]).mean(axis=(2, 3))
    letters = (
        (contrast[..., 0, 0] > 50) & (edge.mean(axis=(2, 3)) > 0.66) & (changes > 0.08) & (changes < 0.45)
    )
    return int((letters[:, 2:] & letters[:, 1:-1] & letters[:, :-2]).sum())
