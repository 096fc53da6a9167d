"""What a request asks for, checked and turned into a job. Pure: knows no HTTP.

InvalidRequest names the field and the reason; nothing was created then.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from millrace import sources
from millrace.engine.model import NewItem, NewJob
from millrace.errors import InvalidRequest
from millrace.workloads.transcripts.settings import DEFAULT_SEGMENT_MS, DEFAULT_SILENCE_MS

if TYPE_CHECKING:
    from millrace.fetch import FetchPolicy
    from millrace.settings import Settings

MAX_ITEMS = 10
POLICY = "stage-first"
VAD_OPTIONS = ("vadMaxSingleSegmentMs", "vadMaxEndSilenceMs")
TYPES: Mapping[str, Mapping[str, bool]] = {
    "asr": {"asr": True, "demucs": False},
    "demucs": {"asr": False, "demucs": True},
    "asr-demucs": {"asr": True, "demucs": True},
}
"""The types of ``POST /v2/jobs``, as the tasks of a batch."""

_LARGEST = 2**31 - 1


class UploadedFile(Protocol):
    """A file that came with the request and is stored already."""

    @property
    def name(self) -> str:
        """The client's file name."""

    @property
    def size(self) -> int:
        """In bytes."""

    def ref(self) -> dict[str, Any]:
        """Return the reference by which a stage finds it."""


def options_of(given: Any, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a batch, complete; values in the query win over those in the body."""
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise InvalidRequest("options: must be a JSON object")
    _only(given, {"policy", "tasks", "audioStream", *VAD_OPTIONS}, "options")
    if given.get("policy", POLICY) != POLICY:
        raise InvalidRequest(f"options.policy: must be {POLICY!r}, not {given['policy']!r}")
    options: dict[str, Any] = {
        "policy": POLICY,
        "tasks": _tasks(given.get("tasks")),
        "vadMaxSingleSegmentMs": DEFAULT_SEGMENT_MS,
        "vadMaxEndSilenceMs": DEFAULT_SILENCE_MS,
    }
    for name in VAD_OPTIONS:
        if given.get(name) is not None:
            options[name] = _positive(given[name], f"options.{name}")
        if name in query:
            options[name] = _positive_text(query[name], name)
    stream = given.get("audioStream")
    if stream is not None:
        if type(stream) is not int or not 0 <= stream <= _LARGEST:
            raise InvalidRequest("options.audioStream: must be the number of an audio stream, from 0")
        options["audioStream"] = stream
    return options


def typed_options(kind: Any, given: Any, query: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the type of a job of one file (both tasks unless said) and its complete options."""
    kind = "asr-demucs" if kind is None else kind
    if not isinstance(kind, str) or kind not in TYPES:
        raise InvalidRequest(f"type: must be asr, demucs or asr-demucs, not {kind!r}")
    if isinstance(given, dict) and "tasks" in given:
        raise InvalidRequest("options.tasks: the type says which tasks run")
    return kind, {**options_of(given, query), "tasks": dict(TYPES[kind])}


def _tasks(given: Any) -> dict[str, bool]:
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise InvalidRequest("options.tasks: must be a JSON object")
    _only(given, {"asr", "demucs"}, "options.tasks")
    for name, wanted in given.items():
        if not isinstance(wanted, bool):
            raise InvalidRequest(f"options.tasks.{name}: must be true or false, not {wanted!r}")
    tasks = {"asr": given.get("asr", True), "demucs": given.get("demucs", True)}
    if not any(tasks.values()):
        raise InvalidRequest("options.tasks: asr and demucs are both off, so there is nothing to do")
    return tasks


def _positive(value: Any, where: str) -> int:
    if type(value) is not int or not 0 < value <= _LARGEST:
        raise InvalidRequest(f"{where}: must be a positive integer (milliseconds), not {value!r}")
    return value


def _positive_text(value: str, where: str) -> int:
    if not value.isascii() or not value.isdigit() or not 0 < int(value[:20]) <= _LARGEST:
        raise InvalidRequest(f"{where}: must be a positive integer (milliseconds), not {value[:40]!r}")
    return int(value)


def items_of(given: Any, files: Sequence[UploadedFile], policy: FetchPolicy) -> list[NewItem]:
    """Return the items of a batch; ``files`` are those that came with it, by ``fileIndex``."""
    if not isinstance(given, list):
        raise InvalidRequest("items: must be a JSON array of 1 to 10 items")
    if not 1 <= len(given) <= MAX_ITEMS:
        raise InvalidRequest(f"items: there must be 1 to {MAX_ITEMS}, not {len(given)}")
    used: set[int] = set()
    return [_item(entry, n, files, used, policy) for n, entry in enumerate(given)]


def _item(given: Any, n: int, files: Sequence[UploadedFile], used: set[int], policy: FetchPolicy) -> NewItem:
    where = f"items[{n}]"
    if not isinstance(given, dict):
        raise InvalidRequest(f"{where}: must be a JSON object")
    kind = given.get("kind")
    if kind == "upload":
        _only(given, {"kind", "fileIndex"}, where)
        return upload_item(files[_file_index(given.get("fileIndex"), len(files), used, where)])
    if kind == "audioPath":
        _only(given, {"kind", "audioPath"}, where)
        return path_item(given.get("audioPath"), f"{where}.audioPath")
    if kind == "audioUrl":
        _only(given, {"kind", "audioUrl"}, where)
        return url_item(given.get("audioUrl"), f"{where}.audioUrl", policy)
    raise InvalidRequest(f"{where}.kind: must be upload, audioPath or audioUrl, not {kind!r}")


def _file_index(index: Any, count: int, used: set[int], where: str) -> int:
    if type(index) is not int:
        raise InvalidRequest(f"{where}.fileIndex: must be the number of a file, from 0, not {index!r}")
    if not 0 <= index < count:
        raise InvalidRequest(f"{where}.fileIndex: is {index}, but {count} file(s) were sent, counted from 0")
    if index in used:
        raise InvalidRequest(f"{where}.fileIndex: the file {index} is used by an item before")
    used.add(index)
    return index


def upload_item(file: UploadedFile) -> NewItem:
    """Return the item of a file that came with the request."""
    return NewItem(name=file.name, input=file.ref(), size=max(1.0, float(file.size)))


def path_item(path: Any, where: str) -> NewItem:
    """Return the item of a path on the server. Whether it exists and may be read, its stage finds out."""
    if not isinstance(path, str) or not path.strip() or "\0" in path or len(path) > 4096:
        raise InvalidRequest(f"{where}: must be a path")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in path):
        raise InvalidRequest(f"{where}: is not valid Unicode")
    return NewItem(name=sources.plain_name(path), input={"kind": "path", "path": path})


