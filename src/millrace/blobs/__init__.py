"""Where uploads and artifacts live: a directory, or a bucket on S3, MinIO or Ceph through obstore.

A blob is written aside under a staged key and then published under its final key in one step, so that
nobody ever sees half of one. Keys are relative paths with ``/``; none can lead out of the store. Knows
nothing of jobs. All methods block, and are safe from any number of threads and processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.blobs.directory import DirectoryBlobs
from millrace.blobs.port import Blob, Blobs, check_key, sha256_of

if TYPE_CHECKING:
    from millrace.settings import Settings

__all__ = ["Blob", "Blobs", "DirectoryBlobs", "check_key", "open_blobs", "open_store", "sha256_of"]


def open_blobs(settings: Settings) -> Blobs:
    """Open the store that the settings name."""
    if not settings.blobs.is_s3:
        return DirectoryBlobs(Path(settings.blob_location))
    from millrace.blobs.s3 import S3Blobs  # obstore is 15 MB that a directory does not need

    blobs = settings.blobs
    return S3Blobs(
        settings.blob_location,
        cache=settings.data_dir / "cache" / "blobs",
        cache_bytes=blobs.cache_bytes,
        endpoint=blobs.endpoint,
        region=blobs.region,
        access_key=blobs.access_key.get_secret_value() if blobs.access_key else None,
        secret_key=blobs.secret_key.get_secret_value() if blobs.secret_key else None,
    )


def open_store(descriptor: Mapping[str, Any]) -> Blobs:
    """Open the store that another process described."""
    options = {name: value for name, value in descriptor.items() if name != "open"}
    if "root" in options:
        return DirectoryBlobs(Path(options["root"]))
    from millrace.blobs.s3 import S3Blobs

    return S3Blobs(**{**options, "cache": Path(options["cache"])})
