"""What an operator can set for transcripts: the section ``transcripts`` of ``millrace.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from millrace.media.probe import MAX_SECONDS
from millrace.workloads.transcripts.separators import SeparationSettings

DEFAULT_SEGMENT_MS, DEFAULT_SILENCE_MS = 8000, 50
"""What a request that says nothing gets: the longest segment, and the silence that ends one."""

RecogniserName = Literal["pocketsphinx", "faster-whisper", "sherpa-onnx", "funasr"]


class TranscriptsSettings(BaseModel):
    """How recordings are transcribed.

    on_restart        what a restart of the server does to a batch that was queued or running:
                      ``fail`` it, as the contract documents (what was done stays), or ``resume``.
    recogniser        ``pocketsphinx`` is embedded (US English, draft quality); the others need their
                      extra and a model.
    recogniser_model  the model's directory; a relative one is looked for below the server's models.
    language          a code the engine knows (``en``, ``zh``); unset: it finds out by itself.
    device            where the recogniser computes: ``auto`` takes a GPU where the engine sees one.
    max_seconds       the longest recording that is taken, in seconds of really decoded audio.
    max_queued_jobs   batches beyond this many unfinished ones are refused with 503.
    timeout           seconds one recording may take at one stage.
    separation        how voices are separated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_restart: Literal["fail", "resume"] = "fail"
    recogniser: RecogniserName = "pocketsphinx"
    recogniser_model: Path | None = None
    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z]{2,4})?$")] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = MAX_SECONDS
    max_queued_jobs: Annotated[int, Field(ge=1)] = 1000
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 6 * 3600.0
    separation: SeparationSettings = SeparationSettings()

    @property
    def recogniser_on_gpu(self) -> bool:
        """Whether recognition will run on a GPU: a guess without loading the engine."""
        return self.recogniser in ("faster-whisper", "funasr") and wants_gpu(self.device)

    @property
    def separator_on_gpu(self) -> bool:
        """Whether separation will run on a GPU."""
        return self.separation.engine == "demucs" and wants_gpu(self.separation.device)


def wants_gpu(device: str) -> bool:
    """Whether a stage with this device setting waits for a GPU slot: only where the kernel shows a GPU."""
    return device != "cpu" and any(Path("/dev").glob("nvidia[0-9]*"))
