"""Voice separation with Demucs, from models that are on this machine.

Nothing is downloaded. A model is looked up in a directory laid out as Demucs' own local repositories:
``NAME.yaml`` names the members of a bag, each a ``SIGNATURE.safetensors`` or ``SIGNATURE[-sha256].th``.
A ``.th`` file is a pickle, which could run anything: it is read with PyTorch's restricted unpickler,
and only Demucs' own model classes are let through.
"""

from __future__ import annotations

import gc
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from millrace.errors import StageError, Transient
from millrace.workloads.transcripts.separators import Samples, Survey

_CHUNK_SECONDS = 60.0
_MARGIN_SECONDS = 4.0
_BLEND_SECONDS = 0.5

_CLASSES = {
    "demucs.demucs.Demucs": "Demucs",
    "demucs.hdemucs.HDemucs": "HDemucs",
    "demucs.htdemucs.HTDemucs": "HTDemucs",
}


class DemucsSeparator:
    """A Demucs model (or bag of them) with a voice stem, on the CPU or a GPU.

    A recording goes through in chunks of a minute with margins of four seconds, which are cut off
    again, and half a second of cross-fade, so that memory does not grow with its length. On a GPU
    only the model and one of its segments (some seconds) are there at a time. Recordings at another
    rate than the model's are resampled for it, and the voice back.
    """

    name = "demucs"
    approximate = False

    def __init__(
        self, repository: Path, model: str, *, device: str = "auto", shifts: int = 0, threads: int = 1
    ) -> None:
        """Load ``model`` from ``repository``; ``device`` as in ``SeparationSettings``.

        Raises:
            StageError: Demucs is not installed, or the model is missing, unusable, or has no voice stem.
        """
        try:
            import torch
        except ImportError as error:
            raise _unusable("demucs is not installed: pip install 'millrace[demucs]'") from error
        torch.set_num_threads(max(1, threads))
        self._model: Any = load_model(repository, model)
        if "vocals" not in self._model.sources or self._model.audio_channels != 2:
            raise _unusable(
                f"the model {model} separates {', '.join(self._model.sources)} of "
                f"{self._model.audio_channels} channels; a stereo model with the source 'vocals' is needed"
            )
        self.device = self._choose(device)
        self._shifts = shifts
        self._model.to(self.device)

    def close(self) -> None:
        """Give the memory back, the GPU's as well."""
        import torch

        self._model = None
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def vocals(
        self, blocks: Iterator[Samples], survey: Survey, progress: Callable[[float], None]
    ) -> Iterator[tuple[Samples, Samples]]:
        """See ``Separator.vocals``; holds some 70 seconds at a time."""
        blend = round(_BLEND_SECONDS * survey.rate)
        fade = np.linspace(0, 1, blend, dtype=np.float32)[:, None]
        held: Samples | None = None
        done = 0
        for before, chunk, after in _chunks(blocks, survey.rate):
            around = np.concatenate([before, chunk, after])
            within = _within(progress, done / survey.frames, len(chunk) / survey.frames)
            voice = self._voice(around, survey, within)
            mine = voice[len(before) : len(before) + len(chunk)]
            if held is not None:
                overlap = min(len(held), len(mine))
                mine[:overlap] = held[:overlap] * (1 - fade[:overlap]) + mine[:overlap] * fade[:overlap]
            held = voice[len(before) + len(chunk) :][:blend].copy()
            done += len(chunk)
            yield chunk, mine
            progress(done / survey.frames)

    def _choose(self, device: str) -> str:
        import torch

        if device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise _unusable(f"the device {device} was asked for, but torch sees no CUDA device")
        return device

    def _voice(self, mix: Samples, survey: Survey, progress: Callable[[float], None]) -> Samples:
        """Return the voice in a stretch of the recording, of the same length."""
        import torch
        from demucs.apply import apply_model
        from julius.resample import resample_frac

        rate = int(self._model.samplerate)
        spread = survey.deviation + 1e-8
        with torch.inference_mode():
            wave = (torch.from_numpy(np.ascontiguousarray(mix.T)) - survey.mean) / spread
            if rate != survey.rate:
                wave = resample_frac(wave, survey.rate, rate, full=True)
            random.seed(0)
            try:
                stems = apply_model(
                    self._model,
                    wave[None],
                    shifts=self._shifts,
                    device=self.device,
                    callback=_segment_progress(progress, wave.shape[-1], self._shifts),
                )
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                raise Transient(
                    f"the memory of {self.device} is full; others may be using it: {error}", code="busy"
                ) from error
            voice = stems[0, list(self._model.sources).index("vocals")].cpu()
            if rate != survey.rate:
                voice = resample_frac(voice, rate, survey.rate, output_length=len(mix))
            out: Samples = (voice * spread).numpy().T
        return np.ascontiguousarray(out[: len(mix)], dtype=np.float32)


