"""PocketSphinx: US English at draft quality (about 3 words of 4 right on read speech), embedded.

The model is inside its wheel, so it works on any machine at once; it gives word times.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from millrace.workloads.transcripts.recognisers import Recognised, RecogniserSpec, Samples, Word

if TYPE_CHECKING:
    from pathlib import Path

_SHORTEST = 800
"""Samples below which there is no frame to decode: 50 ms."""


class PocketSphinx:
    """Decodes each segment by itself, normalised over itself.

    Its decoder holds the interpreter lock while it works, and keeps a little of what it decided
    before: a word it is not sure of may come out differently after other segments.
    """

    lanes = 1

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=16000, loglevel="FATAL")

    def recognise(self, samples: Samples) -> Recognised:
        """Return the words with their times; the language is always ``en``."""
        if len(samples) < _SHORTEST:
            return Recognised("", language="en")
        pcm = (np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        words = tuple(
            Word(re.sub(r"\(\d+\)$", "", part.word), part.start_frame / 100, (part.end_frame + 1) / 100)
            for part in self._decoder.seg() or ()
            if part.word[0] not in "<[+"
        )
        return Recognised(" ".join(word.text for word in words), words, "en")

    def close(self) -> None:
        """Forget the decoder."""
        del self._decoder


def check_model(model: Path) -> None:
    """Accept anything: the model is in the wheel."""


def load(spec: RecogniserSpec) -> PocketSphinx:
    """Load the model that is in the wheel."""
    return PocketSphinx()
