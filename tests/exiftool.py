"""ExifTool as the judge of what is in a picture's metadata. Tests that ask it skip where it is absent."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="ExifTool is not installed (Debian: libimage-exiftool-perl)"
)


def metadata(folder: Path) -> dict[str, dict[str, Any]]:
    """Everything ExifTool can read in the files of a folder: file name → tag → value, as it is stored."""
    done = subprocess.run(
        ["exiftool", "-j", "-G1", "-a", "-struct", "-b", "-n", "-charset", "filename=utf8", str(folder)],
        capture_output=True,
        check=True,
    )
    return {Path(row["SourceFile"]).name: row for row in json.loads(done.stdout)}


def comparable(row: dict[str, Any]) -> dict[str, Any]:
    """What of it belongs to the picture rather than to the file that holds it."""
    return {
        key: value
        for key, value in row.items()
        if not key.startswith(("System:", "ExifTool:")) and key != "SourceFile"
    }
