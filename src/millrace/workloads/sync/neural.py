"""Embeddings by neural networks whose weights the operator has put on the machine; nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

from millrace.errors import BadInput
from millrace.workloads.sync.align import Searcher
from millrace.workloads.sync.features import SAMPLE_RATE, Array, normalise
from millrace.workloads.sync.recording import Recording
from millrace.workloads.sync.result import Answer, Segment

WHOLE_SECONDS = 180.0
"""Up to this length a recording is embedded whole by wav2vec2; of longer ones, excerpts are."""

_DIMENSIONS = 32
_EXCERPTS = 6
_EXCERPT_SECONDS = 8.0
_REACH = 2.0


def projected(embedding: Array) -> Array:
    """Return ``(frames, width)`` embeddings as ``(32, frames)``, by a fixed random projection.

    Distances are kept (Johnson & Lindenstrauss 1984) while correlation gets a width's share cheaper.
    """
    width = embedding.shape[1]
    if width > _DIMENSIONS:
        matrix = np.random.default_rng(0).standard_normal((width, _DIMENSIONS)).astype(np.float32)
        embedding = embedding @ (matrix / np.float32(np.sqrt(width)))
    return np.ascontiguousarray(embedding.T, np.float32)


class YamNet:
    """YAMNet as ONNX: waveform at 16 kHz in, one embedding for each 0.48 s out.

    Plakal & Ellis, "YAMNet", TensorFlow models. Any output of rank two is taken, the 1024 wide
    embedding before the 521 scores.
    """

    HOP, WINDOW, FRAMES = 7680, 15600, 120

    def __init__(self, path: Path) -> None:
        onnxruntime = import_module("onnxruntime")

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise BadInput(f"{path} cannot be loaded as ONNX: {error}", code="model_unavailable") from error
        self._input = self._session.get_inputs()[0]
        wide = {
            output.name: output.shape[-1] for output in self._session.get_outputs() if len(output.shape) >= 2
        }
        if not wide:
            raise BadInput(
                f"{path} has no output with embeddings: it is not YAMNet", code="model_unavailable"
            )
        self._output = next((name for name, size in wide.items() if size == 1024), next(iter(wide)))

    def features(self, recording: Recording) -> tuple[Array, float]:
        """Return the embeddings of a whole recording, ``(32, frames)``, and their rate."""
        count = max(1, 1 + (recording.facts.samples - self.WINDOW) // self.HOP)
        parts = []
        for start in range(0, count, self.FRAMES):
            frames = min(self.FRAMES, count - start)
            sound = recording.sound(start * self.HOP, (frames - 1) * self.HOP + self.WINDOW)
            fed = sound if len(self._input.shape) == 1 else sound[None, :]
            out = np.asarray(self._session.run([self._output], {self._input.name: fed})[0], np.float32)
            out = np.nan_to_num(out.reshape(-1, out.shape[-1])[:frames], posinf=0.0, neginf=0.0)
            if len(out) < frames:
                out = np.pad(out, ((0, frames - len(out)), (0, 0)), mode="edge")
            parts.append(out)
        rate = SAMPLE_RATE / self.HOP
        return normalise(projected(np.concatenate(parts)), rate, seconds=15.0), rate


class Wav2Vec2:
    """A wav2vec 2.0 encoder (Baevski et al. 2020) from a local transformers directory, on the GPU if any."""

    RATE = 50.0
    HOP = 320
    _BLOCK, _EDGE = 10.0, 0.5

    def __init__(self, folder: Path) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        torch = import_module("torch")
        transformers = import_module("transformers")

        try:
            model = transformers.AutoModel.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{folder} cannot be loaded as a transformers model: {error}", code="model_unavailable"
            ) from error
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)

    def embed(self, sound: Array) -> Array:
        """Return one embedding each 20 ms, ``(frames, width)``, of up to some tens of seconds."""
        deviation = float(sound.std())
        levelled = (sound - sound.mean()) / max(deviation, 1e-5)
        with self._torch.inference_mode():
            tensor = self._torch.from_numpy(levelled[None, :].astype(np.float32)).to(self._device)
            hidden = self._model(tensor).last_hidden_state[0]
        found: Array = hidden.float().cpu().numpy()
        return found

    def features(self, recording: Recording) -> tuple[Array, float]:
        """Return the embeddings of a whole recording, ``(32, frames)``, and their rate.

        Blocks overlap and lose their edges, where the network sees too little around a frame.
        """
        count = recording.facts.samples // self.HOP
        return self._span(recording, 0, count), self.RATE

    def _span(self, recording: Recording, start: int, count: int) -> Array:
        step, edge = round(self._BLOCK * self.RATE), round(self._EDGE * self.RATE)
        parts = []
        for at in range(start, start + count, step):
            wanted = min(step, start + count - at)
            sound = recording.sound((at - edge) * self.HOP, (wanted + 2 * edge + 1) * self.HOP)
            parts.append(projected(self.embed(sound)[edge : edge + wanted]))
        return normalise(np.concatenate(parts, axis=1), self.RATE)

    def close(self) -> None:
        """Give its memory back, that of the GPU too; it cannot be used any more."""
        self._model = None
        if self._device == "cuda":
            self._torch.cuda.empty_cache()

    def check(self, master: Recording, dub: Recording, answer: Answer) -> Answer:
        """Confirm an answer by excerpts: their embeddings must fit best where the answer says.

        Excerpts are all that is affordable of a long recording (0.3 of real time on a CPU). Where fewer
        than half of them agree the answer is refused.
        """
        if not answer.segments:
            return answer
        agreed = [self._agrees(master, dub, segment, at) for segment, at in _excerpts(answer.segments)]
        share = sum(agreed) / len(agreed) if agreed else 0.0
        if share < 0.5:
            return replace(answer, segments=(), points=(), confidence=0.0)
        return replace(answer, confidence=answer.confidence * share**0.5)

    def _agrees(self, master: Recording, dub: Recording, segment: Segment, at: float) -> bool:
        count = round(_EXCERPT_SECONDS * self.RATE)
        margin = round(_REACH * self.RATE)
        begin = round((at - _EXCERPT_SECONDS / 2) * self.RATE)
        there = round((segment.delay + segment.stretch * begin / self.RATE) * self.RATE)
        mine = self._span(master, begin, count)
        theirs = self._span(dub, there - margin, count + 2 * margin)
        peak = Searcher(mine, self.RATE).find(theirs, least=_EXCERPT_SECONDS)
        return peak is not None and abs(peak.delay - _REACH) <= 0.15


def _excerpts(segments: Sequence[Segment]) -> list[tuple[Segment, float]]:
    """Return places to check, spread over the segments."""
    total = sum(segment.end - segment.start for segment in segments)
    found = []
    for number in range(_EXCERPTS):
        at = total * (number + 0.5) / _EXCERPTS
        for segment in segments:
            length = segment.end - segment.start
            if at <= length:
                found.append((segment, segment.start + at))
                break
            at -= length
    return found
