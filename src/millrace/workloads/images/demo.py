"""The images' part of ``millrace demo``: pictures drawn on the spot, tagged through the batch contract."""

from __future__ import annotations

import base64
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from millrace.workloads import DemoJob, DemoStand


def demo(stand: DemoStand) -> DemoJob:
    """Draw a landscape with a camera's EXIF, a smaller copy of it and a poster, and submit them."""
    pictures = draw(stand.media)
    images = [{"base64": base64.b64encode(p.read_bytes()).decode(), "name": p.name} for p in pictures]
    answer = stand.client.post("/api/v1/batch", json={"images": images}).raise_for_status()
    job = str(answer.json()["job_id"])

    def tell() -> list[str]:
        lines = []
        for index in range(len(pictures)):
            found = stand.client.get(f"/api/v1/batch/{job}/images/{index}").raise_for_status().json()
            words = found.get("metadata", {})
            same = f" (shows the same as image {found['duplicate_of']})" if "duplicate_of" in found else ""
            lines.append(f"{found['original_filename']}: {words.get('title', found['status'])}{same}")
            lines.append(f"    {', '.join(words.get('keywords', [])[:9])}")
        return lines

    return DemoJob(job, "titles, descriptions and keywords into pictures, POST /api/v1/batch", tell=tell)


def draw(folder: Path) -> list[Path]:
    """Draw the pictures into ``folder``; return their paths."""
    scene = _landscape()
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Millrace", "Demo One", 1
    exif.get_ifd(0x8769)[0x9003] = "2025:06:14 18:42:10"
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 33.0, 36.0), 3: "E", 4: (7.0, 35.0, 20.0)})
    paths = [folder / name for name in ("DSC_0042.jpg", "DSC_0042-small.png", "scan.png")]
    scene.save(paths[0], quality=90, exif=exif)
    scene.resize((480, 320)).save(paths[1])
    _poster().save(paths[2])
    return paths


def _landscape() -> Image.Image:
    image = Image.new("RGB", (1200, 800), "#a0c8ec")
    pen = ImageDraw.Draw(image)
    pen.ellipse([900, 90, 1030, 220], fill="#f5e03c")
    ridge = [(0, 520), (300, 240), (620, 540), (860, 330), (1200, 560), (1200, 800), (0, 800)]
    pen.polygon(ridge, fill="#1c4a24")
    pen.rectangle([0, 620, 1200, 800], fill="#3c9640")
    return image.filter(ImageFilter.GaussianBlur(2))


def _poster() -> Image.Image:
    image = Image.new("RGB", (900, 600), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle([0, 0, 900, 40], fill="#d81e1e")
    pen.text((60, 120), "GARDEN PARTY", fill="black", font=ImageFont.load_default(86))
    pen.text((60, 270), "Saturday 14 June, from 3 pm", fill="#2858c8", font=ImageFont.load_default(44))
    return image
