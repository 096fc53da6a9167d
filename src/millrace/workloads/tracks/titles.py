"""Remembers the original language of titles that webhooks told, so that a later scan knows it too.

One small file per folder (of a series or film) or file, below the data directory: the server writes
it, worker processes look it up for a file and the folders above it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path

_LEVELS = 6


class Titles:
    """The known original languages, by path. Safe for several processes: files are replaced whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def remember(self, path: Path, language: str) -> None:
        """Keep the original language of everything at or below ``path``."""
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._file(path)
        aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        aside.write_text(json.dumps({"language": language}))
        os.replace(aside, file)  # noqa: PTH105

    def original_language(self, path: Path) -> str | None:
        """Return what is known for the file, or for the nearest of the folders above it."""
        if not self._directory.is_dir():
            return None
        for place in (path, *path.parents[:_LEVELS]):
            try:
                data = self._file(place).read_bytes()
            except FileNotFoundError:
                continue
            try:
                return str(json.loads(data)["language"])
            except (ValueError, KeyError, TypeError):
                continue
        return None

    def _file(self, path: Path) -> Path:
        return self._directory / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:40]}.json"
