"""Takes a batch in: JSON with URLs and base64, or a form with files; checks it; makes the job."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from millrace.engine.model import Job, NewItem, NewJob
from millrace.errors import InvalidRequest
from millrace.server.idempotency import idempotency
from millrace.server.uploads import blocks
from millrace.sources import plain_name
from millrace.workloads.images import KIND
from millrace.workloads.images.bodies import BodyReader, Decoded
from millrace.workloads.images.settings import ImagesSettings

if TYPE_CHECKING:
    from starlette.requests import Request

    from millrace.server.services import Services

_ENDINGS = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png"}


@dataclass(frozen=True, slots=True)
class Given:
    """One image of a request: a URL, or decoded bytes."""

    name: str
    url: str = ""
    data: Decoded | None = None


class Submission:
    """Accepts batches for one server."""

    def __init__(self, services: Services, settings: ImagesSettings) -> None:
        self._services = services
        self._settings = settings

    async def accept(self, request: Request) -> tuple[Job, bool]:
        """Return the job of a request, and whether it is new: an idempotency key may name an earlier one.

        InvalidRequest and TooLarge leave nothing behind.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            return await self._form(request)
        return await self._json(request)

    async def _form(self, request: Request) -> tuple[Job, bool]:
        limit = self._settings.max_image_bytes
        async with self._services.uploads.receive(request, max_file_bytes=limit, oversize="mark") as form:
            items = []
            for number, file in enumerate(form.files):
                found: dict[str, Any] = (
                    {"kind": "oversize", "bytes": file.size} if file.oversize else file.ref()
                )
                name = plain_name(file.name, f"image_{number}")
                items.append(_item(name, found, file.size))
            for url in form.all("url"):
                given = Given(_name_of_url(url, len(items)), url=_checked_url(url, f"Image {len(items)}"))
                items.append(_item(given.name, {"kind": "url", "url": url}, 1))
            self._check_count(len(items))
            new = _job(items, form.owns, idempotency(request, form.digest))
            job, created = await self._services.engine.submit(new)
            if created:
                form.keep()
            return job, created

    async def _json(self, request: Request) -> tuple[Job, bool]:
        services, settings = self._services, self._settings
        owns = f"uploads/{secrets.token_hex(16)}"
        reader = BodyReader(
            services.blobs.writer,
            owns,
            settings.max_image_bytes,
            settings.max_images,
            digest="idempotency-key" in request.headers,
        )
        kept = False
        try:
            given, digest = await self._read(request, reader)
            items, stored = await services.uploads.in_thread(self._store, given, reader)
            new = _job(items, (owns,) if stored else (), idempotency(request, digest))
            job, kept = await services.engine.submit(new)
        finally:
            await services.uploads.finish(partial(self._clean, reader, None if kept else owns))
        return job, kept

    def _clean(self, reader: BodyReader, owns: str | None) -> None:
        reader.abort()
        if owns is not None:
            self._services.blobs.discard(owns)

    async def _read(self, request: Request, reader: BodyReader) -> tuple[list[Given], str]:
        in_thread = self._services.uploads.in_thread
        async for block in blocks(request, body_limit(self._settings)):
            await in_thread(reader.feed, block)
        return await in_thread(self._images, reader), reader.digest()

    def _images(self, reader: BodyReader) -> list[Given]:
        body = reader.finish()
        if not isinstance(body, dict):
            raise InvalidRequest("Invalid request body: must be a JSON object with images")
        images = body.get("images")
        if images is not None and not isinstance(images, list):
            raise InvalidRequest("images: must be an array")
        self._check_count(len(images or ()))
        return [self._image(image, n, reader) for n, image in enumerate(images or ())]

    def _check_count(self, count: int) -> None:
        if not count:
            raise InvalidRequest("No images provided")
        if count > self._settings.max_images:
            raise InvalidRequest(f"Maximum {self._settings.max_images} images per batch")

    def _image(self, image: Any, number: int, reader: BodyReader) -> Given:
        where = f"Image {number}"
        if not isinstance(image, dict):
            raise InvalidRequest(f"{where}: must be an object with url or base64")
        url, data = _text(image, "url", where), _text(image, "base64", where)
        name = _text(image, "name", where)
        if not url and not data:
            raise InvalidRequest(f"{where}: either url or base64 must be provided")
        if url and data:
            raise InvalidRequest(f"{where}: only one of url or base64 should be provided")
        for field, value in (("url", url), ("name", name)):
            if reader.long_string(value) is not None:
                raise InvalidRequest(f"{where}: {field} is too long")
        if url:
            checked = _checked_url(url, where)
            return Given(plain_name(name, _name_of_url(url, number)), url=checked)
        decoded = reader.long_string(data)
        if decoded is None:
            decoded = reader.short_string(data, number)
        if decoded.error:
            raise InvalidRequest(f"{where}: base64 is not valid: {decoded.error}")
        return Given(plain_name(name, f"image_{number}{_ending(decoded)}"), data=decoded)

    def _store(self, given: list[Given], reader: BodyReader) -> tuple[list[NewItem], bool]:
        """Store the images that came as bytes, all together; return the job's items, and whether any did."""
        items: list[NewItem] = []
        chosen: list[Decoded] = []
        found: dict[str, Any]
        for image in given:
            if image.data is None:
                found, size = {"kind": "url", "url": image.url, "name": image.name}, 1
            elif image.data.oversize:
                found, size = {"kind": "oversize", "bytes": image.data.size}, 1
            else:
                chosen.append(image.data)
                found, size = {"kind": "upload", "key": image.data.key, "name": image.name}, image.data.size
            items.append(_item(image.name, found, size))
        reader.commit(self._services.blobs.commit_all, chosen)
        return items, bool(chosen)


