"""The stages of an image: fetch, analyse, write. They run in worker processes; each may run again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millrace import fetch as net
from millrace import sources
from millrace.engine.context import StageContext
from millrace.errors import BadInput, Transient, Unavailable
from millrace.workloads.images.inspection import media_type, what_it_is
from millrace.workloads.images.pieces import mapped, write_pieces
from millrace.workloads.images.settings import ImagesSettings

SOURCE = ".source"
THUMBNAIL = ".thumbnail.jpg"


def fetch(ctx: StageContext) -> Mapping[str, Any]:
    """Get hold of the image, and refuse at once what is none, or too large.

    Only a download is stored again; an upload and a local path stay where they are.
    """
    settings = _settings(ctx)
    kind = ctx.input.get("kind")
    if kind == "oversize":
        raise _too_large(int(ctx.input["bytes"]), settings.max_image_bytes)
    path = _download(ctx, settings) if kind == "url" else _original(ctx)
    size = path.stat().st_size
    if size > settings.max_image_bytes:
        raise _too_large(size, settings.max_image_bytes)
    with path.open("rb") as file:
        head = file.read(4096)
    found = media_type(head)
    if found is None:
        raise BadInput(
            f"Unsupported image format: this is {what_it_is(head)}; JPEG and PNG are supported",
            code="unsupported_format",
        )
    return {"bytes": size, "media_type": found}


def _too_large(size: int, limit: int) -> BadInput:
    return BadInput(
        f"Image is too large: {size / 1e6:.1f} MB, the limit is {limit / 2**20:.4g} MB",
        code="image_too_large",
    )


def _download(ctx: StageContext, settings: ImagesSettings) -> Path:
    given = net.FetchPolicy.of(ctx.site.get("fetch", {}))
    policy = net.FetchPolicy(
        given.allow_private,
        given.ports,
        min(given.max_bytes, settings.max_image_bytes),
        min(given.deadline, settings.fetch_timeout),
        given.redirects,
    )

    def tell(done: int, total: int | None) -> None:
        ctx.progress(done / total if total else 0.0, "fetching")

    try:
        return net.fetch(str(ctx.input["url"]), ctx.artifact(SOURCE), policy, progress=tell).path
    except (BadInput, Transient) as error:
        status = error.details.get("status")
        if error.code == "fetch_too_large":
            message = f"Image is too large: the limit is {settings.max_image_bytes / 2**20:.4g} MB"
        elif status is not None:
            message = f"Failed to download image: status code {status}"
        else:
            message = f"Failed to download image: {error.message}"
        raise type(error)(message, code=error.code, details=error.details) from error


def analyse(ctx: StageContext) -> Mapping[str, Any]:
    """Find out what the picture shows and make a title, a description and keywords of it."""
    from millrace.workloads.images import analysis, ocr, pixels
    from millrace.workloads.images.taggers import TaggerFailed, merged, open_tagger

    settings = _settings(ctx)
    data = _original(ctx).read_bytes()
    found = analysis.analyse(
        data,
        ctx.name,
        max_pixels=settings.max_pixels,
        read_text=settings.read_text,
        reader=lambda: ctx.model("images-ocr", ocr.load),
    )
    tags, notes = found.tags, []
    tagger: dict[str, Any] = {"engine": "none"}
    if settings.tagger != "none":
        ctx.progress(0.4, "tagging")
        started = time.monotonic()
        try:
            engine = ctx.model(
                ("images-tagger", settings.tagger), lambda: open_tagger(settings, Path(ctx.site["data_dir"]))
            )
            answer = engine.tag(found)
            tags = merged(found.tags, answer.tags)
            tagger = {"engine": settings.tagger, **answer.account}
        except (TaggerFailed, Unavailable) as error:
            notes.append(f"The tagger {settings.tagger} failed, the words are those of the analysis: {error}")
            tagger = {"engine": "none", "failed": settings.tagger, "error": str(error)}
        tagger["seconds"] = round(time.monotonic() - started, 3)
    if settings.existing == "keep":
        tags = analysis.kept(found.facts.existing, tags)
    ctx.artifact(THUMBNAIL).write_bytes(pixels.thumbnail(found.copy))
    return {
        "analysis": found.to_json(),
        "tags": tags.limited().to_json(),
        "existing": found.facts.existing.to_json(),
        "tagger": tagger,
        "sha256": found.sha256,
        "notes": notes,
    }


def write(ctx: StageContext) -> Mapping[str, Any]:
    """Put the words into the file's metadata, everything else untouched, and publish it."""
    from millrace.workloads.images import jpeg, png
    from millrace.workloads.images.tags import Tags

    original = _original(ctx)
    # Others may change a file of their own at any time.
    data = original.read_bytes() if ctx.input.get("kind") == "path" else mapped(original)
    tags = Tags.from_json(ctx.results["analyse"]["tags"])
    kind = media_type(data)
    try:
        pieces, notes = (jpeg if kind == "image/jpeg" else png).write(data, tags)
    except (jpeg.BadJpeg, png.BadPng) as error:
        raise BadInput(f"The image is damaged or truncated: {error}", code="broken_image") from error
    with ctx.artifact(file_name(ctx), kind).open("wb", buffering=0) as file:
        return {"notes": notes, "bytes": write_pieces(file.fileno(), pieces)}


def file_name(ctx: StageContext) -> str:
    """Return the name under which the processed image is published."""
    return sources.plain_name(ctx.name, "image")


def _original(ctx: StageContext) -> Path:
    kind = ctx.input.get("kind")
    if kind == "url":
        return ctx.published(SOURCE)
    if kind == "upload":
        return sources.uploaded(ctx, ctx.input)
    return sources.localise(ctx, ctx.input)


def _settings(ctx: StageContext) -> ImagesSettings:
    return ctx.model("images-settings", lambda: ImagesSettings.model_validate(dict(ctx.settings)))
