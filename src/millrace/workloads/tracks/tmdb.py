"""Asks The Movie Database for a title's original language, and remembers the answers.

A title is known by the ids that Sonarr and Radarr send or that stand in folder names
(``{tmdb-603}``, ``[tvdbid-81189]``, ``{imdb-tt0133093}``), else by ``Title (Year)``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import time
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

from millrace.errors import BadInput, Transient
from millrace.fetch import FetchPolicy, fetch
from millrace.workloads.tracks.paths import display

log = logging.getLogger(__name__)

Medium = Literal["movie", "tv"]

_ID = re.compile(r"[\[{(]\s*(tmdb|tvdb|imdb)(?:id)?\s*[-=:]\s*(tt\d{5,10}|\d{1,10})\s*[\]})]", re.IGNORECASE)
_TITLE = re.compile(r"^(?P<title>.+?)[ ._]*[(\[](?P<year>(?:18|19|20)\d\d)[)\]]")
_EPISODE = re.compile(r"\bS\d{1,3}[ ._-]?E\d{1,4}\b|\b\d{1,2}x\d{2,3}\b", re.IGNORECASE)
_SEASON = re.compile(r"^(?:season|series|staffel|saison|specials?)\b", re.IGNORECASE)
_ODD_CODES = {"cn": "yue", "xx": ""}
_DAY = 86400.0
_PAUSE = 60.0
_MAX_ANSWER = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Title:
    """What is known of a title: its medium, its ids, or its name and year."""

    medium: Medium
    tmdb: str = ""
    tvdb: str = ""
    imdb: str = ""
    name: str = ""
    year: str = ""


def title_of(path: Path) -> Title:
    """Return what the path tells: ids and name of the nearest folder or file that has them."""
    names = [display(part) for part in (path.stem, *(parent.name for parent in path.parents)) if part]
    tv = bool(_EPISODE.search(names[0])) or any(_SEASON.match(name) for name in names[1:3])
    title = Title("tv" if tv else "movie")
    for name in names[:4]:
        for kind, value in _ID.findall(name):
            if not getattr(title, kind.lower()):
                title = replace(title, **{kind.lower(): value})
        found = _TITLE.match(name)
        if found and not title.name and not (tv and name == names[0]):
            spaced = re.sub(r"[._]+", " ", found["title"]) if " " not in found["title"] else found["title"]
            title = replace(title, name=spaced.strip(), year=found["year"])
    return title


class Tmdb:
    """The look-up, with its cache in ``directory`` (one small file per question).

    After a failure nothing is asked for a minute: a library must not wait for a service that is down.
    """

    def __init__(self, settings: Mapping[str, Any], policy: FetchPolicy, directory: Path) -> None:
        self._key = str(settings.get("api_key") or "")
        self._url = str(settings.get("url") or "").rstrip("/")
        self._keep = float(settings.get("cache_days") or 90.0) * _DAY
        self._policy = replace(
            policy, max_bytes=_MAX_ANSWER, deadline=float(settings.get("timeout") or 10.0), redirects=0
        )
        self._directory = directory
        self._silent_until = 0.0

    def original_language(self, title: Title) -> str | None:
        """Return the title's original language as a tag; None when it is not known.

        Transient while the service cannot be reached.
        """
        if not self._key:
            return None
        for question, pick in _questions(title):
            language = self._ask(question, pick, title)
            if language:
                return language
        return None

    def _ask(self, question: str, pick: str, title: Title) -> str | None:
        name = hashlib.sha256(f"{question} {pick} {title.name} {title.year}".encode()).hexdigest()[:40]
        cached = self._cached(name)
        if cached is not None:
            return cached or None
        if time.monotonic() < self._silent_until:
            raise Transient("TMDB could not be reached a moment ago", code="tmdb_unreachable")
        try:
            answer = self._get(question, name)
        except Transient:
            self._silent_until = time.monotonic() + _PAUSE
            raise
        language = _language(answer, pick, title)
        self._keep_answer(name, language)
        return language or None

    def _get(self, question: str, name: str) -> Any:
        joint = "&" if "?" in question else "?"
        self._directory.mkdir(parents=True, exist_ok=True)
        to = self._directory / f".{name}.{secrets.token_hex(4)}"
        try:
            url = f"{self._url}{question}{joint}api_key={quote(self._key, safe='')}"
            found = fetch(url, to, self._policy)
            return json.loads(found.path.read_bytes())
        except BadInput as error:
            status = error.details.get("status")
            if status == 404:
                return {}
            if status == 401:
                log.warning("TMDB refuses the API key (tracks.tmdb.api_key)")
            raise Transient(f"TMDB: {error.message}", code="tmdb_unreachable") from error
        except ValueError as error:
            raise Transient(
                f"TMDB answered something that is not JSON: {error}", code="tmdb_unreachable"
            ) from error
        finally:
            to.unlink(missing_ok=True)

    def _cached(self, name: str) -> str | None:
        """Return the remembered language, '' for a remembered absence, None when nothing is remembered."""
        try:
            kept = json.loads((self._directory / f"{name}.json").read_bytes())
            language, at = str(kept["language"]), float(kept["at"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        lifetime = self._keep if language else min(self._keep, _DAY)
        return language if time.time() - at < lifetime else None

    def _keep_answer(self, name: str, language: str) -> None:
        aside = self._directory / f".{name}.{secrets.token_hex(4)}"
        aside.write_text(json.dumps({"language": language, "at": time.time()}))
        os.replace(aside, self._directory / f"{name}.json")  # noqa: PTH105


def _questions(title: Title) -> Iterator[tuple[str, str]]:
    """Yield what to ask, surest first, and where in the answer the title stands."""
    if title.tmdb.isdigit():
        yield f"/{title.medium}/{title.tmdb}", ""
    if title.imdb.startswith("tt"):
        yield f"/find/{title.imdb}?external_source=imdb_id", f"{title.medium}_results"
    if title.tvdb.isdigit() and title.medium == "tv":
        yield f"/find/{title.tvdb}?external_source=tvdb_id", "tv_results"
    if title.name and not (title.tmdb or title.imdb or title.tvdb):
        year = {"first_air_date_year" if title.medium == "tv" else "year": title.year} if title.year else {}
        yield f"/search/{title.medium}?{urlencode({'query': title.name, **year})}", "results"


def _language(answer: Any, pick: str, title: Title) -> str:
    if not isinstance(answer, dict):
        return ""
    found = answer
    if pick:
        results = [entry for entry in answer.get(pick) or () if isinstance(entry, dict)]
        if pick == "results":
            results = [entry for entry in results if _same_title(entry, title)]
        found = results[0] if results else {}
    code = found.get("original_language")
    return _ODD_CODES.get(code, code) if isinstance(code, str) else ""


def _same_title(entry: Mapping[str, Any], title: Title) -> bool:
    """Whether a search result is the title: by its name, plain or original, and its year if one is known."""
    names = {
        _folded(str(entry.get(key) or "")) for key in ("title", "original_title", "name", "original_name")
    }
    date = str(entry.get("release_date") or entry.get("first_air_date") or "")
    return _folded(title.name) in names and (not title.year or not date or date.startswith(title.year))


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).casefold().replace("&", "and")
    return "".join(letter for letter in plain if letter.isalnum())