def body_limit(settings: ImagesSettings) -> int:
    """Return the most bytes a JSON body may have: every image at its largest, in base64 and escaped."""
    return settings.max_images * (settings.max_image_bytes * 3 // 2 + 65536)


def prepare(new: NewJob, max_images: int) -> NewJob:
    """Give a job that came by ``POST /jobs`` what one of this contract has: ids, names and a limit."""
    if len(new.items) > max_images:
        raise InvalidRequest(f"Maximum {max_images} images per batch")
    items = []
    for number, item in enumerate(new.items):
        if item.input.get("kind") not in ("upload", "path", "url"):
            raise InvalidRequest(f"items.{number}.input.kind: must be upload, path or url")
        items.append(_item(plain_name(item.name, f"image_{number}"), item.input, item.size))
    return _job(items, new.owns, new.idempotency, new)


def _item(name: str, found: Mapping[str, Any], size: float) -> NewItem:
    return NewItem(name=name, input=found, size=max(1.0, float(size)), uid=str(uuid.uuid4()))


def _job(
    items: list[NewItem],
    owns: tuple[str, ...] | Any,
    idempotent: tuple[str, str] | None,
    given: NewJob | None = None,
) -> NewJob:
    base = given or NewJob(id="", kind=KIND)
    return NewJob(
        id=str(uuid.uuid4()),
        kind=KIND,
        items=items,
        options=base.options,
        meta=base.meta,
        label=base.label
        or (items[0].name if len(items) == 1 else f"{items[0].name} and {len(items) - 1} more"),
        priority=base.priority,
        parallelism=base.parallelism,
        held=base.held,
        callbacks=base.callbacks,
        idempotency=idempotent,
        owns=owns,
        ttl=base.ttl,
    )


def _text(image: Mapping[str, Any], field: str, where: str) -> str:
    value = image.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}: {field} must be a string")
    return value


def _checked_url(url: str, where: str) -> str:
    """Return a URL that can be one; whether it may be fetched is found out by the job."""
    try:
        parts = urlsplit(url)
        ok = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        ok = False
    if not ok or len(url) > 8192:
        raise InvalidRequest(f"{where}: url must be an http or https URL of at most 8192 characters")
    return url


def _name_of_url(url: str, number: int) -> str:
    try:
        last = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    except ValueError:
        last = ""
    return plain_name(last, f"image_{number}")


def _ending(decoded: Decoded) -> str:
    return "" if decoded.oversize else _ENDINGS.get(decoded.head[:3], "")
