"""``GET /media``: what lies below the media roots, for forms that let people choose a folder or files."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from millrace.errors import InvalidRequest, NotFound
from millrace.server import examples
from millrace.server.replies import json_reply, rfc3339
from millrace.server.services import Services
from millrace.sources import allowed_path

MOST = 2000
"""Entries that one answer lists."""


def router(services: Services) -> APIRouter:
    """Return the route."""
    api = APIRouter(tags=["server"])
    roots = services.settings.media_roots

    @api.get("/media", summary="Browse the media roots", **examples.MEDIA)
    async def media(path: Annotated[str | None, Query(max_length=4096)] = None) -> Response:
        """List a folder below a media root, folders first; without ``path`` the roots themselves.

        Names that begin with a dot, and links that lead outside, are not shown.
        """
        if path is None:
            rows: list[dict[str, Any]] = [_row(root, str(root), True) for root in roots]
            return json_reply({"path": None, "parent": None, "entries": rows, "truncated": False})
        return json_reply(await asyncio.to_thread(listing, path, roots))

    return api


def listing(path: str, roots: tuple[Path, ...]) -> dict[str, Any]:
    """Return a folder's entries. InvalidRequest outside the roots, NotFound where there is no folder."""
    folder = allowed_path(path, roots)
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name.casefold())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no folder {path!r}") from error
    except OSError as error:
        raise InvalidRequest(f"{path!r} cannot be listed: {error.strerror}") from error
    rows = [row for entry in found if (row := _entry(entry, roots)) is not None]
    rows.sort(key=lambda row: row["kind"] != "folder")
    parent = None if folder in roots else str(folder.parent)
    return {"path": str(folder), "parent": parent, "entries": rows[:MOST], "truncated": len(rows) > MOST}


def _entry(entry: os.DirEntry[str], roots: tuple[Path, ...]) -> dict[str, Any] | None:
    if entry.name.startswith(".") or any(0xD800 <= ord(char) <= 0xDFFF for char in entry.name):
        return None
    try:
        if entry.is_symlink():
            allowed_path(entry.path, roots)
        if entry.is_dir():
            return _row(Path(entry.path), entry.name, True)
        if entry.is_file():
            stat = entry.stat()
            return _row(Path(entry.path), entry.name, False, stat.st_size, stat.st_mtime)
    except (InvalidRequest, OSError):
        return None
    return None


def _row(
    path: Path, name: str, folder: bool, size: int | None = None, at: float | None = None
) -> dict[str, Any]:
    kind = "folder" if folder else "file"
    return {"name": name, "path": str(path), "kind": kind, "bytes": size, "modified_at": rfc3339(at)}
