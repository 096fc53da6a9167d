"""The port for engines that lift the voice out of a mix, their settings, and which one to use.

A separator sees stereo blocks and yields them back with the voice it found; it knows no files, no
jobs and no MP3. What is left when the voice is taken away is the accompaniment, so the two stems
always sum to the mix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from millrace.engine.context import StageContext

    Samples = NDArray[np.float32]
else:
    Samples = Any  # the server reads the settings below, and should not have to load numpy for them


@dataclass(frozen=True, slots=True)
class Survey:
    """What a first pass over the whole recording found out.

    rate        Hz.
    frames      samples a channel.
    peak        the largest amplitude, 1.0 being full scale.
    mean        of the mid channel (left + right) / 2.
    deviation   standard deviation of the mid channel.
    side        RMS of (left − right) / 2 over RMS of the mid: 0 for mono, about 1 for unrelated sides.
    """

    rate: int
    frames: int
    peak: float
    mean: float
    deviation: float
    side: float


class Separator(Protocol):
    """Finds the voice in a recording of any length, in bounded memory.

    name          what results are labelled with.
    approximate   whether it works by rules of thumb rather than by a model that learned voices.
    """

    name: str
    approximate: bool

    def vocals(
        self, blocks: Iterator[Samples], survey: Survey, progress: Callable[[float], None]
    ) -> Iterator[tuple[Samples, Samples]]:
        """Yield ``(mix, voice)`` for the blocks of a recording, in order and without a gap.

        Blocks are ``(n, 2)`` float32; what is yielded may be cut differently, but sums up to the
        same length. ``progress`` takes the fraction (0–1) of the recording that is done and may be
        called between two yields.
        """
        ...


class SeparationSettings(BaseModel):
    """How voices are separated.

    engine      ``dsp`` needs nothing and is approximate; ``demucs`` needs its extra and a model.
    model       the model's name: ``NAME.yaml`` (a bag), ``NAME.safetensors`` or ``NAME.th`` in the
                repository.
    repository  the directory that holds it; unset: ``demucs`` in the server's directory of models.
    device      where Demucs computes: ``auto`` takes a CUDA device where torch sees one.
    shifts      how many randomly shifted passes are averaged: slower, up to 0.2 dB better.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["dsp", "demucs"] = "dsp"
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = "htdemucs"
    repository: Path | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    shifts: Annotated[int, Field(ge=0, le=10)] = 0

    def repository_in(self, models_dir: str | Path) -> Path:
        """Return the directory that holds the models, below ``models_dir`` unless it is set."""
        return self.repository if self.repository is not None else Path(models_dir) / "demucs"


def separator_for(ctx: StageContext) -> Separator:
    """Return the separator that the workload's settings ask for, loaded once a worker.

    Raises:
        StageError: Demucs is not installed, or its model is missing or unusable (code ``engine_error``).
    """
    settings = SeparationSettings.model_validate(ctx.settings.get("separation", {}))
    if settings.engine == "dsp":
        from millrace.workloads.transcripts.separators.dsp import DspSeparator

        return DspSeparator()
    from millrace.workloads.transcripts.separators.demucs import DemucsSeparator

    repository = settings.repository_in(ctx.site.get("models_dir", "models"))
    key = ("demucs", str(repository), settings.model, settings.device)
    return ctx.model(
        key,
        lambda: DemucsSeparator(
            repository, settings.model, device=settings.device, shifts=settings.shifts, threads=ctx.slots
        ),
        DemucsSeparator.close,
    )


def doctor(settings: SeparationSettings, models_dir: str | Path) -> list[tuple[str, bool, str]]:
    """Return what ``millrace doctor`` says about separation: what, whether it works, what to do."""
    from importlib.util import find_spec

    installed = all(find_spec(name) is not None for name in ("demucs", "torch"))
    hint: Any = "" if installed else "pip install 'millrace[demucs]' separates voices far better than dsp"
    lines = [("demucs", installed, hint)]
    if settings.engine == "demucs":
        repository = settings.repository_in(models_dir)
        names = (f"{settings.model}.yaml", f"{settings.model}.safetensors", f"{settings.model}.th")
        there = any((repository / name).is_file() for name in names)
        hint = "" if there else f"put {' or '.join(names)} into {repository}"
        lines.append((f"demucs model {settings.model}", there, hint))
    return lines
