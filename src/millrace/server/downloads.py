"""``GET /jobs/{job_id}/artifacts.zip``: all that a job has published, as one archive that is streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from millrace.blobs import Blobs
from millrace.engine.model import Artifact, Job
from millrace.errors import NotFound
from millrace.server import archive, examples
from millrace.server.artifacts import content_disposition
from millrace.server.jobs import JobId
from millrace.server.services import Services
from millrace.sources import plain_name

_PAGE = 1000


def router(services: Services) -> APIRouter:
    """Return the route."""
    api = APIRouter(prefix="/jobs", tags=["jobs"])
    engine, blobs = services.engine, services.blobs

    @api.get("/{job_id}/artifacts.zip", summary="Download all artifacts as one ZIP", **examples.ARCHIVE)
    async def download(job_id: JobId, item: int | None = Query(default=None, ge=0, lt=2**31)) -> Response:
        """Send a folder for each item, or only the files of ``item``; stored, of any size, never gathered.

        What a workload keeps for itself (names that begin with a dot) is left out.
        """
        job = await engine.job(job_id)
        found = [a for a in await engine.artifacts(job_id, item) if not a.name.startswith(".")]
        if not found:
            raise NotFound(f"job {job_id!r} has published nothing yet")
        names = {}
        if item is None:
            after = -1
            while page := await engine.items(job_id, after=after, limit=_PAGE):
                names.update({each.idx: each.name for each in page})
                after = page[-1].idx
        entries = entries_of(found, names, blobs)
        headers = {
            "Content-Disposition": content_disposition(file_name(job, item)),
            "Content-Length": str(archive.length(entries)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(archive.write(entries), headers=headers, media_type="application/zip")

    return api


def file_name(job: Job, item: int | None) -> str:
    """Return the archive's name: the job's label, where it has one, and the item's number."""
    name = plain_name(job.label, job.id)[:80] or job.id
    return f"{name}.zip" if item is None else f"{name} {item}.zip"


def entries_of(artifacts: Sequence[Artifact], names: dict[int, str], blobs: Blobs) -> list[archive.Entry]:
    """Return the archive's entries: a folder for each item that ``names`` names, flat for the others."""
    width = len(str(max(names, default=0)))
    return [
        archive.Entry(
            _place(artifact, names, width), artifact.bytes, artifact.created_at, _reader(blobs, artifact)
        )
        for artifact in artifacts
    ]


def _place(artifact: Artifact, names: dict[int, str], width: int) -> str:
    if artifact.idx not in names:
        return artifact.name
    return f"{artifact.idx:0{width}} {plain_name(names[artifact.idx], 'item')}/{artifact.name}"


def _reader(blobs: Blobs, artifact: Artifact) -> Callable[[], Iterable[bytes]]:
    return lambda: blobs.chunks(artifact.key)
