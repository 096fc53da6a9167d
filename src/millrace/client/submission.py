"""What is submitted, as values: sources of files, pairs for sync, the request they make. Sends nothing."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, TypedDict
from urllib.parse import urlsplit

from millrace.client.errors import LocalError
from millrace.client.flow import Call
from millrace.client.forms import FileToSend, Form, Progress


@dataclass(frozen=True, slots=True)
class ServerPath:
    """A file (or, for tracks, a folder) on the server's machine, below one of its media roots."""

    path: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Url:
    """A file on the web, which the server fetches when the job gets to it. ``name``: what people see."""

    url: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Bytes:
    """A file's content, and its name."""

    data: bytes
    name: str


Source: TypeAlias = str | os.PathLike[str] | ServerPath | Url | Bytes
"""Where a file is: a path of this machine, whose file is uploaded, or a URL, as text; or one of the three.

Text that begins with ``http://`` or ``https://`` is a URL.
"""

ALONE = (str, os.PathLike, ServerPath, Url, Bytes)
"""The types of a source."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A master and its dub, for sync.

    methods      such as ``("mfcc", "onset")``; none: the server's choice.
    ai_model     for the method ``ai``: ``spectral``, ``wav2vec2`` or ``yamnet``.
    repair       whether a dub that fits is written, too.
    *_stream     number of the audio stream, from 0, or ``mix``; *_channel: of a channel in it.
    """

    master: Source
    dub: Source
    methods: Sequence[str] = ()
    ai_model: str | None = None
    description: str = ""
    tags: Sequence[str] = ()
    repair: bool = False
    master_stream: int | str | None = None
    dub_stream: int | str | None = None
    master_channel: int | None = None
    dub_channel: int | None = None


class JobFields(TypedDict, total=False):
    """What a job of any kind may be given besides its items and options.

    preset        name of saved options; what is given in ``options`` wins over them.
    label         shown in lists.
    priority      low, normal, high or webhook; or 0 to 3.
    parallelism   how many of its items run at once, at most.
    held          created, but not started.
    callbacks     URLs that are told by a webhook when it has ended.
    notify        whom to tell when it has ended: Apprise URLs, or names from the server's settings.
    idempotency_key   by default a new one for each call.
    progress      told while files are sent: bytes sent, and of how many.
    """

    preset: str | None
    label: str | None
    priority: str | int | None
    parallelism: int | None
    held: bool
    callbacks: Sequence[str]
    notify: Sequence[str]
    idempotency_key: str | None
    progress: Progress | None


class Submission:
    """Collects a job's items and the files that go with them."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._items: list[dict[str, Any]] = []
        self._files: list[FileToSend] = []
        self._sent: dict[Path, int] = {}

    def add(self, source: Source | Pair | Mapping[str, Any]) -> None:
        """Add an item: a file, a pair, or, for workloads of other shapes, a mapping: its whole input."""
        if isinstance(source, Pair):
            self._add_pair(source)
            return
        if isinstance(source, Mapping):
            self._items.append({"input": dict(source)})
            return
        reference, name, size = self._refer(source)
        item: dict[str, Any] = {"input": reference}
        if name is not None:
            item["name"] = name
        if size is not None:
            item["size"] = max(1, size)
        self._items.append(item)

    def _add_pair(self, pair: Pair) -> None:
        master, master_name, master_size = self._refer(pair.master, share=True)
        dub, dub_name, dub_size = self._refer(pair.dub, share=True)
        entry: dict[str, Any] = {"master": master, "dub": dub}
        for field in fields(pair):
            value = getattr(pair, field.name)
            if field.name not in entry and value != field.default:
                entry[field.name] = list(value) if isinstance(value, tuple) else value
        item: dict[str, Any] = {"input": entry}
        if master_name and dub_name:
            item["name"] = f"{master_name} / {dub_name}"
        if master_size or dub_size:
            item["size"] = max(1, (master_size or 0) + (dub_size or 0))
        self._items.append(item)

    def _refer(self, source: Source, *, share: bool = False) -> tuple[dict[str, Any], str | None, int | None]:
        """Return the reference to a source, the name it is shown by, and its size where both are known.

        ``share``: a file that was added before is not sent again, as a master of many dubs would be.
        """
        if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
            source = Url(source)
        if isinstance(source, Url):
            if not urlsplit(source.url).hostname:
                raise LocalError(f"{source.url!r} is not a URL: it names no host")
            named = {"name": source.name} if source.name else {}
            return {"kind": "url", "url": source.url, **named}, source.name, None
        if isinstance(source, ServerPath):
            return {"kind": "path", "path": os.fspath(source.path)}, None, None
        if isinstance(source, Bytes):
            file = FileToSend(source.name, source.data, len(source.data))
        else:
            known = self._sent.get(Path(source)) if share else None
            if known is not None:
                file = self._files[known]
                return {"kind": "upload", "index": known}, file.name, file.size
            file = FileToSend.at(Path(source))
            self._sent[Path(source)] = len(self._files)
        self._files.append(file)
        return {"kind": "upload", "index": len(self._files) - 1}, file.name, file.size

    def call(self, options: Mapping[str, Any] | None, given: JobFields) -> Call:
        """Return the request that creates the job. It carries a key, so that it can be sent again."""
        key = given.get("idempotency_key") or uuid.uuid4().hex
        body = job_body(self._kind, options, given)
        if self._items:
            body["items"] = self._items
        headers = {"idempotency-key": key}
        made = Call.of_json("POST", "/jobs", body, headers=headers)
        if not self._files:
            return made
        assert isinstance(made.body, bytes)
        form = Form([("job", made.body.decode())], self._files, given.get("progress"))
        return Call("POST", "/jobs", headers=headers, body=form)


def job_body(kind: str, options: Mapping[str, Any] | None, given: JobFields) -> dict[str, Any]:
    """Return a job as ``POST /jobs`` takes it, without items: what schedules hold, too."""
    body: dict[str, Any] = {"kind": kind}
    if options:
        body["options"] = dict(options)
    for name in ("preset", "label", "priority", "parallelism"):
        if given.get(name) is not None:
            body[name] = given[name]
    if given.get("held"):
        body["held"] = True
    if callbacks := given.get("callbacks"):
        body["callbacks"] = [{"url": url} for url in callbacks]
    if notify := given.get("notify"):
        body["notify"] = list(notify)
    return body


def one_or_many(sources: Source | Iterable[Source]) -> list[Source]:
    """Return the sources as a list, one alone as a list of one."""
    if isinstance(sources, ALONE):
        return [sources]
    return list(sources)
