"""SenseVoice and Paraformer through FunASR (PyTorch).

A model is a directory with ``config.yaml`` and ``model.pt``, as ModelScope and Hugging Face hold them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from millrace.errors import SettingsError
from millrace.workloads.transcripts.recognisers import Recognised, RecogniserSpec, Samples, Word

_TAG = re.compile(r"<\|([^|]*)\|>")
_WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]+(?:'\w+)?|\d+|[\u3040-\u30ff\u3400-\u9fff]")
_LANGUAGES = ("zh", "en", "yue", "ja", "ko")


class FunAsr:
    """One loaded model; it uses one core, so that segments are spread over processes."""

    lanes = 1

    def __init__(self, spec: RecogniserSpec) -> None:
        import torch
        from funasr import AutoModel

        cuda = torch.cuda.is_available()
        if spec.device == "cuda" and not cuda:
            raise SettingsError("transcripts.device is 'cuda', but PyTorch sees none: use 'auto' or 'cpu'")
        self._device = "cuda" if cuda and spec.device != "cpu" else "cpu"
        torch.set_num_threads(1)
        self._language = spec.language or "auto"
        self._model: Any = AutoModel(
            model=str(spec.model),
            device=self._device,
            ncpu=1,
            disable_update=True,
            disable_pbar=True,
            disable_log=True,
            log_level="ERROR",
        )

    def recognise(self, samples: Samples) -> Recognised:
        """Return the text without SenseVoice's tags, with times of characters where it gives them."""
        answers = self._model.generate(
            input=samples, fs=16000, language=self._language, use_itn=True, disable_pbar=True
        )
        answer = answers[0] if answers else {}
        text = str(answer.get("text", ""))
        tags = [tag for tag in _TAG.findall(text) if tag in _LANGUAGES]
        clean = _TAG.sub("", text).strip()
        return Recognised(clean, word_times(clean, answer.get("timestamp") or []), tags[0] if tags else None)

    def close(self) -> None:
        """Give the memory back, that of the GPU included."""
        import torch

        del self._model
        if self._device == "cuda":
            torch.cuda.empty_cache()


def word_times(text: str, stamps: list[list[int]]) -> tuple[Word, ...]:
    """Pair ``[begin, end]`` milliseconds with words; none if their numbers differ.

    FunASR gives one pair for each word in a script with spaces and for each character in one without.
    """
    words = _WORD.findall(text)
    if len(words) != len(stamps):
        return ()
    return tuple(Word(word, b / 1000, e / 1000) for word, (b, e) in zip(words, stamps, strict=True))


def check_model(model: Path) -> None:
    """Raise SettingsError if the directory lacks what FunASR would else look for on the network."""
    missing = [name for name in ("config.yaml", "model.pt") if not (model / name).is_file()]
    if missing:
        raise SettingsError(f"{model} is no FunASR model: it lacks {', '.join(missing)}")


def load(spec: RecogniserSpec) -> FunAsr:
    """Load the model in the directory."""
    return FunAsr(spec)
