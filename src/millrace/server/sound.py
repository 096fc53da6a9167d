"""An item's inputs, and what a browser needs to show and play them: peaks, excerpts, a playable form.

Each is made by a process of its own (see ``millrace.media.listening``) the first time somebody asks, and kept
on local disk, the least lately used dropped first.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from millrace.engine.engine import Engine
from millrace.errors import BadInput, NotFound, Unavailable
from millrace.server import examples
from millrace.server.artifacts import serve_blob, serve_file
from millrace.server.jobs import Index, JobId
from millrace.server.services import Services
from millrace.sources import regular_file

_KEPT_BYTES = 1024 * 1024 * 1024
_ABREAST = 2
_PATIENCE = 900.0
_ENDINGS: Mapping[str, tuple[str, str]] = {
    "peaks": ("peaks.json", "application/json"),
    "clip": ("clip.wav", "audio/wav"),
    "listen": ("listen.mp3", "audio/mpeg"),
}
_TYPES: Mapping[str, str] = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
}
REFERENCES = ("upload", "path", "url")


def references(given: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the files that an item's input names: itself as ``input``, or those it holds by their keys."""
    if given.get("kind") in REFERENCES:
        return {"input": given}
    return {
        key: value
        for key, value in given.items()
        if isinstance(value, Mapping) and value.get("kind") in REFERENCES
    }


