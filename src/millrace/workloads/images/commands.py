"""``millrace images tag``: the same analysis and writing, on local files, without a server."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.errors import BadInput
from millrace.workloads.images.pieces import write_pieces

if TYPE_CHECKING:
    from millrace.workloads.images.settings import ImagesSettings

app = typer.Typer(help="Pictures: analyse and tag them.", no_args_is_help=True)
_ENDINGS = {".jpg", ".jpeg", ".png"}


@app.callback()
def _root() -> None:
    """Pictures: analyse and tag them."""


@app.command()
def tag(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Pictures, or directories of them.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the tagged copies here; default: in place.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Tell what would be written, and write nothing.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, the analysis included.")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", help="The settings file.")] = None,
) -> None:
    """Write titles, descriptions and keywords into pictures; not a pixel of them is touched."""
    from millrace.cli import read_settings

    _, settings = read_settings(config, {})
    from millrace.workloads.images.settings import ImagesSettings

    tagger = _Tagger(settings.workload("images", ImagesSettings), settings.data_dir)
    if out is not None and not dry_run:
        out.mkdir(parents=True, exist_ok=True)
    failed = total = 0
    for path, name in _pictures(paths):
        total += 1
        try:
            told = tagger.tag(path, None if dry_run else _target(path, name, out))
        except (BadInput, OSError) as error:
            failed += 1
            told = {"path": str(path), "error": getattr(error, "message", str(error))}
        _show(told, as_json=as_json)
    if not total:
        typer.echo("no JPEG or PNG files were found", err=True)
    if failed or not total:
        raise typer.Exit(1)


def _target(path: Path, name: Path, out: Path | None) -> Path:
    return path if out is None else out / name


def _pictures(paths: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each picture with its place below the directory it was found in."""
    for path in paths:
        if path.is_dir():
            found = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in _ENDINGS and p.is_file())
            yield from ((p, p.relative_to(path)) for p in found)
        else:
            yield path, Path(path.name)


class _Tagger:
    """Tags files one after another, keeping models loaded and the batch's fingerprints."""

    def __init__(self, settings: ImagesSettings, data_dir: Path) -> None:
        self._settings = settings
        self._data_dir = data_dir
        self._models: dict[str, Any] = {}
        self._seen: list[tuple[str, str]] = []

    def tag(self, path: Path, target: Path | None) -> dict[str, Any]:
        """Tag one file; write to ``target`` unless it is None. BadInput when it is no picture."""
        from millrace.workloads.images import analysis, jpeg, png

        settings = self._settings
        if path.stat().st_size > settings.max_image_bytes:
            raise BadInput(
                f"the file has more than {settings.max_image_bytes} bytes (images.max_image_bytes)"
            )
        data = path.read_bytes()
        found = analysis.analyse(
            data,
            path.name,
            max_pixels=settings.max_pixels,
            read_text=settings.read_text,
            reader=self._reader,
        )
        tags, notes = self._tagged(found)
        if settings.existing == "keep":
            tags = analysis.kept(found.facts.existing, tags)
        tags = tags.limited()
        try:
            pieces, added = (jpeg if found.facts.format == "JPEG" else png).write(data, tags)
        except (jpeg.BadJpeg, png.BadPng) as error:
            raise BadInput(f"the image is damaged: {error}") from error
        if target is not None:
            _replace(path, target, pieces)
        mark = found.look.fingerprint
        repeats = next((p for p, m in self._seen if _near(m, mark)), None)
        self._seen.append((str(path), mark))
        told = {"path": str(path), **tags.to_json(), "analysis": found.to_json()}
        told |= {"duplicate_of": repeats} if repeats else {}
        return told | ({"notes": notes + added} if notes or added else {})

    def _reader(self) -> Any:
        from millrace.workloads.images import ocr

        return (
            self._models.setdefault("ocr", None) or self._models.update(ocr=ocr.load()) or self._models["ocr"]
        )

    def _tagged(self, found: Any) -> tuple[Any, list[str]]:
        if self._settings.tagger == "none":
            return found.tags, []
        from millrace.workloads.images.taggers import TaggerFailed, merged, open_tagger

        try:
            if "tagger" not in self._models:
                self._models["tagger"] = open_tagger(self._settings, self._data_dir)
            return merged(found.tags, self._models["tagger"].tag(found).tags), []
        except TaggerFailed as error:
            return found.tags, [f"The tagger {self._settings.tagger} failed: {error.message}"]


def _near(first: str, second: str) -> bool:
    from millrace.workloads.images.analysis import NEAR
    from millrace.workloads.images.pixels import distance

    return distance(first, second) <= NEAR


def _replace(source: Path, target: Path, pieces: list[bytes | memoryview]) -> None:
    """Write ``target`` whole or not at all, with the mode of ``source``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = target.resolve()
    handle, aside = tempfile.mkstemp(prefix=".millrace-", dir=real.parent)
    try:
        try:
            write_pieces(handle, pieces)
            os.fsync(handle)
        finally:
            os.close(handle)
        shutil.copymode(source, aside)
        Path(aside).replace(real)
    finally:
        Path(aside).unlink(missing_ok=True)


def _show(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    if "error" in told:
        typer.echo(f"{told['path']}: {told['error']}", err=True)
        return
    typer.echo(f"{told['path']}\n  {told['title']}\n  {told['description']}\n  {', '.join(told['keywords'])}")
    if "duplicate_of" in told:
        typer.echo(f"  shows the same as {told['duplicate_of']}")
    for note in told.get("notes", ()):
        typer.echo(f"  note: {note}", err=True)


def doctor(settings: ImagesSettings) -> list[tuple[str, bool, str]]:
    """Return what is there, what is missing, and what it would add."""
    from millrace.workloads.images import ocr, places

    lines = [
        (
            "text in pictures",
            ocr.available(),
            "RapidOCR reads legible text"
            if ocr.available()
            else "install rapidocr and onnxruntime to read text",
        ),
        (
            "places",
            places.available(),
            "positions become places" if places.available() else "install reverse-geocode to name places",
        ),
    ]
    if settings.tagger == "none":
        lines.append(("tagger", True, "none; images.tagger: vision or clip says what pictures show"))
    elif settings.tagger == "clip":
        there = Path(settings.clip.directory).is_dir() and Path(settings.clip.vocabulary).is_file()
        hint = f"model {settings.clip.directory}, words {settings.clip.vocabulary}"
        lines.append(("tagger clip", there, hint if there else f"not there: {hint}"))
    else:
        lines.append(("tagger vision", True, f"{settings.vision.model} at {settings.vision.base_url}"))
    return lines
