"""Blobs as objects in a bucket on S3, MinIO, Ceph or another server that speaks S3."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import obstore

from millrace.blobs.cache import BlobCache
from millrace.blobs.objects import PART, Budget, ObjectWriter, put_in_parts, store_errors
from millrace.blobs.port import CHUNK, Blob, BlobWriter, check_key
from millrace.blobs.unfinished import MultipartUploads

if TYPE_CHECKING:
    from obstore.store import S3Store

A = TypeVar("A")
T = TypeVar("T")

_REQUESTS = 16
# What S3 copies in one request (AWS, "CopyObject"); beyond it the bytes travel through here.
_LARGEST_COPY = 5 * 1024**3


class S3Blobs:
    """Blobs as objects in a bucket, ``s3://bucket/prefix``; what is read is kept in a bounded cache.

    Without keys the environment's AWS credentials are used. ``endpoint`` is asked in path style.
    """

    def __init__(
        self,
        location: str,
        *,
        cache: Path,
        cache_bytes: int = 0,
        endpoint: str | None = None,
        region: str = "us-east-1",
        access_key: str | None = None,
        secret_key: str | None = None,
    ) -> None:
        self._location = location
        self._options = {
            "cache_bytes": cache_bytes,
            "endpoint": endpoint,
            "region": region,
            "access_key": access_key,
            "secret_key": secret_key,
        }
        self._cache_at = cache
        self._cache = BlobCache(cache, cache_bytes)
        self._store = self._open()
        self._budget = Budget(4 * PART)
        self._requests = ThreadPoolExecutor(_REQUESTS, thread_name_prefix="blob-requests")

    def _open(self) -> S3Store:
        from obstore.store import S3Store

        parts = urlsplit(self._location)
        # obstore's own ten retries over three minutes would hide a dead store from everybody.
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config=self._config(),  # type: ignore[arg-type]
            client_options={
                "allow_http": True,
                "connect_timeout": "5s",
                "timeout": "1h",
                "read_timeout": "60s",
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
        )

    def _config(self) -> dict[str, Any]:
        options = self._options
        config: dict[str, Any] = {"region": options["region"], "virtual_hosted_style_request": False}
        for name, option in (
            ("endpoint", "endpoint"),
            ("access_key_id", "access_key"),
            ("secret_access_key", "secret_key"),
        ):
            if options[option]:
                config[name] = options[option]
        return config

    def stage(self, path: Path, staged: str) -> tuple[int, str]:
        """See ``Blobs.stage``: read once, hashed and sent as it is read."""
        check_key(staged)
        with store_errors(staged), path.open("rb") as file:
            digest, size = hashlib.sha256(), 0
            if path.stat().st_size <= PART:
                body = file.read()
                digest.update(body)
                size = len(body)
                obstore.put(self._store, staged, body)
                return size, digest.hexdigest()

            def hashed() -> Iterator[bytes]:
                nonlocal size
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    yield chunk

            put_in_parts(self._store, staged, hashed(), path.stat().st_size)
            return size, digest.hexdigest()

    def publish(self, staged: str, key: str) -> None:
        """See ``Blobs.publish``: copied inside the store, then the staged one deleted."""
        check_key(staged)
        check_key(key)
        with store_errors(staged):
            try:
                size = obstore.head(self._store, staged)["size"]
            except FileNotFoundError:
                obstore.head(self._store, key)
                return
            if size <= _LARGEST_COPY:
                obstore.copy(self._store, staged, key)
            else:
                self._copy_in_parts(staged, key, size)
            obstore.delete(self._store, staged)

    def _copy_in_parts(self, source: str, key: str, size: int) -> None:
        writer = self.writer(key, size)
        try:
            for chunk in self.chunks(source):
                writer.write(chunk)
            writer.commit()
        except BaseException:
            writer.abort()
            raise

    def stage_all(self, files: Sequence[tuple[Path, str]]) -> list[tuple[int, str]]:
        """See ``Blobs.stage_all``."""
        return self._abreast(self.stage, files)

    def publish_all(self, moves: Sequence[tuple[str, str]]) -> None:
        """See ``Blobs.publish_all``."""
        self._abreast(self.publish, moves)

    def put(self, path: Path, key: str) -> None:
        """See ``Blobs.put``: an object only appears once it is whole."""
        self.stage(path, key)

    def writer(self, key: str, most: int) -> ObjectWriter:
        """See ``Blobs.writer``."""
        return ObjectWriter(self._store, check_key(key), most, self._requests, self._budget)

    def commit_all(self, writers: Sequence[BlobWriter]) -> None:
        """See ``Blobs.commit_all``: objects are there once they were sent, which is waited for."""
        mine = [writer for writer in writers if isinstance(writer, ObjectWriter)]
        for writer in mine:
            writer.close()
        for writer in mine:
            writer.commit()

    def drop_unfinished(self, before: float) -> int:
        """See ``Blobs.drop_unfinished``: multipart uploads, which cost room and are in no listing."""
        parts = urlsplit(self._location)
        top = parts.path.strip("/")
        endpoint = self._options["endpoint"] or f"https://s3.{self._options['region']}.amazonaws.com"
        uploads = MultipartUploads(parts.netloc, str(endpoint), self._config())
        old = [
            found
            for folder in ("uploads", "staging", "jobs")
            for found in uploads.list(f"{top}/{folder}/" if top else f"{folder}/")
            if found.initiated < before
        ]
        for found in old:
            uploads.abort(found)
        return len(old)

    def _abreast(self, work: Callable[[A, str], T], arguments: Sequence[tuple[A, str]]) -> list[T]:
        """Do the work for each pair of arguments, several requests at a time."""
        if len(arguments) == 1:
            return [work(*arguments[0])]
        return list(self._requests.map(work, *zip(*arguments, strict=True))) if arguments else []

    def discard(self, prefix: str) -> None:
        """See ``Blobs.discard``."""
        check_key(prefix)
        with store_errors(prefix):
            for chunk in obstore.list(self._store, prefix, chunk_size=1000):
                obstore.delete(self._store, [entry["path"] for entry in chunk])
            obstore.delete(self._store, prefix)

    def local_path(self, key: str, scratch: Path) -> Path:
        """See ``Blobs.local_path``: a copy, through the cache."""
        blob = self.stat(key)
        scratch.parent.mkdir(parents=True, exist_ok=True)
        identity = f"{self._location}\0{key}\0{blob.etag}"
        return self._cache.copy(identity, blob.bytes, lambda: self.chunks(key), scratch)

    def path(self, key: str) -> None:
        """See ``Blobs.path``: None, for objects are no files."""
        check_key(key)

    def stat(self, key: str) -> Blob:
        """See ``Blobs.stat``."""
        with store_errors(key):
            return self._blob(obstore.head(self._store, check_key(key)))

    def chunks(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See ``Blobs.chunks``."""
        check_key(key)
        if end is not None and end <= start:
            return
        with store_errors(key):
            wanted: Any = {"offset": start} if end is None else (start, end)
            whole = start == 0 and end is None
            got = obstore.get(self._store, key, options=None if whole else {"range": wanted})
            for chunk in got.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """See ``Blobs.list``."""
        if prefix:
            check_key(prefix)
        with store_errors(prefix):
            for chunk in obstore.list(self._store, prefix or None, chunk_size=1000):
                yield from map(self._blob, chunk)

    def check(self) -> None:
        """See ``Blobs.check``."""
        with store_errors("a probe"):
            probe = f".probe/{uuid.uuid4().hex}"
            obstore.put(self._store, probe, b"millrace")
            obstore.delete(self._store, probe)

    def descriptor(self) -> dict[str, Any]:
        """See ``Blobs.descriptor``."""
        return {
            "open": "millrace.blobs:open_store",
            "location": self._location,
            "cache": str(self._cache_at),
            **self._options,
        }

    def _blob(self, entry: Mapping[str, Any]) -> Blob:
        modified = entry["last_modified"].timestamp()
        etag = entry["e_tag"] or f'"{modified}-{entry["size"]}"'
        return Blob(entry["path"], entry["size"], etag, modified)
