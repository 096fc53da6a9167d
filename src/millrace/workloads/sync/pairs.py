"""The pairs of a batch, read from CSV or from one request, checked before anything is created."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.errors import InvalidRequest
from millrace.workloads.sync.methods import AI_MODELS, DEFAULT_METHODS, DEFAULT_MODEL, METHODS

COLUMNS = ("master_file", "dub_file", "methods", "ai_model", "description", "tags")
CHOICES = ("master_stream", "dub_stream", "master_channel", "dub_channel")
_TRUE = ("yes", "true", "1", "on")
_FALSE = ("", "no", "false", "0", "off")
_MAX_TEXT = 4096

Reference = Callable[[str], dict[str, Any]]
"""Turns a path or URL into an input reference; InvalidRequest where it is not allowed."""

Missing = Callable[[str], str | None]
"""Says what an AI model lacks on this machine; None if it can be used."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One row: a master, a dub, and how to compare them.

    streams      chosen audio streams and channels by the names in ``CHOICES``; a stream may be ``mix``.
    """

    master_file: str
    dub_file: str
    methods: tuple[str, ...]
    ai_model: str | None
    description: str
    tags: tuple[str, ...]
    repair: bool
    choices: Mapping[str, int | str]
    master: Mapping[str, Any]
    dub: Mapping[str, Any]

    def as_input(self) -> dict[str, Any]:
        """Return the item's input, as the pipeline reads it."""
        return {
            "master": dict(self.master),
            "dub": dict(self.dub),
            "master_file": self.master_file,
            "dub_file": self.dub_file,
            "methods": list(self.methods),
            "ai_model": self.ai_model,
            "description": self.description,
            "tags": list(self.tags),
            "repair": self.repair,
            "choices": dict(self.choices),
        }


def read_csv(raw: bytes, reference: Reference, missing: Missing, most: int) -> list[Pair]:
    """Return the pairs of a CSV file.

    UTF-8 with or without BOM; comma, semicolon or tab, whichever the header uses. Columns that are not
    known are left alone. InvalidRequest names line and column.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InvalidRequest(
            f"the CSV is not UTF-8: line {line} has the byte 0x{raw[error.start]:02x}"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InvalidRequest(f"the CSV has a NUL character in line {line}: it is not a text file")
    head = next((line for line in text.splitlines() if line.strip()), "")
    if not head:
        raise InvalidRequest("the CSV is empty; its first line must name the columns: " + ",".join(COLUMNS))
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    pairs: list[Pair] = []
    columns: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _header(cells)
                continue
            if len(pairs) >= most:
                raise InvalidRequest(
                    f"the CSV has more than {most} rows, which is the limit (sync.max_items)"
                )
            pairs.append(_row(cells, columns, reader.line_num, reference, missing))
    except csv.Error as error:
        raise InvalidRequest(f"line {reader.line_num}: not valid CSV: {error}") from error
    if not pairs:
        raise InvalidRequest("the CSV has no rows below its header")
    return pairs


def _header(cells: Sequence[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in cells]
    for needed in ("master_file", "dub_file"):
        if needed not in columns:
            raise InvalidRequest(
                f"line 1: the column {needed} is missing; there are: {', '.join(columns)[:200]}"
            )
    for column in columns:
        if column and columns.count(column) > 1:
            raise InvalidRequest(f"line 1: the column {column} is there twice")
    return columns


def _row(
    cells: Sequence[str], columns: Sequence[str], line: int, reference: Reference, missing: Missing
) -> Pair:
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        raise InvalidRequest(
            f"line {line}: {len(cells)} values for {len(columns)} columns; "
            "put values that hold the delimiter in double quotes"
        )
    values = {column: cell.strip() for column, cell in zip(columns, cells, strict=False)}
    return check(values, lambda column: f"line {line}, column {column}", reference, missing)


def check(
    values: Mapping[str, Any], where: Callable[[str], str], reference: Reference, missing: Missing
) -> Pair:
    """Return the pair that these values describe. InvalidRequest says ``where(field)`` and why.

    ``master`` and ``dub`` may hold references that are ready; else the files are turned into some.
    """
    references = {}
    for side in ("master", "dub"):
        column = f"{side}_file"
        if values.get(side) is not None:
            references[side] = dict(values[side])
            continue
        given = values.get(column) or ""
        if not isinstance(given, str) or not given.strip():
            raise InvalidRequest(f"{where(column)}: a path or URL is needed")
        try:
            references[side] = reference(given.strip())
        except InvalidRequest as error:
            raise InvalidRequest(f"{where(column)}: {error.message}") from error
    methods = _methods(values.get("methods"), where("methods"))
    ai_model = _model(values.get("ai_model"), methods, where("ai_model"), missing)
    return Pair(
        master_file=str(values.get("master_file") or _said(references["master"])),
        dub_file=str(values.get("dub_file") or _said(references["dub"])),
        methods=methods,
        ai_model=ai_model,
        description=_text(values.get("description"), where("description")),
        tags=_words(values.get("tags"), where("tags")),
        repair=_flag(values.get("repair"), where("repair")),
        choices=_choices(values, where),
        master=references["master"],
        dub=references["dub"],
    )


def _said(reference: Mapping[str, Any]) -> str:
    return str(reference.get("path") or reference.get("url") or reference.get("name") or "")


def _methods(value: Any, where: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.lower() for word in _words(value, where)))
    for word in found:
        if word not in METHODS:
            raise InvalidRequest(f"{where}: {word[:40]!r} is no method; there are: {', '.join(METHODS)}")
    return found or DEFAULT_METHODS


def _model(value: Any, methods: Sequence[str], where: str, missing: Missing) -> str | None:
    word = _text(value, where).lower()
    if word and word not in AI_MODELS:
        raise InvalidRequest(f"{where}: {word[:40]!r} is no AI model; there are: {', '.join(AI_MODELS)}")
    if "ai" not in methods:
        return word or None
    word = word or DEFAULT_MODEL
    lacking = missing(word)
    if lacking is not None:
        raise InvalidRequest(f"{where}: the AI model {word} is not available on this machine: {lacking}")
    return word


def _choices(values: Mapping[str, Any], where: Callable[[str], str]) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    for name in CHOICES:
        text = str(values.get(name) if values.get(name) is not None else "").strip().lower()
        if not text:
            continue
        if text == "mix" and name.endswith("stream"):
            found[name] = "mix"
        elif text.isascii() and text.isdigit() and int(text) < 1000:
            found[name] = int(text)
        else:
            also = " or mix" if name.endswith("stream") else ""
            raise InvalidRequest(f"{where(name)}: must be a number counted from 0{also}, not {text[:40]!r}")
    return found


def _words(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
        raise InvalidRequest(f"{where}: must be words separated by commas")
    return tuple(word.strip() for word in value if word.strip())


def _flag(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value or "").strip().lower()
    if word not in _TRUE + _FALSE:
        raise InvalidRequest(f"{where}: must be yes or no, not {word[:40]!r}")
    return word in _TRUE


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise InvalidRequest(f"{where}: must be text of at most {_MAX_TEXT} characters")
    return value.strip()
