"""What an operator can set for sync."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

GIB = 1024**3


class SyncSettings(BaseModel):
    """The section ``sync``.

    timeout          seconds one pair may take before its item fails with ``timeout``.
    wait             seconds ``POST /api/v1/analysis/sync`` waits for its answer before it says 408.
    tolerance_ms     offsets up to this, all along the file, count as in sync.
    max_items        the most rows one CSV may have.
    max_csv_bytes    the largest CSV taken.
    cache_bytes      how much decoded sound is kept on disk, for masters with several dubs (an hour: 150 MB).
    wav2vec2         directory of a transformers wav2vec2 model; default ``wav2vec2`` in the models directory.
    yamnet           YAMNet as ONNX; default ``yamnet/yamnet.onnx`` in the models directory.
    ttl              seconds a finished batch is kept.
    max_queued_jobs  unfinished batches beyond this many are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3600.0
    wait: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300.0
    tolerance_ms: Annotated[float, Field(ge=0, le=1000)] = 20.0
    max_items: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    max_csv_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    cache_bytes: Annotated[int, Field(ge=0)] = 4 * GIB
    wav2vec2: Path | None = None
    yamnet: Path | None = None
    ttl: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 7 * 86400.0
    max_queued_jobs: Annotated[int, Field(ge=1)] = 1000