def load_model(repository: Path, name: str) -> Any:
    """Return the Demucs model, or bag of models, of that name, in evaluation mode on the CPU.

    Raises:
        StageError: it is not there, is damaged, or holds anything but a Demucs model.
    """
    from demucs.apply import BagOfModels

    if not repository.is_dir():
        raise _unusable(f"the repository of Demucs models, {repository}, is not a directory")
    listing = repository / f"{name}.yaml"
    if not listing.is_file():
        model = _load_member(repository, name)
        return BagOfModels([model]).eval()
    try:
        bag = yaml.safe_load(listing.read_text(encoding="utf-8"))
        signatures = [str(signature) for signature in bag["models"]]
        models = [_load_member(repository, signature) for signature in signatures]
        return BagOfModels(models, bag.get("weights"), bag.get("segment")).eval()
    except (yaml.YAMLError, KeyError, TypeError, AssertionError, UnicodeDecodeError) as error:
        raise _unusable(f"{listing} does not describe a bag of Demucs models: {error}") from error


def _load_member(repository: Path, signature: str) -> Any:
    if Path(signature).name != signature:
        raise _unusable(f"{signature!r} is not a plain name of a model in {repository}")
    plain = repository / f"{signature}.safetensors"
    if plain.is_file():
        return _load_safetensors(plain)
    pickles = [
        path
        for path in sorted(repository.glob("*.th"))
        if path.stem == signature or path.stem.rpartition("-")[0] == signature
    ]
    if len(pickles) != 1:
        found = "is not there" if not pickles else f"is there {len(pickles)} times"
        raise _unusable(f"the Demucs model {signature} {found} in {repository} (.safetensors or .th)")
    return _load_pickle(pickles[0], signature)


def _load_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        if "structure" in metadata:
            raise _unusable(f"{path} holds a quantized model; export it with plain weights")
        args = json.loads(metadata["args"], object_hook=_fraction)
        kwargs = json.loads(metadata["kwargs"], object_hook=_fraction)
        return _build(path, metadata["klass"], args, kwargs, state)
    except (SafetensorError, KeyError, ValueError) as error:
        raise _unusable(f"{path} is not a Demucs model in safetensors: {error}") from error


def _load_pickle(path: Path, signature: str) -> Any:
    import pickle
    import warnings

    import torch
    from demucs.demucs import Demucs
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    checksum = path.stem[len(signature) + 1 :]
    if checksum and not _sha256(path).startswith(checksum):
        raise _unusable(f"{path} is damaged: its SHA-256 does not begin with {checksum}")
    try:
        with (
            torch.serialization.safe_globals([Demucs, HDemucs, HTDemucs, Fraction]),
            warnings.catch_warnings(action="ignore"),
        ):
            package = torch.load(path, map_location="cpu", weights_only=True)
        klass = package["klass"]
        return _build(
            path, f"{klass.__module__}.{klass.__name__}", package["args"], package["kwargs"], package["state"]
        )
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise _unusable(f"{path} is not a Demucs model, or holds more than one: {error}") from error


def _build(path: Path, klass: str, args: Any, kwargs: Any, state: Any) -> Any:
    import importlib
    import inspect

    if klass not in _CLASSES:
        raise _unusable(f"{path} wants the class {klass}; only Demucs' own models are loaded")
    made = getattr(importlib.import_module(klass.rpartition(".")[0]), _CLASSES[klass])
    known = inspect.signature(made).parameters
    try:
        model = made(*args, **{key: value for key, value in kwargs.items() if key in known})
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise _unusable(f"{path}: the weights do not fit the model they name: {error}") from error
    return model.eval()


def _fraction(value: dict[str, Any]) -> Any:
    """Undo how Demucs writes a ``Fraction`` as JSON."""
    if value.get("_type") == "fraction":
        return Fraction(value["numerator"], value["denominator"])
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _within(progress: Callable[[float], None], begun: float, share: float) -> Callable[[float], None]:
    return lambda part: progress(begun + part * share)


def _segment_progress(
    progress: Callable[[float], None], length: int, shifts: int
) -> Callable[[dict[str, Any]], None]:
    """Turn Demucs' callback, called around every segment of every model and shift, into a fraction."""
    rounds = max(1, shifts)

    def called(at: dict[str, Any]) -> None:
        if at.get("state") == "end":
            whole = at["model_idx_in_bag"] * rounds + at["shift_idx"]
            progress((whole + min(1.0, at["segment_offset"] / length)) / (at["models"] * rounds))

    return called


def _chunks(blocks: Iterator[Samples], rate: int) -> Iterator[tuple[Samples, Samples, Samples]]:
    """Yield ``(before, chunk, after)``: the recording in chunks, with the margins around each."""
    size, margin = round(_CHUNK_SECONDS * rate), round(_MARGIN_SECONDS * rate)
    before = np.zeros((0, 2), np.float32)
    waiting: list[Samples] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += len(block)
        while held >= size + margin:
            samples = np.concatenate(waiting)
            chunk = samples[:size]
            yield before, chunk, samples[size : size + margin]
            before, waiting, held = chunk[-margin:], [samples[size:]], held - size
    rest = np.concatenate(waiting) if waiting else before[:0]
    if len(rest):
        yield before, rest, rest[:0]


def _unusable(message: str) -> StageError:
    return StageError(message, details={"engine": "demucs"})
