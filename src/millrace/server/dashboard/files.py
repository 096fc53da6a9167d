"""The dashboard's scripts and styles, and those of workloads, below one path that names their content.

Since the path changes with any file, browsers keep them for good. Modules import each other by relative
paths.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from millrace.errors import NotFound
from millrace.server.artifacts import serve_file
from millrace.workloads import Face, Plugin

OWN = Path(__file__).parent / "static"
_SERVED = frozenset({".js", ".css", ".svg", ".png", ".webmanifest"})
_KEEP = "public, max-age=31536000, immutable"


class Files:
    """All files, by their path below ``base``.

    base    where they are served: ``/ui/static/<digest>``.
    faces   kind → face, of the workloads that have one.
    """

    def __init__(self, plugins: Mapping[str, Plugin]) -> None:
        self.faces: dict[str, Face] = {
            kind: plugin.face() for kind, plugin in plugins.items() if plugin.face is not None
        }
        self._files = dict(_below(OWN, ""))
        for kind, face in self.faces.items():
            if face.folder is not None:
                self._files.update(_below(face.folder, f"{kind}/"))
        digest = hashlib.sha256()
        for name in sorted(self._files):
            digest.update(name.encode() + b"\0" + self._files[name].read_bytes() + b"\0")
        self.base = f"/ui/static/{digest.hexdigest()[:16]}"

    def address(self, name: str) -> str | None:
        """Return where a file is served; None where there is none of this name."""
        return f"{self.base}/{name}" if name in self._files else None

    def router(self) -> APIRouter:
        """Return the route that serves them; an older digest gets the newest file, not to be kept."""
        api = APIRouter()

        @api.get("/ui/static/{digest}/{name:path}")
        async def file(request: Request, digest: str, name: str) -> Response:
            path = self._files.get(name)
            if path is None:
                raise NotFound(f"the dashboard has no file {name!r}")
            media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
            if path.suffix == ".js":
                media_type = "text/javascript"
            reply = await serve_file(
                request, path, name=path.name, media_type=media_type, disposition="inline"
            )
            del reply.headers["Content-Security-Policy"]
            if self.base.endswith(digest):
                reply.headers["Cache-Control"] = _KEEP
            return reply

        return api


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SERVED and path.is_file():
            yield prefix + path.relative_to(folder).as_posix(), path
