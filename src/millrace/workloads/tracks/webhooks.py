"""Reads the webhooks of Sonarr (v4) and Radarr: which files were imported, and of which title. Pure.

The payloads follow the classes of ``NzbDrone.Core.Notifications.Webhook`` of both projects. Only what
is needed is read, so that fields that come and go between versions do no harm.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal

from millrace.errors import InvalidRequest

Sender = Literal["sonarr", "radarr"]

IMPORTS = frozenset({"download", "upgrade", "importcomplete"})
_MAX_FILES = 2000

# Language.cs of both projects: the names under which they send a title's original language.
_LANGUAGES = {
    "english": "en", "french": "fr", "spanish": "es", "german": "de", "italian": "it", "danish": "da",
    "dutch": "nl", "japanese": "ja", "icelandic": "is", "chinese": "zh", "russian": "ru", "polish": "pl",
    "vietnamese": "vi", "swedish": "sv", "norwegian": "no", "finnish": "fi", "turkish": "tr",
    "portuguese": "pt", "flemish": "nl-BE", "greek": "el", "korean": "ko", "hungarian": "hu", "hebrew": "he",
    "lithuanian": "lt", "czech": "cs", "hindi": "hi", "romanian": "ro", "thai": "th", "bulgarian": "bg",
    "portuguese (brazil)": "pt-BR", "arabic": "ar", "ukrainian": "uk", "persian": "fa", "bengali": "bn",
    "slovak": "sk", "latvian": "lv", "spanish (latino)": "es-419", "catalan": "ca", "croatian": "hr",
    "serbian": "sr", "bosnian": "bs", "estonian": "et", "tamil": "ta", "indonesian": "id", "telugu": "te",
    "macedonian": "mk", "slovenian": "sl", "malayalam": "ml", "kannada": "kn", "albanian": "sq",
    "afrikaans": "af", "marathi": "mr", "tagalog": "tl", "urdu": "ur", "romansh": "rm", "mongolian": "mn",
    "georgian": "ka", "swiss german": "gsw", "azerbaijani": "az", "uzbek": "uz", "malay": "ms",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """What a webhook says. ``name`` is the event's own word for it.

    files    the paths of what came in, as the sender sees them.
    folder   of the series or film, as the sender sees it.
    title    its name.
    original its original language as a tag, where the sender says it.
    ids      its ids in other databases: tmdb, tvdb, imdb.
    upgrade  whether an older file was replaced.
    """

    sender: Sender
    name: str
    files: tuple[str, ...]
    folder: str
    title: str
    original: str | None
    ids: Mapping[str, str]
    upgrade: bool

    @property
    def is_test(self) -> bool:
        """Whether the sender only tries the connection out."""
        return self.name.lower() == "test"

    @property
    def is_import(self) -> bool:
        """Whether files came in, new ones or better ones."""
        return self.name.lower() in IMPORTS


def signature(secret: str, body: bytes) -> str:
    """Return the signature of a body: HMAC-SHA256 in hexadecimal digits."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify(secret: str, body: bytes, given: str | None) -> str | None:
    """Return what is wrong with a signature, or None. ``sha256=`` before it is allowed."""
    if not given:
        return "the header X-Webhook-Signature is missing"
    digits = given.strip().lower().removeprefix("sha256=")
    if not hmac.compare_digest(signature(secret, body).encode(), digits.encode()):
        return "the signature in X-Webhook-Signature does not fit the body"
    return None


def parse(sender: Sender, payload: Any) -> Event:
    """Return the event in a payload; InvalidRequest names the field that is missing or wrong."""
    if not isinstance(payload, dict):
        raise InvalidRequest("body: must be a JSON object")
    name = payload.get("eventType")
    if not isinstance(name, str) or not name:
        raise InvalidRequest("eventType: missing; this is not a webhook of Sonarr or Radarr")
    subject = payload.get("series" if sender == "sonarr" else "movie")
    title = subject if isinstance(subject, dict) else {}
    event = Event(
        sender=sender,
        name=name,
        files=(),
        folder=_text(title.get("path" if sender == "sonarr" else "folderPath")),
        title=_text(title.get("title")),
        original=_original(title.get("originalLanguage")),
        ids=_ids(title),
        upgrade=payload.get("isUpgrade") is True or name.lower() == "upgrade",
    )
    if not event.is_import:
        return event
    files = tuple(dict.fromkeys(_files(sender, payload, title)))
    if not files:
        field = "episodeFile.path" if sender == "sonarr" else "movieFile.path"
        raise InvalidRequest(f"{field}: missing; the event {name} names no file")
    if len(files) > _MAX_FILES:
        raise InvalidRequest(f"one event names {len(files)} files, more than {_MAX_FILES}")
    return replace(event, files=files)


def _files(sender: Sender, payload: Mapping[str, Any], title: Mapping[str, Any]) -> Iterator[str]:
    one, many, folder = (
        ("episodeFile", "episodeFiles", "path")
        if sender == "sonarr"
        else ("movieFile", "movieFiles", "folderPath")
    )
    listed = payload.get(many)
    entries = [payload.get(one), *(listed if isinstance(listed, list) else ())]
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        path = _text(entry.get("path"))
        relative = _text(entry.get("relativePath"))
        if path:
            yield path
        elif relative and _text(title.get(folder)):
            yield _join(_text(title.get(folder)), relative)


def _join(folder: str, relative: str) -> str:
    windows = "\\" in folder or folder[1:2] == ":"
    return str(PureWindowsPath(folder, relative) if windows else PurePosixPath(folder, relative))


def _original(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else value
    return _LANGUAGES.get(name.strip().lower()) if isinstance(name, str) else None


def _ids(title: Mapping[str, Any]) -> dict[str, str]:
    found = {"tmdb": title.get("tmdbId"), "tvdb": title.get("tvdbId"), "imdb": title.get("imdbId")}
    return {kind: str(value) for kind, value in found.items() if isinstance(value, (int, str)) and value}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