class Sounds:
    """Makes and keeps what was asked for; the same is never made twice at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gate = asyncio.Semaphore(_ABREAST)
        self._making: dict[str, asyncio.Task[Path]] = {}

    async def get(self, source: Source, view: str, **wanted: Any) -> Path:
        """Return a file with what is wanted. BadInput where the recording cannot be read."""
        asked = json.dumps([source.identity, view, wanted], sort_keys=True)
        place = self._folder / f"{hashlib.sha256(asked.encode()).hexdigest()}.{_ENDINGS[view][0]}"
        try:
            await asyncio.to_thread(os.utime, place)
            return place
        except FileNotFoundError:
            pass
        task = self._making.get(place.name)
        if task is None:
            task = asyncio.create_task(self._make(source, place, {"view": view, **wanted}))
            self._making[place.name] = task
            task.add_done_callback(lambda _: self._making.pop(place.name, None))
        # Whoever asked first may go away; others may wait for the same.
        return await asyncio.shield(task)

    async def _make(self, source: Source, place: Path, asked: Mapping[str, Any]) -> Path:
        aside = place.with_name(f"{uuid.uuid4().hex}.part")
        scratch = place.with_name(f"{uuid.uuid4().hex}.input")
        async with self._gate:
            try:
                await asyncio.to_thread(self._make_room)
                path = await asyncio.to_thread(source.local, scratch)
                await _run({**asked, "path": str(path), "target": str(aside)})
                await asyncio.to_thread(os.replace, aside, place)
            finally:
                aside.unlink(missing_ok=True)
                scratch.unlink(missing_ok=True)
        return place

    def _make_room(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = sorted(
            ((entry.stat().st_atime, entry.stat().st_size, entry.path) for entry in os.scandir(self._folder)),
            reverse=True,
        )
        total = 0
        for _, size, path in kept:
            total += size
            if total > _KEPT_BYTES:
                Path(path).unlink(missing_ok=True)


async def _run(asked: Mapping[str, Any]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "millrace.media.listening"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        told, _ = await asyncio.wait_for(process.communicate(json.dumps(asked).encode()), _PATIENCE)
    except TimeoutError:
        raise Unavailable("the recording took too long to be read") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return
    try:
        error = json.loads(told)
    except ValueError:
        raise BadInput("the recording could not be read: what decodes it broke down over it") from None
    raise BadInput(str(error["message"]), code=str(error["code"]))


class Source:
    """A recording: a stored blob, or a file below a media root. ``identity`` changes with its content."""

    def __init__(self, services: Services, reference: Mapping[str, Any], identity: str = "") -> None:
        self._blobs = services.blobs
        self._roots = services.settings.media_roots
        self.reference = reference
        if identity:
            self.identity = identity
        elif reference["kind"] == "path":
            stat = self.path.stat()
            self.identity = f"{self.path} {stat.st_mtime_ns} {stat.st_size}"
        else:
            self.identity = f"{reference['key']} {self._blobs.stat(reference['key']).etag}"

    @property
    def path(self) -> Path:
        """The file of a path reference; NotFound where it is gone."""
        try:
            return regular_file(str(self.reference["path"]), self._roots)
        except BadInput as error:
            raise NotFound(error.message) from error

    def local(self, scratch: Path) -> Path:
        """Return a local file with its content, at ``scratch`` where it must be copied. Blocks."""
        if self.reference["kind"] == "path":
            return self.path
        key = str(self.reference["key"])
        return self._blobs.path(key) or self._blobs.local_path(key, scratch)


async def find_source(services: Services, engine: Engine, job_id: str, idx: int, name: str) -> Source:
    """Return the recording of that name: an input of the item, or one of its artifacts.

    NotFound where there is none, or where it was fetched from a URL and not kept.
    """
    item = await engine.item(job_id, idx)
    reference = references(item.input).get(name)
    if reference is not None and reference["kind"] != "url":
        return await asyncio.to_thread(Source, services, reference)
    artifacts = {artifact.name: artifact for artifact in await engine.artifacts(job_id, idx)}
    # Workloads that fetch their input keep it under this name.
    kept = next((n for n in (name, "source", ".source") if n in artifacts and (n == name or reference)), None)
    if kept is not None:
        found = artifacts[kept]
        return Source(services, {"kind": "upload", "key": found.key}, found.sha256)
    if reference is not None:
        raise NotFound(f"{reference.get('url')} was fetched for the job and not kept")
    named = ", ".join([*references(item.input), *artifacts])
    raise NotFound(f"item {idx} has no recording {name!r}; there are: {named}")


def router(services: Services) -> APIRouter:
    """Return the routes below ``/jobs/{job_id}/items/{idx}``."""
    api = APIRouter(prefix="/jobs/{job_id}/items/{idx}", tags=["jobs"])
    sounds = Sounds(services.settings.tmp_dir / "sounds")

    @api.get("/inputs/{name}", summary="An item's input as it was given", **examples.INPUT)
    async def original(request: Request, job_id: JobId, idx: Index, name: str) -> Response:
        """Send an upload, or a file below a media root; `input`, or what the workload calls it (`master`)."""
        source = await find_source(services, services.engine, job_id, idx, name)
        shown = str(source.reference.get("name") or Path(str(source.reference.get("path", name))).name)
        media_type = _TYPES.get(Path(shown).suffix.lower(), "application/octet-stream")
        if source.reference["kind"] == "path":
            return await serve_file(request, source.path, name=shown, media_type=media_type)
        return await serve_blob(
            request, services.blobs, source.reference["key"], name=shown, media_type=media_type
        )

    @api.get("/sound/{name}/{view}", summary="Peaks, an excerpt or a playable form", **examples.SOUND)
    async def sound(
        request: Request,
        job_id: JobId,
        idx: Index,
        name: str,
        view: Literal["peaks", "clip", "listen"],
        stream: Annotated[int | None, Query(ge=0, lt=1000, description="of several audio streams")] = None,
        start: Annotated[float, Query(ge=-1e6, le=1e6, description="of a clip, in seconds")] = 0.0,
        seconds: Annotated[float, Query(gt=0, le=60, description="of a clip")] = 20.0,
    ) -> Response:
        """Of an input or artifact: ``peaks`` (JSON), a ``clip`` (WAV), or all of it to ``listen`` to (MP3).

        A clip begins and ends to the sample where it is asked to, whatever the format; silence fills it up.
        """
        source = await find_source(services, services.engine, job_id, idx, name)
        wanted: dict[str, Any] = {"stream": stream}
        if view == "clip":
            wanted |= {"start": round(start, 4), "seconds": round(seconds, 3)}
        place = await sounds.get(source, view, **wanted)
        ending, media_type = _ENDINGS[view]
        return await serve_file(request, place, name=ending, media_type=media_type, disposition="inline")

    return api
