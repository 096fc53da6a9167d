"""SenseVoice, Paraformer and Whisper as ONNX files, through sherpa-onnx.

sherpa-onnx ends its whole process when a file's metadata is not what it expects, so the metadata is
checked here before a file is given to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.errors import SettingsError
from millrace.workloads.transcripts.recognisers import Recognised, RecogniserSpec, Samples, Word
from millrace.workloads.transcripts.recognisers.onnx_metadata import read_metadata

_LFR = ("vocab_size", "lfr_window_size", "lfr_window_shift", "neg_mean", "inv_stddev")
_NEEDED = {
    "paraformer": _LFR,
    "sense-voice": (
        *_LFR,
        *("normalize_samples", "with_itn", "without_itn"),
        *("lang_auto", "lang_zh", "lang_en", "lang_ja", "lang_ko", "lang_yue"),
    ),
    "whisper": (
        *("n_mels", "n_text_layer", "n_text_ctx", "n_text_state", "n_vocab", "sot", "eot", "blank_id"),
        *("translate", "transcribe", "is_multilingual", "no_timestamps", "no_speech", "sot_sequence"),
    ),
}
"""The metadata each kind of model must have, as sherpa-onnx 2.0 reads it."""

_WHISPER_LANGUAGES = ("all_language_tokens", "all_language_codes")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a model directory holds: its kind, a key of ``_NEEDED``, and its ONNX files in order."""

    kind: str
    networks: tuple[Path, ...]
    tokens: Path


class SherpaOnnx:
    """One loaded model; its lanes share it, each segment taking one core."""

    def __init__(self, spec: RecogniserSpec, files: ModelFiles) -> None:
        from sherpa_onnx import OfflineRecognizer

        tokens, threads = str(files.tokens), 1
        provider = "cuda" if spec.device == "cuda" else "cpu"
        shared = {"tokens": tokens, "num_threads": threads, "provider": provider}
        names = [str(path) for path in files.networks]
        self.lanes = spec.threads
        self._model: Any
        if files.kind == "sense-voice":
            self._model = OfflineRecognizer.from_sense_voice(
                model=names[0], language=spec.language or "auto", use_itn=True, **shared
            )
        elif files.kind == "paraformer":
            self._model = OfflineRecognizer.from_paraformer(paraformer=names[0], **shared)
        else:
            self._model = OfflineRecognizer.from_whisper(
                encoder=names[0], decoder=names[1], language=spec.language or "", **shared
            )

    def recognise(self, samples: Samples) -> Recognised:
        """Return the text, with times of words (or characters) where the model has them."""
        stream = self._model.create_stream()
        stream.accept_waveform(16000, samples)
        self._model.decode_stream(stream)
        result = stream.result
        language = result.lang[2:-2] if result.lang.startswith("<|") else None
        words = join_tokens(list(result.tokens), list(result.timestamps), len(samples) / 16000)
        return Recognised(result.text.strip(), words, language)

    def close(self) -> None:
        """Forget the model."""
        del self._model


def join_tokens(tokens: list[str], starts: list[float], end: float) -> tuple[Word, ...]:
    """Return words made of sub-word tokens and their start times; a word ends where the next begins.

    A token that begins with ``▁`` or a space begins a word, as does every character of a script
    without spaces; ``@@`` at a token's end says that the word goes on (Paraformer).
    """
    if len(tokens) != len(starts) or not tokens:
        return ()
    begun: list[tuple[str, float]] = []
    goes_on = False
    for token, start in zip(tokens, starts, strict=True):
        text = token.removesuffix("@@").lstrip("▁ ").rstrip()
        if not text:
            continue
        alone = not text[0].isascii() or (bool(begun) and not begun[-1][0][-1].isascii())
        new = token[0] in "▁ " or alone or ("@@" in "".join(tokens) and not goes_on)
        if begun and not new:
            begun[-1] = (begun[-1][0] + text, begun[-1][1])
        else:
            begun.append((text, start))
        goes_on = token.endswith("@@")
    ends = [start for _, start in begun[1:]] + [end]
    return tuple(Word(t, s, max(s, min(e, s + 1.0))) for (t, s), e in zip(begun, ends, strict=True))


def find_model(model: Path) -> ModelFiles:
    """Return what the directory holds; SettingsError if that is no model sherpa-onnx can load."""
    tokens = _first(model, "tokens.txt", "*tokens.txt")
    encoder = _first(model, "*encoder*.int8.onnx", "*encoder*.onnx")
    decoder = _first(model, "*decoder*.int8.onnx", "*decoder*.onnx")
    single = _first(model, "model.int8.onnx", "model.onnx", "*.onnx")
    if tokens is None or single is None:
        raise SettingsError(f"{model} is no sherpa-onnx model: it needs tokens.txt and model.onnx (or more)")
    try:
        if encoder is not None and decoder is not None:
            metadata, files = read_metadata(encoder), ModelFiles("whisper", (encoder, decoder), tokens)
            read_metadata(decoder)
        else:
            metadata = read_metadata(single)
            kind = "sense-voice" if "lang_auto" in metadata else "paraformer"
            files = ModelFiles(kind, (single,), tokens)
    except ValueError as error:
        raise SettingsError(f"{model}: {error}") from error
    _check_metadata(files, metadata)
    return files


def check_model(model: Path) -> None:
    """Raise SettingsError if the directory holds no model that can be loaded safely."""
    find_model(model)


def _check_metadata(files: ModelFiles, metadata: dict[str, str]) -> None:
    needed = _NEEDED[files.kind]
    if files.kind == "whisper" and metadata.get("is_multilingual", "0") != "0":
        needed = (*needed, *_WHISPER_LANGUAGES)
    missing = [key for key in needed if not metadata.get(key)]
    if missing:
        raise SettingsError(
            f"{files.networks[0]} is no {files.kind} model for sherpa-onnx: its metadata lacks "
            f"{', '.join(missing)} (export it with sherpa-onnx's own scripts)"
        )


def _first(folder: Path, *patterns: str) -> Path | None:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                return path
    return None


def load(spec: RecogniserSpec) -> SherpaOnnx:
    """Load the model in the directory."""
    assert spec.model is not None
    return SherpaOnnx(spec, find_model(Path(spec.model)))
