"""The OCR port, and its two engines: RapidOCR (models in its wheel, the default) and Tesseract (an extra).

An engine turns a picture into lines with word places. It never downloads anything.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from millrace.errors import StageError
from millrace.workloads.documents.document import Box


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text; ``words`` are ``(start, end, box)`` within it, pixels from the top left."""

    text: str
    confidence: float
    words: tuple[tuple[int, int, Box], ...]

    def places(self, offset: int) -> Iterator[tuple[int, int, Box]]:
        """Yield its words with their offsets moved by ``offset``."""
        for start, end, box in self.words:
            yield start + offset, end + offset, box


class Ocr(Protocol):
    """Reads pictures. ``name`` is shown to people."""

    name: str

    def read(self, image: Any) -> list[Line]:
        """Return the lines of an RGB Pillow image in reading order."""


def available(engine: str) -> bool:
    """Say whether an engine (``rapidocr`` or ``tesseract``) is installed."""
    package = {"rapidocr": "rapidocr", "tesseract": "tesserocr"}[engine]
    return importlib.util.find_spec(package) is not None


def choose(engine: str) -> str | None:
    """Return which engine a setting means: ``auto`` is what is installed, RapidOCR first; None: no OCR.

    Raises StageError ``ocr_unavailable`` when the engine that was named is missing.
    """
    if engine == "off":
        return None
    if engine == "auto":
        return next((name for name in ("rapidocr", "tesseract") if available(name)), None)
    if not available(engine):
        raise StageError(
            f"the OCR engine {engine!r} is not installed: "
            "pip install 'millrace[ocr-tesseract]', or set documents.ocr",
            code="ocr_unavailable",
        )
    return engine


def load(engine: str, threads: int = 1, languages: str = "eng", tessdata: str | None = None) -> Ocr:
    """Load ``rapidocr`` (``threads``) or ``tesseract`` (languages as ``eng+deu``, its data's directory)."""
    return RapidOcr(threads) if engine == "rapidocr" else Tesseract(languages, tessdata)


class Lazy:
    """An engine that is loaded when the first page needs it: most documents have none."""

    name = "lazy"

    def __init__(self, load: Callable[[], Ocr]) -> None:
        self._load = load

    def read(self, image: Any) -> list[Line]:
        """Load the engine, then read with it."""
        return self._load().read(image)


class RapidOcr:
    """PP-OCRv6 through ONNX Runtime; detection, then recognition line by line."""

    name = "rapidocr"

    def __init__(self, threads: int = 1) -> None:
        import rapidocr

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        self._engine: Any = rapidocr.RapidOCR(
            params={
                "Global.log_level": "error",
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def read(self, image: Any) -> list[Line]:
        """Return the lines; words are placed by their share of the line's width."""
        import numpy as np

        pixels = np.asarray(image)[:, :, ::-1]
        result = self._engine(np.ascontiguousarray(pixels))
        if result.boxes is None or result.txts is None:
            return []
        lines = []
        for corners, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
            if text.strip():
                lines.append(_line(text, float(score), corners))
        return _reading_order(lines)


def _line(text: str, confidence: float, corners: Any) -> Line:
    """Split a line's quadrilateral among its words, by characters counted double when wide (CJK)."""
    xs, ys = [float(c[0]) for c in corners], [float(c[1]) for c in corners]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    widths = [2 if ord(char) > 0x2E7F else 1 for char in text]
    total = sum(widths)
    words: list[tuple[int, int, Box]] = []
    start = 0
    for index in range(len(text) + 1):
        if index == len(text) or text[index].isspace():
            if index > start:
                pad = 0.6
                a = max(0.0, sum(widths[:start]) - pad) / total
                b = min(float(total), sum(widths[:index]) + pad) / total
                words.append(
                    (start, index, (left + a * (right - left), top, left + b * (right - left), bottom))
                )
            start = index + 1
    return Line(text, confidence, tuple(words))


def _reading_order(lines: list[Line]) -> list[Line]:
    """Sort by rows (centres closer than half a line), then left to right."""

    def centre(line: Line) -> float:
        return (line.words[0][2][1] + line.words[0][2][3]) / 2

    rows: list[list[Line]] = []
    for line in sorted((line for line in lines if line.words), key=centre):
        height = line.words[0][2][3] - line.words[0][2][1]
        if rows and abs(centre(rows[-1][0]) - centre(line)) < height / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.words[0][2][0])]


class Tesseract:
    """Tesseract through tesserocr; needs its language data (from the system's packages)."""

    name = "tesseract"

    def __init__(self, languages: str = "eng", tessdata: str | None = None) -> None:
        import tesserocr

        self._module: Any = tesserocr
        path = tessdata or next((str(p) for p in _tessdata() if p.is_dir()), "")
        try:
            self._api: Any = tesserocr.PyTessBaseAPI(path=path, lang=languages)
        except RuntimeError as error:
            raise StageError(
                f"Tesseract has no language data for {languages!r} in {path or 'its default place'}: "
                "install it (tesseract-ocr-eng …) or set documents.tessdata",
                code="ocr_unavailable",
            ) from error

    def read(self, image: Any) -> list[Line]:
        """Return the lines with the word boxes that Tesseract gives."""
        self._api.SetImage(image)
        self._api.Recognize()
        iterator, level = self._api.GetIterator(), self._module.RIL
        lines: list[Line] = []
        text = ""
        words: list[tuple[int, int, Box]] = []
        scores: list[float] = []
        if iterator is None:
            return lines
        for word in self._module.iterate_level(iterator, level.WORD):
            if word.Empty(level.WORD):
                continue
            value = word.GetUTF8Text(level.WORD)
            start = len(text) + bool(text)
            text = f"{text} {value}" if text else value
            left, top, right, bottom = map(float, word.BoundingBox(level.WORD))
            words.append((start, start + len(value), (left, top, right, bottom)))
            scores.append(word.Confidence(level.WORD) / 100)
            if word.IsAtFinalElement(level.TEXTLINE, level.WORD):
                lines.append(Line(text, sum(scores) / len(scores), tuple(words)))
                text, words, scores = "", [], []
        if words:
            lines.append(Line(text, sum(scores) / len(scores), tuple(words)))
        return lines


def _tessdata() -> Iterator[Path]:
    yield from sorted(Path("/usr/share/tesseract-ocr").glob("*/tessdata"), reverse=True)
    yield Path("/usr/share/tessdata")
    yield Path("/usr/local/share/tessdata")
    yield Path("/opt/homebrew/share/tessdata")
