"""Whisper through faster-whisper (CTranslate2): on a GPU where it sees one, else on the CPU in int8.

A model is a directory as ``ct2-transformers-converter`` writes it, with the tokenizer beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.errors import SettingsError
from millrace.workloads.transcripts.recognisers import Recognised, RecogniserSpec, Samples, Word

_NEEDED = ("model.bin", "config.json", "tokenizer.json")


class FasterWhisper:
    """One loaded model; on the CPU its lanes share the weights and take one core each."""

    def __init__(self, spec: RecogniserSpec) -> None:
        from faster_whisper import WhisperModel

        device = resolve_device(spec.device)
        self.lanes = 1 if device == "cuda" else spec.threads
        self._language = spec.language
        self._model: Any = WhisperModel(
            str(spec.model),
            device=device,
            compute_type="float16" if device == "cuda" else "int8",
            cpu_threads=1,
            num_workers=self.lanes,
            local_files_only=True,
        )

    def recognise(self, samples: Samples) -> Recognised:
        """Return the text with word times and the language, found out where none is set."""
        found, info = self._model.transcribe(
            samples,
            language=self._language,
            word_timestamps=True,
            vad_filter=False,
            condition_on_previous_text=False,
        )
        longest = len(samples) / 16000
        texts: list[str] = []
        words: list[Word] = []
        for part in found:
            texts.append(part.text)
            words.extend(
                Word(word.word.strip(), min(float(word.start), longest), min(float(word.end), longest))
                for word in part.words or ()
                if word.word.strip()
            )
        return Recognised("".join(texts).strip(), tuple(words), info.language)

    def close(self) -> None:
        """Give the memory back, that of the GPU included."""
        self._model.model.unload_model()
        del self._model


def resolve_device(wanted: str) -> str:
    """Return ``cuda`` or ``cpu``; SettingsError if a GPU is wanted that CTranslate2 does not see."""
    import ctranslate2

    seen = ctranslate2.get_cuda_device_count() > 0
    if wanted == "cuda" and not seen:
        raise SettingsError("transcripts.device is 'cuda', but no CUDA device is seen: use 'auto' or 'cpu'")
    return "cuda" if seen and wanted != "cpu" else "cpu"


def check_model(model: Path) -> None:
    """Raise SettingsError if the directory lacks a file (some would be looked for on the network)."""
    missing = [name for name in _NEEDED if not (model / name).is_file()]
    if not any((model / name).is_file() for name in ("vocabulary.json", "vocabulary.txt")):
        missing.append("vocabulary.json")
    if missing:
        raise SettingsError(
            f"{model} is no faster-whisper model: it lacks {', '.join(missing)} (convert one with "
            "ct2-transformers-converter --copy_files tokenizer.json preprocessor_config.json)"
        )


def load(spec: RecogniserSpec) -> FasterWhisper:
    """Load the model in the directory."""
    return FasterWhisper(spec)
