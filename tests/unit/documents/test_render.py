"""Pages as pictures: what is drawn, how large, and what happens where it cannot be."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from millrace.errors import NotFound, TooLarge, Unavailable
from millrace.workloads.documents import layout
from millrace.workloads.documents.document import Page
from millrace.workloads.documents.render import render
from millrace.workloads.documents.renderer import Renderer
from tests.unit.documents import samples


def image_of(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def dark(image: Image.Image, box: tuple[float, float, float, float]) -> int:
    """Count the dark pixels inside a box."""
    crop = image.convert("L").crop(tuple(round(x) for x in box))  # type: ignore[arg-type]
    return sum(crop.histogram()[:100])


def test_a_pdf_page_has_the_width_asked_for(tmp_path: Path) -> None:
    path = samples.pdf(tmp_path / "a.pdf", "first", "second")
    image = image_of(render({"form": "pdf", "path": str(path), "index": 1, "width": 300}))
    assert image.format == "PNG"
    assert image.width == 300
    assert image.height == pytest.approx(300 * 842 / 595, abs=1)


def test_a_picture_is_shrunk(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(samples.png("words"))
    image = image_of(render({"form": "picture", "path": str(tmp_path / "a.png"), "width": 500}))
    assert image.size == (500, 200)


def test_boxes_of_set_text_lie_on_its_ink() -> None:
    text = "\n" * 3 + "     here" + "\n" * 3 + "漢字 there"
    page = Page(1, text)
    size, rows = layout.sheet(page)
    png = render({"form": "text", "page": page.to_json(), "width": round(size[0] * 2)})
    image = image_of(png)
    for word in ("here", "there"):
        start = text.index(word)
        ((box,),) = layout.boxes(rows, [(start, start + len(word))])
        scaled = tuple(2 * x for x in box)
        assert dark(image, scaled) > 50, word  # type: ignore[arg-type]
    blank = layout.boxes(rows, [(3, 8)])[0][0]
    assert dark(image, tuple(2 * x for x in blank)) == 0  # type: ignore[arg-type]


def test_a_very_long_page_stays_within_bounds_and_says_that_it_was_cut() -> None:
    page = Page(1, "\n".join(f"line {n}" for n in range(5000)))
    _, rows = layout.sheet(page)
    assert rows[-1][1] == "… 4603 more lines"
    image = image_of(render({"form": "text", "page": page.to_json(), "width": 2400}))
    assert image.width * image.height <= 8_010_000


def one(renderer: Renderer, *wanted: dict[str, Any]) -> list[bytes]:
    async def run() -> list[bytes]:
        return list(await asyncio.gather(*(renderer.png(entry) for entry in wanted)))

    try:
        return asyncio.run(run())
    finally:
        renderer._drop()


def test_a_process_renders_one_request_after_the_other(tmp_path: Path) -> None:
    path = samples.pdf(tmp_path / "a.pdf", *(f"page {n}" for n in range(3)))
    pictures = one(
        Renderer(2 << 30), *({"form": "pdf", "path": str(path), "index": n, "width": 200} for n in range(3))
    )
    assert len(set(pictures)) == 3
    assert {image_of(png).width for png in pictures} == {200}


def test_a_broken_file_is_told_and_the_next_request_works(tmp_path: Path) -> None:
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 broken")
    good = samples.pdf(tmp_path / "a.pdf", "fine")

    async def run() -> bytes:
        renderer = Renderer(2 << 30)
        try:
            with pytest.raises(NotFound, match="cannot be shown"):
                await renderer.png({"form": "pdf", "path": str(tmp_path / "bad.pdf"), "index": 0, "width": 9})
            assert renderer._process is not None
            renderer._process.kill()  # as if it had ended of idleness
            renderer._process.wait()
            return await renderer.png({"form": "pdf", "path": str(good), "index": 0, "width": 99})
        finally:
            renderer._drop()

    assert image_of(asyncio.run(run())).width == 99


def test_a_page_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match=r"longer than 0.01 s"):
        one(Renderer(2 << 30, seconds=0.01), {"form": "text", "page": Page(1, "x").to_json(), "width": 2000})


def test_a_process_that_cannot_start_for_want_of_memory_is_unavailable() -> None:
    with pytest.raises((Unavailable, NotFound)):
        one(Renderer(64 << 20), {"form": "text", "page": Page(1, "x").to_json(), "width": 2000})
