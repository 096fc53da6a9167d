"""Finds multipart uploads that nobody will finish, and aborts them: a listing of objects does not show them.

obstore finds the credentials of every kind and signs with them, but knows no request that lists multipart
uploads; so their addresses are made here and signed by it.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote
from xml.etree import ElementTree

import obstore

from millrace.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Store

_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was begun. ``key`` is the whole one; ``initiated`` epoch seconds."""

    key: str
    upload: str
    initiated: float


class MultipartUploads:
    """The multipart uploads of a bucket at a URL; ``config`` is what obstore is given for it."""

    def __init__(self, bucket: str, endpoint: str, config: Mapping[str, Any]) -> None:
        self._address = f"{endpoint.rstrip('/')}/{quote(bucket)}"
        self._bucket = bucket
        self._config = config

    def list(self, prefix: str) -> Iterator[Unfinished]:
        """Yield those whose keys start so; Unavailable where the store fails or forbids it."""
        marks: dict[str, str] = {}
        while True:
            query = {"uploads": "", "prefix": prefix, **marks}
            answer = ElementTree.fromstring(self._request("GET", self._address, query))
            space = answer.tag.partition("}")[0] + "}" if answer.tag.startswith("{") else ""
            for entry in answer.iter(f"{space}Upload"):
                initiated = datetime.fromisoformat(entry.findtext(f"{space}Initiated", ""))
                yield Unfinished(
                    entry.findtext(f"{space}Key", ""),
                    entry.findtext(f"{space}UploadId", ""),
                    initiated.timestamp(),
                )
            following = {
                "key-marker": answer.findtext(f"{space}NextKeyMarker", ""),
                "upload-id-marker": answer.findtext(f"{space}NextUploadIdMarker", ""),
            }
            # A store that names the same place again would keep this going for ever.
            if answer.findtext(f"{space}IsTruncated") != "true" or following == marks:
                return
            marks = following

    def abort(self, unfinished: Unfinished) -> None:
        """Drop its parts; that it is gone already is no error."""
        try:
            self._request(
                "DELETE", f"{self._address}/{quote(unfinished.key)}", {"uploadId": unfinished.upload}
            )
        except NotFound:
            return

    def _request(self, method: Literal["GET", "DELETE"], address: str, query: Mapping[str, str]) -> bytes:
        fields = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        # What obstore puts behind the address becomes the value of a field that S3 passes over ("x-…").
        signed = obstore.sign(
            self._store(f"{address}?{fields}&x-at="), method, "-", timedelta(seconds=_SECONDS)
        )
        request = urllib.request.Request(signed, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise NotFound("there is no such multipart upload") from error
            raise Unavailable(f"the blob store answered {error.code} for its multipart uploads") from error
        except OSError as error:
            raise Unavailable(f"the blob store failed for its multipart uploads: {error}") from error

    def _store(self, address: str) -> S3Store:
        from obstore.store import S3Store

        config: Any = {**self._config, "endpoint": address, "virtual_hosted_style_request": True}
        return S3Store(self._bucket, config=config, client_options={"allow_http": True})
