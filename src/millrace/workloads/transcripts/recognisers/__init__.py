"""The port of speech recognisers, and the register of those that ship with Millrace.

A recogniser turns the samples of one speech segment into text. It is loaded from a local directory
(never downloaded) in a worker process, once, and is asked for segment after segment.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from millrace.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
else:
    Samples = Any  # the server reads the register below, and should not have to load numpy for it


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or a character of a script without spaces; ``start`` and ``end`` in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was said in one segment. ``words`` is empty where the engine gives no word times.

    Times count from the segment's first sample.
    """

    text: str
    words: tuple[Word, ...] = ()
    language: str | None = None


@dataclass(frozen=True, slots=True)
class RecogniserSpec:
    """Which recogniser to load, and how; picklable, and the key under which it is kept warm.

    name       one of ``RECOGNISERS``.
    model      its directory; None for an engine that brings its own.
    language   a code the engine knows (``en``, ``zh``), or None: it finds out by itself.
    device     ``auto`` (a GPU if the engine sees one), ``cpu`` or ``cuda``.
    threads    how many segments may be asked for at once.
    """

    name: str
    model: str | None = None
    language: str | None = None
    device: str = "auto"
    threads: int = 1


class Recogniser(Protocol):
    """Recognises one segment after another.

    lanes   how many threads may ask at once, each keeping a core (or the GPU) busy.
    """

    lanes: int

    def recognise(self, samples: Samples) -> Recognised:
        """Return what is said in ``(n,)`` mono samples at 16 kHz."""

    def close(self) -> None:
        """Give memory back, that of a GPU above all."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An entry of the register.

    module     where its class ``Recogniser`` is.
    packages   what must be importable.
    extra      the extra of ``millrace`` that installs them; None: always there.
    about      one line for people.
    own_model  whether it brings its model; else ``transcripts.recogniser_model`` must be set.
    threads    whether threads spread its work over cores; an engine that holds the interpreter
               lock while it works is spread over child processes instead.
    """

    module: str
    packages: tuple[str, ...]
    extra: str | None
    about: str
    own_model: bool = False
    threads: bool = True

    def missing(self) -> list[str]:
        """Return the packages that are not installed, without importing any."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


_HERE = "millrace.workloads.transcripts.recognisers"

RECOGNISERS: Mapping[str, Engine] = {
    "pocketsphinx": Engine(
        f"{_HERE}.pocketsphinx",
        ("pocketsphinx",),
        None,
        "US English, draft quality, embedded",
        own_model=True,
        threads=False,
    ),
    "faster-whisper": Engine(
        f"{_HERE}.faster_whisper", ("faster_whisper", "ctranslate2"), "whisper", "Whisper, on CPU or GPU"
    ),
    "sherpa-onnx": Engine(
        f"{_HERE}.sherpa_onnx", ("sherpa_onnx",), "sherpa", "SenseVoice, Paraformer or Whisper as ONNX"
    ),
    "funasr": Engine(
        f"{_HERE}.funasr",
        ("funasr", "torch"),
        "funasr",
        "SenseVoice or Paraformer with PyTorch",
        threads=False,
    ),
}


def check(spec: RecogniserSpec) -> None:
    """Raise SettingsError, saying what to do, if the engine or its model is not on this machine."""
    engine = RECOGNISERS.get(spec.name)
    if engine is None:
        raise SettingsError(
            f"transcripts.recogniser is {spec.name!r}: it must be one of {', '.join(RECOGNISERS)}"
        )
    if missing := engine.missing():
        raise SettingsError(
            f"the recogniser {spec.name!r} needs {' and '.join(missing)}, which is not installed: "
            f"pip install 'millrace[{engine.extra}]'"
        )
    if engine.own_model:
        return
    if spec.model is None:
        raise SettingsError(
            f"the recogniser {spec.name!r} needs a model: set transcripts.recogniser_model to its directory"
        )
    if not Path(spec.model).is_dir():
        raise SettingsError(
            f"transcripts.recogniser_model is {spec.model!r}, which is not a directory: models are "
            "local directories and are never downloaded"
        )
    module = importlib.import_module(engine.module)
    module.check_model(Path(spec.model))


def load(spec: RecogniserSpec) -> Recogniser:
    """Load the recogniser into this process; SettingsError if it, or its model, is not there.

    No engine may reach for the network: a model that is not whole fails instead of being fetched.
    """
    check(spec)
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    recogniser: Recogniser = importlib.import_module(RECOGNISERS[spec.name].module).load(spec)
    return recogniser