def url_item(url: Any, where: str, policy: FetchPolicy) -> NewItem:
    """Return the item of a URL; it is fetched by the job."""
    if not isinstance(url, str) or len(url) > 8192:
        raise InvalidRequest(f"{where}: must be a URL")
    try:
        reference = sources.url_reference(url, policy)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error.message}") from error
    return NewItem(name=str(reference["name"]), input=reference)


def new_batch(
    items: Sequence[NewItem],
    options: Mapping[str, Any],
    *,
    idempotency: tuple[str, str] | None,
    owns: Sequence[str] = (),
    job_type: str | None = None,
) -> NewJob:
    """Return the job of a batch, or of one file of ``POST /v2/jobs`` when ``job_type`` is given."""
    return NewJob(
        id=str(uuid.uuid4()),
        kind="transcripts",
        items=items,
        options=options,
        meta={"type": job_type} if job_type else {},
        label=", ".join(item.name for item in items)[:200],
        idempotency=idempotency,
        owns=tuple(owns),
    )


def prepare(new: NewJob, site: Settings) -> NewJob:
    """Check a job that came by ``POST /jobs`` as the contract would, and give it the contract's id."""
    if not 1 <= len(new.items) <= MAX_ITEMS:
        raise InvalidRequest(f"items: there must be 1 to {MAX_ITEMS}, not {len(new.items)}")
    for n, item in enumerate(new.items):
        if item.input.get("kind") not in ("upload", "path", "url"):
            raise InvalidRequest(f"items.{n}.input.kind: must be upload, path or url")
    return replace(new, id=str(uuid.uuid4()), options=options_of(dict(new.options), {}))


def _only(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise InvalidRequest(f"{where}.{key}: is not known; there are: {', '.join(sorted(known))}")
