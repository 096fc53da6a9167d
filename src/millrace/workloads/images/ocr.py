"""Reads legible text in a picture with RapidOCR, whose models lie in its package."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

SIDE = 1280
_SURE = 0.8


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text; ``height`` is its share of the picture's height."""

    text: str
    score: float
    height: float


@cache
def available() -> bool:
    """Whether the reader is installed."""
    return all(importlib.util.find_spec(name) for name in ("onnxruntime", "rapidocr"))


def load() -> Callable[..., Any]:
    """Return a reader: about a second, and 200 MB of memory."""
    from rapidocr import RapidOCR

    reader: Callable[..., Any] = RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": 736,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        }
    )
    return reader


def read(reader: Callable[..., Any], image: Image.Image) -> list[Line]:
    """Return the lines of an upright RGB picture that can be read with certainty, in reading order."""
    result = reader(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))
    if result.txts is None or result.boxes is None:
        return []
    lines = []
    for text, score, box in zip(result.txts, result.scores, result.boxes, strict=True):
        height = float(np.ptp(np.asarray(box)[:, 1])) / image.height
        words = " ".join(str(text).split())
        if score >= _SURE and sum(char.isalnum() for char in words) >= 2:
            lines.append(Line(words, round(float(score), 3), round(height, 4)))
    return lines
