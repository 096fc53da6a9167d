"""The methods by name, as the contract and its users know them, and which of them can work here."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.errors import BadInput

if TYPE_CHECKING:
    from millrace.workloads.sync.analysis import Method, Pair

METHODS = ("mfcc", "onset", "spectral", "correlation", "ai", "auto")
AI_MODELS = ("wav2vec2", "yamnet", "spectral")
DEFAULT_METHODS = ("auto",)
DEFAULT_MODEL = "spectral"

LABELS = {
    "mfcc": "MFCC",
    "onset": "Onset",
    "spectral": "Spectral",
    "correlation": "Correlation",
    "auto": "Auto",
}
MODEL_LABELS = {"wav2vec2": "AI (Wav2Vec2)", "yamnet": "AI (YAMNet)", "spectral": "AI (Spectral)"}

DESCRIPTIONS = {
    "mfcc": "timbre: 13 mel cepstral coefficients; the best single choice for most material",
    "onset": "beginnings of sounds in 8 bands; sharp peaks, good for music and effects",
    "spectral": "change of the spectrum in 20 bands; good in noise",
    "correlation": "loudness of 4 broad bands; the classic envelope correlation",
    "ai": "an embedding by the chosen ai_model",
    "auto": "mfcc, then onset, spectral and correlation too where it is unsure",
}
MODEL_DESCRIPTIONS = {
    "spectral": "patterns of half a second of log-mel energies; no weights needed",
    "wav2vec2": "speech representations of a local Hugging Face transformers directory",
    "yamnet": "sound events by a local YAMNet ONNX file; coarse, refined by phase",
}


@dataclass(frozen=True, slots=True)
class ModelPlaces:
    """Where the weights of the models are looked for."""

    wav2vec2: Path
    yamnet: Path

    @classmethod
    def of(cls, settings: Mapping[str, Any], models_dir: Path | str) -> ModelPlaces:
        """Return the places that the workload's settings name, or those below the models directory."""
        return cls(
            Path(settings.get("wav2vec2") or Path(models_dir) / "wav2vec2"),
            Path(settings.get("yamnet") or Path(models_dir) / "yamnet" / "yamnet.onnx"),
        )

    def missing(self, model: str) -> str | None:
        """Return what a model lacks here and how to get it; None if it can be used."""
        if model == "spectral":
            return None
        if model == "yamnet":
            if not self.yamnet.is_file():
                return f"put a YAMNet ONNX file at {self.yamnet} (or name it in sync.yamnet)"
            return _needs("onnxruntime", "pip install onnxruntime")
        if model == "wav2vec2":
            folder = self.wav2vec2
            weights = ("model.safetensors", "pytorch_model.bin")
            if not (folder / "config.json").is_file() or not any(
                (folder / name).is_file() for name in weights
            ):
                return (
                    f"put a transformers wav2vec2 model (config.json, model.safetensors) into {folder} "
                    "(or name its directory in sync.wav2vec2)"
                )
            return _needs("torch", "pip install 'millrace[wav2vec]'") or _needs(
                "transformers", "pip install 'millrace[wav2vec]'"
            )
        return f"there is no model {model!r}; there are: {', '.join(AI_MODELS)}"


def _needs(package: str, how: str) -> str | None:
    return None if importlib.util.find_spec(package) else f"the package {package} is not installed: {how}"


def build(
    names: Sequence[str], ai_model: str | None, pair: Pair, places: ModelPlaces, models: Any
) -> list[list[Method]]:
    """Return the methods to run, in rounds: a later round is for when the earlier ones are not sure.

    ``models`` is asked for loaded models (``model(key, load, close)``). BadInput if a model cannot be used.
    """
    # The server reads the names above, and should not have to load numpy for them.
    from millrace.workloads.sync.analysis import coarse_pool

    longest = max(coarse_pool(pair.master), coarse_pool(pair.dub))
    rounds: list[list[Method]] = [[], [], []]
    for name in dict.fromkeys(names):
        if name == "auto":
            rounds[0].append(_dsp(pair, "mfcc", longest))
            rounds[1].append(_dsp(pair, "onset", longest))
            rounds[2] += [_dsp(pair, "spectral", longest), _dsp(pair, "correlation", longest)]
        elif name == "ai":
            rounds[0].append(_ai(ai_model or DEFAULT_MODEL, pair, places, models, longest))
        else:
            rounds[0].append(_dsp(pair, name, longest))
    seen: set[str] = set()
    once: list[list[Method]] = []
    for each in rounds:
        new = {method.label: method for method in each if method.label not in seen}
        seen |= new.keys()
        once.append(list(new.values()))
    return once


def _dsp(pair: Pair, name: str, pool: int, label: str | None = None, feature: str | None = None) -> Method:
    from millrace.workloads.sync.analysis import Method
    from millrace.workloads.sync.features import FRAME_RATE

    return Method(
        name,
        label or LABELS[name],
        lambda recording: (pair.features(recording, feature or name, pool), FRAME_RATE / pool),
    )


def _ai(model: str, pair: Pair, places: ModelPlaces, models: Any, pool: int) -> Method:
    missing = places.missing(model)
    if missing is not None:
        raise BadInput(f"the AI model {model} is not available: {missing}", code="model_unavailable")
    label = MODEL_LABELS[model]
    if model == "spectral":
        return _dsp(pair, "ai", pool, label, "embedding")
    from millrace.workloads.sync import neural
    from millrace.workloads.sync.analysis import Method

    if model == "yamnet":
        network = models.model(("yamnet", str(places.yamnet)), lambda: neural.YamNet(places.yamnet))
        return Method("ai", label, network.features)
    encoder = models.model(
        ("wav2vec2", str(places.wav2vec2)), lambda: neural.Wav2Vec2(places.wav2vec2), neural.Wav2Vec2.close
    )
    if max(pair.master.seconds, pair.dub.seconds) <= neural.WHOLE_SECONDS:
        return Method("ai", label, encoder.features)
    return Method("ai", label, _dsp(pair, "ai", pool, label, "embedding").features, encoder.check)
