"""Voice separation without a model: what stands in the middle and does not stay the same.

In most mixes the voice is panned to the centre and changes all the time, while the accompaniment is
spread out and sustained or repeated. Approximate: anything else in the centre that changes (a drum,
a solo instrument) counts as voice too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.workloads.transcripts.separators import Samples, Survey

Magnitudes = NDArray[np.float32]
Spectra = NDArray[np.complex64]

_WINDOW_SECONDS = 0.09
_BACKGROUND_SECONDS = 10.0
_SPAN_STEPS = 8
"""Spectra are held and masked in spans of this many steps of the background, about a second each."""

_EVERY = 4
"""The median that estimates the background looks at every fourth frame: a fourth of the work."""

_BACKGROUND, _SIDE = 0.5, 2.0
_BACKGROUND_MONO = 0.75
"""How much of the background's and the side channel's magnitude is taken from the mid channel's.
Measured on read speech over music at equal loudness, see benchmarks/separation.py."""

_MONO_BELOW = 0.05
"""With a side channel 26 dB below the mid one its spectrum says nothing about who stands where."""

_LOWEST_VOICE = 60.0


class DspSeparator:
    """Masks the mid channel by spectral subtraction of a running background and of the side channel.

    gain = max(0, |M| − a·B − b·|S|) / |M|, where M is the spectrum of (left + right) / 2,
    S that of (left − right) / 2, and B the temporal median of |M| over ten seconds around the
    frame: a sound that is there more than half of the time is background (Rafii and Pardo's REPET,
    2013, without its period; FitzGerald, "Vocal separation using nearest neighbours and median
    filtering", 2012). Whatever is not in the centre leaves about as much in S as in M. A mono
    recording, or one that is nearly so, is masked by the background alone.
    """

    name = "dsp"
    approximate = True

    def vocals(
        self, blocks: Iterator[Samples], survey: Survey, progress: Callable[[float], None]
    ) -> Iterator[tuple[Samples, Samples]]:
        """See ``Separator.vocals``; holds some 25 seconds at a time."""
        grid = _Grid.of(survey.rate)
        mix = _Fifo()
        mono = survey.side < _MONO_BELOW
        voice = _Overlap(grid)
        done = 0
        for span in _masked(_spans(mix.tee(blocks), grid), grid, mono=mono):
            samples = voice.add(span)[: survey.frames - done]
            done += len(samples)
            if len(samples):
                yield mix.take(len(samples)), np.repeat(samples[:, None], 2, axis=1)
                progress(done / survey.frames)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Frame sizes for one sample rate: ``size`` samples every ``hop``; ``step`` frames are about 1 s."""

    rate: int
    size: int
    hop: int
    step: int
    reach: int

    @classmethod
    def of(cls, rate: int) -> _Grid:
        size = 1 << max(8, round(np.log2(_WINDOW_SECONDS * rate)))
        step = max(1, round(rate / (size // 4) / _EVERY)) * _EVERY
        return cls(rate, size, size // 4, step, round(_BACKGROUND_SECONDS / 2) * step)

    @property
    def window(self) -> Magnitudes:
        """A periodic Hann window: its squares, a quarter apart, add up to 1.5 everywhere."""
        window: Magnitudes = np.hanning(self.size + 1)[:-1].astype(np.float32)
        return window


@dataclass(slots=True)
class _Span:
    """Some consecutive frames: spectra of mid, magnitudes of mid and side, ``(frames, bins)``."""

    mid: Spectra
    level: Magnitudes
    side: Magnitudes


class _Fifo:
    """Samples that went by, kept until they are wanted back in pieces of other sizes."""

    def __init__(self) -> None:
        self._blocks: deque[Samples] = deque()

    def tee(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        """Pass blocks through, keeping them."""
        for block in blocks:
            self._blocks.append(block)
            yield block

    def take(self, samples: int) -> Samples:
        """Return the oldest samples, exactly that many."""
        parts = []
        while samples > 0:
            block = self._blocks.popleft()
            if len(block) > samples:
                self._blocks.appendleft(block[samples:])
                block = block[:samples]
            parts.append(block)
            samples -= len(block)
        return np.concatenate(parts)


class _Overlap:
    """Adds masked frames up to samples again."""

    def __init__(self, grid: _Grid) -> None:
        self._grid = grid
        self._window = grid.window / 1.5
        self._tail: Magnitudes = np.zeros((3, grid.hop), np.float32)
        self._skip = 3

    def add(self, spectra: Spectra) -> Magnitudes:
        """Return the samples that these frames complete, the silence put before the start left out."""
        frames = np.fft.irfft(spectra, self._grid.size, axis=1).astype(np.float32) * self._window
        quarters = frames.reshape(len(frames), 4, self._grid.hop)
        sums = np.zeros((len(frames) + 3, self._grid.hop), np.float32)
        sums[:3] = self._tail
        for quarter in range(4):
            sums[quarter : quarter + len(frames)] += quarters[:, quarter]
        self._tail = sums[len(frames) :]
        complete = sums[self._skip : len(frames)]
        self._skip = max(0, self._skip - len(frames))
        return complete.reshape(-1)


def _spans(blocks: Iterator[Samples], grid: _Grid) -> Iterator[_Span]:
    """Cut a recording into frames, ``_SPAN_STEPS`` steps of them at a time, silence around it."""
    frames = _SPAN_STEPS * grid.step
    wanted = frames * grid.hop
    lead = grid.size - grid.hop
    waiting, held = [np.zeros((lead, 2), np.float32)], lead
    for block in blocks:
        waiting.append(block)
        held += len(block)
        while held >= wanted + lead:
            samples = np.concatenate(waiting)
            yield _span(samples[: wanted + lead], grid)
            waiting, held = [samples[wanted:]], len(samples) - wanted
    samples = np.concatenate([*waiting, np.zeros((grid.size, 2), np.float32)])
    while len(samples) >= grid.size:
        yield _span(samples[: wanted + lead], grid)
        samples = samples[wanted:]


def _span(samples: Samples, grid: _Grid) -> _Span:
    window = grid.window

    def spectra(channel: NDArray[Any]) -> Spectra:
        frames = np.lib.stride_tricks.sliding_window_view(channel, grid.size)[:: grid.hop]
        spectrum: Spectra = np.fft.rfft(frames * window, axis=1).astype(np.complex64, copy=False)
        return spectrum

    left, right = samples[:, 0], samples[:, 1]
    mid = spectra((left + right) / 2)
    return _Span(mid, np.abs(mid), np.abs(spectra((left - right) / 2)))


def _masked(spans: Iterator[_Span], grid: _Grid, *, mono: bool) -> Iterator[Spectra]:
    """Yield the voice's spectra, span by span, each masked by what is known around it."""
    bins = np.fft.rfftfreq(grid.size, 1 / grid.rate)
    above = (1 / (1 + (_LOWEST_VOICE / np.maximum(bins, 1.0)) ** 12)).astype(np.float32)
    previous: Magnitudes | None = None
    current = next(spans, None)
    while current is not None:
        following = next(spans, None)
        background = _background(previous, current.level, following.level if following else None, grid)
        if mono:
            kept = current.level - _BACKGROUND_MONO * background
        else:
            kept = current.level - _BACKGROUND * background - _SIDE * current.side
        gain = above * np.maximum(kept, 0) / (current.level + np.float32(1e-9))
        yield current.mid * gain
        previous = current.level
        current = following


def _background(
    previous: Magnitudes | None, current: Magnitudes, following: Magnitudes | None, grid: _Grid
) -> Magnitudes:
    """Return the median over the seconds around each frame of ``current``, interpolated between steps."""
    before = previous if previous is not None else current[:0]
    after = following if following is not None else current[:0]
    known = np.concatenate([before[len(before) % _EVERY :: _EVERY], current[::_EVERY], after[::_EVERY]])
    origin = len(before) // _EVERY
    step, reach = grid.step // _EVERY, grid.reach // _EVERY
    knots = []
    for knot in range(_SPAN_STEPS + 1):
        centre = origin + min(knot * step, len(known) - origin - 1)
        knots.append(np.median(known[max(0, centre - reach) : centre + reach], axis=0))
    position = np.arange(len(current), dtype=np.float32)[:, None] / grid.step
    index = position[:, 0].astype(int)
    table = np.asarray(knots, np.float32)
    weight = position - index[:, None]
    background: Magnitudes = table[index] * (1 - weight) + table[index + 1] * weight
    return background
