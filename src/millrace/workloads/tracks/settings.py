"""The settings of the tracks workload: its section ``tracks`` of ``millrace.yaml``.

The contract's own section ``jobs`` (max_queue_size, max_concurrent, retention_days …) is read as
well: ``millrace.settings_sources`` puts each of its keys where the server keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from millrace.workloads.tracks.paths import longest_prefix


def _language(written: str) -> str:
    from millrace.workloads.tracks.languages import known

    return known(written)


Language = Annotated[str, AfterValidator(_language)]
Days = Annotated[float, Field(gt=0, le=36500, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PathMapping(_Section):
    """How a path of Sonarr's or Radarr's machine is called here: ``remote`` becomes ``local``."""

    remote: Annotated[str, Field(min_length=1)]
    local: Annotated[str, Field(pattern="^/")]


class Override(_Section):
    """Other rules for the files at or below ``path``; of several, the longest path decides.

    What is left out is as everywhere.
    """

    path: Annotated[str, Field(pattern="^/")]
    language_priority: tuple[Language, ...] | None = None
    prefer_original: bool | None = None


class TmdbSettings(_Section):
    """Where the original language of a title is looked up when nothing else tells it.

    api_key     of The Movie Database (version 3); unset: nothing is looked up.
    url         its API.
    cache_days  how long an answer is kept; that there is none, for a day at most.
    timeout     seconds for one question.
    """

    api_key: SecretStr | None = None
    url: str = "https://api.themoviedb.org/3"
    cache_days: Days = 90.0
    timeout: Annotated[float, Field(gt=0, le=120)] = 10.0


class TracksSettings(_Section):
    """Which track is chosen, how files are handled, and how many jobs are taken.

    language_priority  languages wanted, best first, after the title's original one.
    prefer_original    whether the original language comes before the list where it is known.
    overrides          other rules for parts of the library.
    path_mappings      from the paths that webhooks name to those of this machine; longest prefix wins.
    webhook_secret     webhooks must be signed with it (HMAC-SHA256); unset: signatures are not asked for.
    keep_mtime         set a file's modification time back after its flags were changed.
    settle_seconds     how long a file must have been left alone before it is touched.
    rewrite            whether a Matroska file whose header has no room may be rewritten and swapped.
    max_queue_size     jobs, running ones included, beyond which new ones are refused.
    max_concurrent     jobs that run at the same time.
    retention_days     how long a finished job can be looked up.
    """

    language_priority: tuple[Language, ...] = ("en",)
    prefer_original: bool = True
    overrides: tuple[Override, ...] = ()
    path_mappings: tuple[PathMapping, ...] = ()
    webhook_secret: SecretStr | None = None
    keep_mtime: bool = True
    settle_seconds: Annotated[float, Field(ge=0, le=600)] = 2.0
    rewrite: bool = True
    tmdb: TmdbSettings = TmdbSettings()
    max_queue_size: Annotated[int, Field(ge=1, le=100_000)] = 100
    max_concurrent: Annotated[int, Field(ge=1, le=64)] = 2
    retention_days: Days = 30.0

    @property
    def mappings(self) -> list[tuple[str, str]]:
        """The path mappings as pairs (there, here)."""
        return [(mapping.remote, mapping.local) for mapping in self.path_mappings]


@dataclass(frozen=True, slots=True)
class Rules:
    """Which languages are wanted for one file. ``override`` is the path of the override that applies."""

    language_priority: tuple[str, ...]
    prefer_original: bool
    override: str | None = None


def rules_for(path: Path, settings: Mapping[str, Any]) -> Rules:
    """Return the rules for a file from the settings as stages see them (plain JSON)."""
    overrides: Sequence[Mapping[str, Any]] = settings.get("overrides") or ()
    priority = tuple(settings.get("language_priority") or ())
    original = bool(settings.get("prefer_original", True))
    prefix = longest_prefix(path, [override["path"] for override in overrides])
    if prefix is None:
        return Rules(priority, original)
    override = next(each for each in overrides if each["path"] == prefix)
    if override.get("language_priority") is not None:
        priority = tuple(override["language_priority"])
    if override.get("prefer_original") is not None:
        original = bool(override["prefer_original"])
    return Rules(priority, original, prefix)
