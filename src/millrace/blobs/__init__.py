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
from millrace.blobs.port import Blob, Blobs, BlobWriter, check_key, sha256_of
from millrace.errors import SettingsError

if TYPE_CHECKING:
    from millrace.blobs.s3 import S3Blobs
    from millrace.settings import Settings

__all__ = [
    "Blob",
    "BlobWriter",
    "Blobs",
    "DirectoryBlobs",
    "check_key",
    "open_blobs",
    "open_store",
    "sha256_of",
]


def open_blobs(settings: Settings) -> Blobs:
    """Open the store that the settings name."""
    if not settings.blobs.is_s3:
        return DirectoryBlobs(Path(settings.blob_location))
    blobs = settings.blobs
    return _s3_store()(
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
    return _s3_store()(**{**options, "cache": Path(options["cache"])})


def _s3_store() -> type[S3Blobs]:
    try:
        from millrace.blobs.s3 import S3Blobs
    except ModuleNotFoundError as error:
        raise SettingsError("blobs.location: a bucket needs: pip install 'millrace[s3]'") from error
    return S3Blobs
