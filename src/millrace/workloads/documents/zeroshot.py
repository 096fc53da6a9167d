"""An optional local sentence-embedding model that may ask for a review, and nothing else.

It compares passages with short descriptions of what each category above Public looks like. Measured
on its own it decides badly (right four times of five, worse out of its domain): it never sets a category.
The model is a directory with ``model.onnx`` and ``tokenizer.json`` (MiniLM and its kin, mean pooling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.errors import StageError
from millrace.workloads.documents.document import Document

DESCRIPTIONS = {
    "Confidential": (
        "internal business plans, pricing and customer lists that are not public",
        "confidential contract terms under a non-disclosure agreement",
    ),
    "Highly Sensitive": (
        "a person's social security number, bank account and passport",
        "medical record of a patient with diagnosis and treatment",
        "passwords, private keys and access tokens",
    ),
    "Unsafe": (
        "a threat to hurt or kill somebody",
        "instructions for making a bomb or malware",
        "a person who wants to end their own life",
    ),
}
PLAIN = ("a public brochure about products and services",
         "general information, news and instructions for everyday use",
         "a scientific article", "placeholder text without meaning")  # fmt: skip
_PASSAGE = 600
_MAX_PASSAGES = 40
_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Hint:
    """The passage that looks most like a category above Public, and by how much (cosine, -1 to 1)."""

    category: str
    page: int
    margin: float


class Embedder:
    """Loads a model directory; StageError ``model_missing`` where it is not complete."""

    def __init__(self, directory: Path, threads: int = 1) -> None:
        import numpy as np
        import onnxruntime
        from tokenizers import Tokenizer

        self._np: Any = np
        model, tokenizer = directory / "model.onnx", directory / "tokenizer.json"
        for file in (model, tokenizer):
            if not file.is_file():
                raise StageError(f"the zero-shot model lacks {file}", code="model_missing")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session: Any = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> Any:
        """Return unit vectors, one row a text: the mean over the tokens, normalised."""
        np = self._np
        encoded = self._tokenizer.encode_batch(list(texts))
        mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
        feed = {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
        }
        hidden = self._session.run(None, {k: v for k, v in feed.items() if k in self._inputs})[0]
        if hidden.ndim == 3:
            weights = mask[:, :, None].astype(hidden.dtype)
            hidden = (hidden * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)
        return hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-9)


def hint(embedder: Embedder, document: Document, least_margin: float) -> Hint | None:
    """Return the strongest hint at a category above Public, or None below ``least_margin``."""
    passages = [(page.number, part) for page in document.pages for part in _passages(page.text)][
        :_MAX_PASSAGES
    ]
    if not passages:
        return None
    names = [(category, text) for category, texts in DESCRIPTIONS.items() for text in texts]
    vectors = embedder.embed([text for _, text in names] + list(PLAIN))
    found = embedder.embed([text for _, text in passages])
    scores = found @ vectors.T
    plain = scores[:, len(names) :].max(1)
    margins = scores[:, : len(names)] - plain[:, None]
    place = int(margins.argmax())
    row, column = divmod(place, len(names))
    margin = float(margins[row, column])
    return Hint(names[column][0], passages[row][0], round(margin, 3)) if margin >= least_margin else None


def _passages(text: str) -> list[str]:
    flat = " ".join(text.split())
    return [
        part for start in range(0, len(flat), _PASSAGE) if len(part := flat[start : start + _PASSAGE]) >= 20
    ]
