"""Inputs of items: what a caller may name, and how a stage gets a local file of it.

A reference is ``{"kind": "upload", "key": …, "name": …}``, ``{"kind": "path", "path": …}`` or
``{"kind": "url", "url": …, "name": …}``. Nothing in one is trusted: paths must lie below a declared media
root after all links are followed, URLs go through ``fetch``, names are reduced to plain file names.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from millrace.engine.context import StageContext
from millrace.errors import BadInput, InvalidRequest, NotFound

if TYPE_CHECKING:
    from millrace.fetch import FetchPolicy

FetchProgress = Callable[[int, int | None], None]


def path_reference(path: str, roots: Iterable[Path | str]) -> dict[str, Any]:
    """Return the reference of a local path given by a caller; InvalidRequest where it is not allowed.

    The path need not exist yet: whether it does is found out by the stage.
    """
    return {"kind": "path", "path": str(allowed_path(path, roots))}


def url_reference(url: str, policy: FetchPolicy | None = None, name: str | None = None) -> dict[str, Any]:
    """Return the reference of a URL given by a caller; InvalidRequest where its form is not allowed.

    Nothing is looked up or fetched here: the job does that.
    """
    from millrace import fetch

    try:
        target = fetch.parse(url, policy or fetch.FetchPolicy())
    except BadInput as error:
        raise InvalidRequest(error.message) from error
    last = unquote(urlsplit(target.url).path).rstrip("/").rpartition("/")[2]
    return {"kind": "url", "url": url, "name": plain_name(name or last)}


def allowed_path(path: str, roots: Iterable[Path | str]) -> Path:
    """Return ``path`` as given, made absolute, if it lies below one of the media roots; else InvalidRequest.

    It must lie there both as written and after every symbolic link is followed. What is said does not
    tell whether anything exists outside the roots.
    """
    if "\0" in path or not path:
        raise InvalidRequest("a path must not be empty or hold a NUL character")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in path):
        raise InvalidRequest(f"the path {path!r} is not valid Unicode")
    if not Path(path).is_absolute():
        raise InvalidRequest(f"the path {path!r} must be absolute")
    written = Path(os.path.normpath(path))
    for root in roots:
        if _below(written, Path(root)):
            return written
    raise InvalidRequest(
        f"the path {path!r} is not below a declared media root: give its directory to the server "
        "with --media-root (or media_roots)"
    )


def _below(written: Path, root: Path) -> bool:
    real_root = Path(os.path.realpath(root))
    if not (written.is_relative_to(root) or written.is_relative_to(real_root)):
        return False
    return Path(os.path.realpath(written)).is_relative_to(real_root)


def localise(
    ctx: StageContext,
    reference: Mapping[str, Any],
    *,
    progress: FetchProgress | None = None,
    code: str | None = None,
) -> Path:
    """Return a local file with the content of an item's input; it must not be written to.

    A path is checked against the media roots again, an upload comes from the blob store, a URL is
    fetched into the work directory. ``code`` replaces the code of every BadInput.

    BadInput when the input is gone, is no regular file, or is not allowed; Transient when fetching it
    may work later.
    """
    try:
        return _localise(ctx, reference, progress)
    except BadInput as error:
        if code is None:
            raise
        raise BadInput(error.message, code=code, details=error.details) from error


def _localise(ctx: StageContext, reference: Mapping[str, Any], progress: FetchProgress | None) -> Path:
    kind = reference.get("kind")
    if kind == "path":
        return regular_file(str(reference["path"]), ctx.site.get("media_roots", ()))
    name = plain_name(str(reference.get("name") or "input"))
    folder = ctx.workdir / "input"
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "upload":
        return _named(uploaded(ctx, reference), folder / name)
    if kind == "url":
        # Names and paths are all that most need of this module, and HTTP takes long to import.
        from millrace import fetch

        policy = fetch.FetchPolicy.of(ctx.site.get("fetch", {}))
        return fetch.fetch(str(reference["url"]), folder / name, policy, progress=progress).path
    raise BadInput(f"an input of kind {kind!r} is not known", code="bad_input")


def uploaded(ctx: StageContext, reference: Mapping[str, Any]) -> Path:
    """Return a local file of an upload, under whatever name the store has it. It must not be written to.

    BadInput when it is gone.
    """
    name = plain_name(str(reference.get("name") or "input"))
    try:
        return ctx.local(str(reference["key"]), f"input/{name}")
    except (NotFound, InvalidRequest) as error:
        raise BadInput(f"the upload {name!r} is no longer there", code="input_missing") from error


def _named(stored: Path, wanted: Path) -> Path:
    """Return the stored file under the name its user knows, for messages and for telling formats apart."""
    if stored != wanted and not wanted.exists():
        wanted.symlink_to(stored.absolute())
    return wanted


def regular_file(path: str, roots: Iterable[Path | str]) -> Path:
    """Return the real path of a regular file below the media roots; BadInput for anything else."""
    try:
        real = Path(os.path.realpath(allowed_path(path, roots)))
        mode = real.stat().st_mode
    except InvalidRequest as error:
        raise BadInput(error.message, code="input_refused") from error
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"there is no file {path!r}", code="input_missing") from None
    except OSError as error:
        raise BadInput(f"{path!r} cannot be read: {error.strerror}", code="input_refused") from error
    if not stat.S_ISREG(mode):
        raise BadInput(f"{path!r} is not a regular file", code="input_refused")
    if not os.access(real, os.R_OK):
        raise BadInput(f"{path!r} cannot be read: permission denied", code="input_refused")
    return real


def plain_name(name: str, fallback: str = "input") -> str:
    """Return a file name that is safe to create: no directory, no control character, at most 200 bytes.

    The last part of what looks like a path on any system is taken; its ending is kept.
    """
    name = name.replace("\\", "/").rpartition("/")[2]
    name = unicodedata.normalize("NFC", name)
    name = "".join(char for char in name if unicodedata.category(char)[0] != "C" and char not in '<>:"|?*')
    name = name.strip().lstrip(".").rstrip(". ")
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > 16:
        stem, dot, ending = name, "", ""
    room = 200 - len((dot + ending).encode())
    stem = stem.encode()[:room].decode(errors="ignore")
    return (stem + dot + ending) or fallback
