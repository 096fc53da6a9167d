"""Keywords from CLIP or SigLIP, read from a local directory, over a vocabulary of the user's own.

The model is an ONNX export as ``optimum`` and the Hub's ``onnx-community`` write it: a picture model, a
text model and a tokenizer. Sources: Radford et al. 2021 (CLIP), Zhai et al. 2023 (SigLIP). Nothing is
downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from millrace.workloads.images.analysis import Analysis
from millrace.workloads.images.settings import ClipSettings
from millrace.workloads.images.taggers import Answer, TaggerFailed
from millrace.workloads.images.tags import Tags, unique_keywords

Array = NDArray[np.float32]
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How pictures are prepared: square side in pixels, channel mean and deviation, cropped or squeezed."""

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: bool

    def apply(self, image: Image.Image) -> Array:
        """Return the picture as (1, 3, side, side)."""
        side = self.side
        if self.crop:
            scale = side / min(image.size)
            size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
            image = image.resize(size, Image.Resampling.BICUBIC)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        else:
            image = image.resize((side, side), Image.Resampling.BICUBIC)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        values: Array = (np.asarray(image, dtype=np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


class ClipTagger:
    """A loaded model, with the vocabulary already turned into vectors."""

    def __init__(
        self,
        vision: Any,
        preprocessing: Preprocessing,
        words: Sequence[str],
        vectors: Array,
        scale: float,
        settings: ClipSettings,
        name: str,
    ) -> None:
        self._vision = vision
        self._preprocessing = preprocessing
        self._words = words
        self._vectors = vectors
        self._scale = scale
        self._settings = settings
        self._name = name

    @classmethod
    def open(cls, settings: ClipSettings) -> ClipTagger:
        """Load model and vocabulary. TaggerFailed says what is missing."""
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise TaggerFailed(f"{error.name} is not installed: install millrace[clip]") from error
        folder = Path(settings.directory)
        words = vocabulary(Path(settings.vocabulary))
        config, prepared = _json(folder, "config.json"), _json(folder, "preprocessor_config.json")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            text = onnxruntime.InferenceSession(
                _model(folder, "text_model"), options, ["CPUExecutionProvider"]
            )
            vision = onnxruntime.InferenceSession(
                _model(folder, "vision_model"), options, ["CPUExecutionProvider"]
            )
            tokenizer = Tokenizer.from_file(str(_file(folder, "tokenizer.json")))
        except TaggerFailed:
            raise
        except Exception as error:  # onnxruntime and tokenizers raise classes of their own
            raise TaggerFailed(f"the model in {folder} cannot be loaded: {error}") from error
        siglip = "siglip" in str(config.get("model_type", "")).lower()
        texts = [settings.template.replace("{}", word) for word in words]
        vectors = _text_vectors(text, tokenizer, texts, siglip, config)
        # Trained models end at (CLIP: are clamped to) about 100; the configuration tells where they began.
        scale = 100.0
        return cls(
            vision, _preprocessing(prepared, config, siglip), words, vectors, scale, settings, folder.name
        )

    def tag(self, picture: Analysis) -> Answer:
        """Return the likeliest words of the vocabulary as keywords; no title and no description."""
        pixels = self._preprocessing.apply(picture.copy)
        try:
            outputs = self._vision.run(None, {self._vision.get_inputs()[0].name: pixels})
        except Exception as error:  # onnxruntime's own classes
            raise TaggerFailed(f"the model {self._name} failed: {error}") from error
        vector = _unit(_embedding(self._vision, outputs, "image_embeds"))[0]
        similar = self._vectors @ vector
        odds = np.exp(self._scale * (similar - similar.max()))
        shares = odds / odds.sum()
        best = np.argsort(-shares)[: self._settings.count]
        chosen = [int(i) for i in best if shares[i] >= self._settings.threshold]
        scores = {self._words[i]: round(float(shares[i]), 4) for i in chosen}
        return Answer(Tags(keywords=tuple(scores)), {"model": self._name, "scores": scores})


def vocabulary(path: Path) -> list[str]:
    """Return the keywords in a text file, one a line. TaggerFailed when there is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TaggerFailed(f"the vocabulary {path} cannot be read: {error}") from error
    kept = [line.partition("#")[0].strip() for line in lines]
    seen = list(dict.fromkeys(word for word in kept if word))
    words = [word for word in seen if unique_keywords([word])]
    if not words:
        raise TaggerFailed(f"the vocabulary {path} holds no word")
    return words


def _file(folder: Path, name: str) -> Path:
    for place in (folder, folder / "onnx"):
        if (place / name).is_file():
            return place / name
    raise TaggerFailed(
        f"{folder} holds no {name}: images.clip.directory wants an ONNX export of CLIP or SigLIP"
    )


def _model(folder: Path, stem: str) -> str:
    for ending in ("", "_quantized", "_int8", "_uint8", "_fp16"):
        for place in (folder, folder / "onnx"):
            if (place / f"{stem}{ending}.onnx").is_file():
                return str(place / f"{stem}{ending}.onnx")
    return str(_file(folder, f"{stem}.onnx"))


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads(_file(folder, name).read_text())
    except ValueError as error:
        raise TaggerFailed(f"{folder / name} is not JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _preprocessing(prepared: dict[str, Any], config: dict[str, Any], siglip: bool) -> Preprocessing:
    size = prepared.get("crop_size") or prepared.get("size") or {}
    side = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
    side = side or config.get("vision_config", {}).get("image_size") or 224
    default = ((0.5,) * 3, (0.5,) * 3) if siglip else (_CLIP_MEAN, _CLIP_STD)
    crop = bool(prepared.get("do_center_crop", not siglip))
    return Preprocessing(
        int(side),
        tuple(prepared.get("image_mean") or default[0]),
        tuple(prepared.get("image_std") or default[1]),
        crop,
    )


def _text_vectors(
    model: Any, tokenizer: Any, texts: list[str], siglip: bool, config: dict[str, Any]
) -> Array:
    length = int((config.get("text_config") or {}).get("max_position_embeddings") or (64 if siglip else 77))
    tokenizer.enable_truncation(length)
    if siglip:
        # SigLIP was trained on padded texts only, and reads the padding too.
        pad = int((config.get("text_config") or {}).get("pad_token_id", 1))
        tokenizer.enable_padding(length=length, pad_id=pad, pad_token=tokenizer.id_to_token(pad) or "</s>")
    else:
        tokenizer.enable_padding()
    wanted = {entry.name for entry in model.get_inputs()}
    parts = []
    for start in range(0, len(texts), _BATCH):
        encoded = tokenizer.encode_batch(texts[start : start + _BATCH])
        inputs = {
            "input_ids": np.array([e.ids for e in encoded], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], np.int64),
        }
        outputs = model.run(None, {name: value for name, value in inputs.items() if name in wanted})
        parts.append(_unit(_embedding(model, outputs, "text_embeds")))
    return np.concatenate(parts)


def _embedding(model: Any, outputs: Sequence[Any], name: str) -> Array:
    """Return the pooled vectors among a model's outputs: by name, else the first that is a matrix."""
    named = dict(zip((entry.name for entry in model.get_outputs()), outputs, strict=True))
    for key in (name, "pooler_output"):
        if key in named:
            return np.asarray(named[key], np.float32)
    for value in outputs:
        if np.ndim(value) == 2:
            return np.asarray(value, np.float32)
    raise TaggerFailed(f"the model has no output {name}; there are: {', '.join(named)}")


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)
