"""Draws an answer as a picture: the correlation peak, and the offset all along the master."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.workloads.sync.result import Analysis

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Point = tuple[float, float]

_WIDTH, _HEIGHT = 1000, 640
_INK, _FAINT, _LINE, _GOOD, _BAD = "#1d2733", "#d5dbe3", "#1f6feb", "#1a7f37", "#cf222e"


class _Panel:
    """A rectangle with axes: ``box`` in pixels, ``x`` and ``y`` the ranges shown."""

    def __init__(
        self,
        draw: ImageDraw,
        box: tuple[int, int, int, int],
        x: Point,
        y: Point,
        title: str,
        labels: tuple[str, str],
    ) -> None:
        self._draw = draw
        self._box = box
        self._x, self._y = _widened(x), _widened(y)
        self._axes(title, labels)

    def at(self, point: Point) -> Point:
        """Return the pixel of a point."""
        left, top, right, bottom = self._box
        across = (point[0] - self._x[0]) / (self._x[1] - self._x[0])
        up = (point[1] - self._y[0]) / (self._y[1] - self._y[0])
        return left + across * (right - left), bottom - up * (bottom - top)

    def line(self, points: Sequence[Point], colour: str = _LINE, width: int = 2) -> None:
        """Draw through the points."""
        if len(points) > 1:
            self._draw.line([self.at(point) for point in points], fill=colour, width=width, joint="curve")

    def dot(self, point: Point, colour: str, size: int = 4) -> None:
        """Draw a dot."""
        x, y = self.at(point)
        self._draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)

    def _axes(self, title: str, labels: tuple[str, str]) -> None:
        left, top, right, bottom = self._box
        self._draw.text((left, top - 28), title, fill=_INK, font=_font(16))
        for value in _ticks(*self._x):
            x, _ = self.at((value, self._y[0]))
            self._draw.line((x, top, x, bottom), fill=_FAINT)
            self._draw.text((x, bottom + 6), _number(value), fill=_INK, font=_font(12), anchor="mt")
        for value in _ticks(*self._y):
            _, y = self.at((self._x[0], value))
            self._draw.line((left, y, right, y), fill=_FAINT)
            self._draw.text((left - 8, y), _number(value), fill=_INK, font=_font(12), anchor="rm")
        self._draw.rectangle(self._box, outline=_INK)
        self._draw.text((right, bottom + 24), labels[0], fill=_INK, font=_font(12), anchor="rt")
        self._draw.text((right, top - 8), labels[1], fill=_INK, font=_font(12), anchor="rb")


def draw(analysis: Analysis, path: Path) -> None:
    """Write the picture of an analysis as PNG, 1000 by 640 pixels."""
    from PIL import Image
    from PIL.ImageDraw import Draw

    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    canvas = Draw(image)
    _peak(canvas, analysis)
    _along(canvas, analysis)
    image.save(path, "PNG", optimize=True)


def _peak(canvas: ImageDraw, analysis: Analysis) -> None:
    offsets, heights = analysis.chosen.curve
    trust = f"({analysis.method_used}, confidence {analysis.confidence:.3f})"
    title = f"{analysis.status.replace('_', ' ')}   {_said(analysis)}   {trust}"
    if not offsets:
        offsets, heights = (-1.0, 1.0), (0.0, 0.0)
    step = max(1, len(offsets) // 4000)
    points = sorted(zip(offsets[::step], heights[::step], strict=True))
    low, high = min(0.0, min(heights)), max(max(heights), 10.0)
    panel = _Panel(
        canvas,
        (80, 50, _WIDTH - 30, 270),
        (points[0][0], points[-1][0]),
        (low, high * 1.05),
        title,
        ("offset, s", "correlation, deviations"),
    )
    panel.line(points)


def _along(canvas: ImageDraw, analysis: Analysis) -> None:
    answer = analysis.chosen
    lines = [
        ((s.start, s.offset), (s.end, s.offset - (s.stretch - 1.0) * (s.end - s.start)))
        for s in answer.segments
    ]
    values = [y for ends in lines for _, y in ends]
    length = float(analysis.master.get("seconds", 1.0))
    shown = [point for point in answer.points if not values or min(values) - 1 <= point[1] <= max(values) + 1]
    values += [point[1] for point in shown if point[2]]
    values = values or [0.0]
    room = max(0.002, (max(values) - min(values)) * 0.15)
    panel = _Panel(
        canvas,
        (80, 350, _WIDTH - 30, 580),
        (0.0, length),
        (min(values) - room, max(values) + room),
        "offset along the master" if lines else "no place where the dub fits the master was found",
        ("master, s", "offset, s"),
    )
    for ends in lines:
        panel.line(ends)
    for at, offset, agrees in shown:
        if min(values) - room <= offset <= max(values) + room:
            panel.dot((at, offset), _GOOD if agrees else _BAD)


def _said(analysis: Analysis) -> str:
    offset = analysis.chosen.offset
    return "" if offset is None else f"offset {round(offset, 4) + 0.0:+.4f} s"


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _widened(span: Point) -> Point:
    low, high = span
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Return round numbers within a range."""
    raw = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:.6g}" if abs(value) > 1e-9 else "0"
