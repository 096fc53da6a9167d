"""Weights of models: directories below ``models/``, listed, and fetched only when a person asks for it."""

from __future__ import annotations

import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from millrace.blobs.port import sha256_of
from millrace.errors import Conflict, InvalidRequest
from millrace.fetch import FetchPolicy, fetch
from millrace.sources import plain_name

_MARKS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("model.bin", "config.json"), "faster-whisper (CTranslate2)"),
    (("tokens.txt", "*.onnx"), "sherpa-onnx"),
    (("config.json", "preprocessor_config.json", "*.safetensors"), "transformers"),
    (("config.json", "*.safetensors"), "transformers"),
    (("config.json", "pytorch_model.bin"), "transformers"),
    (("model.pt", "config.yaml"), "FunASR"),
    (("*.yaml", "*.safetensors"), "Demucs"),
    (("*.yaml", "*.th"), "Demucs"),
    (("*.th",), "Demucs"),
    (("mdef", "means"), "PocketSphinx"),
    (("*.traineddata",), "Tesseract"),
    (("*.onnx",), "ONNX"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A directory of weights. ``format`` is guessed from its files' names; empty where nothing fits."""

    name: str
    path: Path
    files: int
    bytes: int
    format: str


def list_models(directory: Path) -> list[Model]:
    """Return what lies below the directory of models, by name; empty where there is no such directory."""
    if not directory.is_dir():
        return []
    found = []
    for path in sorted(directory.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            files = [file for file in path.rglob("*") if file.is_file()]
            size = sum(file.stat().st_size for file in files)
            found.append(Model(path.name, path, len(files), size, _format(path)))
    return found


def _format(path: Path) -> str:
    for patterns, name in _MARKS:
        if all(any(path.glob(pattern)) for pattern in patterns):
            return name
    return ""


def pull(
    directory: Path,
    source: str,
    name: str,
    *,
    sha256: str | None = None,
    policy: FetchPolicy | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Model:
    """Bring a model to ``directory / name``: from a URL, an archive or a directory on this machine.

    A zip or tar archive is unpacked (a single folder in it is left out of the path), any other file is
    put there as it is. A URL needs ``sha256``: what comes must be what was meant. Nothing is left behind
    when it fails.

    Conflict when the name is taken; InvalidRequest for a bad name, archive or checksum.
    """
    if plain_name(name) != name:
        raise InvalidRequest(f"{name!r} cannot name a directory of a model")
    target = directory / name
    if target.exists():
        raise Conflict(f"the model {name!r} is there already: {target}; delete it first")
    remote = source.startswith(("http://", "https://"))
    if remote and sha256 is None:
        raise InvalidRequest("a model from a URL needs --sha256, so that what comes is what was meant")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=directory) as scratch:
        content = Path(scratch) / "content"
        content.mkdir()
        if remote:
            local = Path(scratch) / plain_name(source.partition("?")[0], "model")
            fetch(source, local, policy, progress=progress)
        else:
            local = Path(source).expanduser()
        _unfold(local, content, sha256)
        folders = list(content.iterdir())
        if len(folders) == 1 and folders[0].is_dir():
            content = folders[0]
        content.replace(target)
    return next(model for model in list_models(directory) if model.name == name)


def _unfold(local: Path, content: Path, sha256: str | None) -> None:
    if local.is_dir():
        if sha256 is not None:
            raise InvalidRequest("--sha256 checks a file, and the source is a directory")
        shutil.copytree(local, content, dirs_exist_ok=True)
        return
    if not local.is_file():
        raise InvalidRequest(f"there is no file or directory {local}")
    found = sha256_of(local)[1]
    if sha256 is not None and found != sha256.lower():
        raise InvalidRequest(
            f"the SHA-256 of {local.name} is {found}, not {sha256}: it is not what was meant"
        )
    try:
        if zipfile.is_zipfile(local):
            _unzip(local, content)
        elif tarfile.is_tarfile(local):
            with tarfile.open(local) as archive:
                archive.extractall(content, filter="data")
        else:
            shutil.copyfile(local, content / local.name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise InvalidRequest(f"the archive {local.name} cannot be unpacked: {error}") from error


def _unzip(local: Path, content: Path) -> None:
    with zipfile.ZipFile(local) as archive:
        for entry in archive.infolist():
            parts = PurePosixPath(entry.filename).parts
            outside = entry.filename.startswith(("/", "\\")) or ".." in parts
            if outside or stat.S_ISLNK(entry.external_attr >> 16):
                raise InvalidRequest(
                    f"the archive {local.name} leads out of its directory: {entry.filename!r}"
                )
        archive.extractall(content)


def told(size: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
