"""The stages of a recording: make sure of it, recognise what is said, separate voice from the rest.

Each runs in a worker process and may run again after a crash: it reads its input and writes its
artifacts from the start, and keeps nothing in between.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from millrace.engine.context import StageContext
from millrace.errors import SettingsError, StageError
from millrace.media.decode import AudioDecoder, Samples
from millrace.media.probe import MAX_SECONDS, probe
from millrace.sources import localise
from millrace.workloads.transcripts import separation, srt, vad
from millrace.workloads.transcripts.recognisers import RecogniserSpec
from millrace.workloads.transcripts.recognisers.team import Team
from millrace.workloads.transcripts.settings import DEFAULT_SEGMENT_MS, DEFAULT_SILENCE_MS

SOURCE = "source"
"""The artifact that holds a recording fetched from a URL: it is fetched once, whatever stages follow."""

SRT, VTT, JSON = "output.srt", "output.vtt", "output.json"

_RECOGNISED = 0.98


def validate(ctx: StageContext) -> Mapping[str, Any]:
    """Get hold of the recording and make sure that there is audio in it; returns what it declares.

    Raises:
        BadInput: it is not there, not allowed, or holds no audio that can be decoded (``bad_audio``).
        Transient: it could not be fetched now.
    """
    ctx.progress(0.0, "validate")
    path = localise(ctx, ctx.input, code="bad_audio", progress=_fetching(ctx))
    if ctx.input.get("kind") == "url":
        kept = ctx.artifact(SOURCE, "application/octet-stream")
        shutil.move(path, kept)
        path = kept
    with AudioDecoder(path, stream=_stream(ctx)) as decoder:
        stream = decoder.stream
    info = probe(path)
    return {
        "container": info.container,
        "bytes": info.bytes,
        "declared_seconds": info.duration,
        "audio_streams": len(info.audio),
        "video_streams": info.video,
        "stream": stream.position,
        "codec": stream.codec,
        "rate": stream.rate,
        "channels": stream.channels,
    }


def recognise(ctx: StageContext) -> Mapping[str, Any]:
    """Write ``output.srt``, ``output.vtt`` and ``output.json`` of what is said in the recording.

    A recording in which nobody speaks has no cues: that is a result, not an error.

    Raises:
        BadInput: it cannot be decoded, or is longer than is allowed (``bad_audio``).
        StageError: the recogniser or its model is not on this machine (``engine_error``).
    """
    ctx.progress(0.0, "asr_convert")
    team = ctx.model(spec := recogniser_spec(ctx), lambda: Team(spec), Team.close)
    detector = ctx.model("voice activity", vad.load_detector)
    segmenter = vad.Segmenter(
        int(ctx.options.get("vadMaxSingleSegmentMs", DEFAULT_SEGMENT_MS)),
        int(ctx.options.get("vadMaxEndSilenceMs", DEFAULT_SILENCE_MS)),
    )
    limit = float(ctx.settings.get("max_seconds", MAX_SECONDS))
    utterances: list[srt.Utterance] = []
    with AudioDecoder(source(ctx), rate=vad.RATE, stream=_stream(ctx), max_seconds=limit) as decoder:
        segments = vad.speech(_reported(ctx, decoder), detector, segmenter)
        try:
            for segment, said in team.recognise(segments, ctx.slots):
                heard = segment.segment
                start, end = heard.heard_from / vad.RATE, heard.heard_to / vad.RATE
                if said.text:
                    utterances.append(srt.Utterance(start, end, said))
        except SettingsError as error:
            raise StageError(error.message, code="engine_error") from error
        seconds, damaged = decoder.seconds, decoder.damaged
    cues = srt.cues(utterances)
    ctx.progress(_RECOGNISED, "asr")
    _write(ctx.artifact(SRT, "application/x-subrip"), srt.srt(cues))
    _write(ctx.artifact(VTT, "text/vtt"), srt.vtt(cues))
    _write(ctx.artifact(JSON, "application/json"), srt.transcript_json(utterances, cues, seconds))
    return {
        "recogniser": spec.name,
        "seconds": round(seconds, 3),
        "segments": len(utterances),
        "cues": len(cues),
        "damaged_packets": damaged,
    }


def separate(ctx: StageContext) -> Mapping[str, Any]:
    """Write the stems and the archives; see ``separation.separate``."""
    return separation.separate(ctx, source(ctx), stream=_stream(ctx))


def source(ctx: StageContext) -> Path:
    """Return a local file of the recording that ``validate`` has seen."""
    if ctx.input.get("kind") == "url":
        return ctx.published(SOURCE)
    return localise(ctx, ctx.input, code="bad_audio")


def recogniser_spec(ctx: StageContext) -> RecogniserSpec:
    """Return which recogniser the settings ask for; its model is looked for below the models directory."""
    model = ctx.settings.get("recogniser_model")
    found = Path(str(ctx.site.get("models_dir", "models")), model) if model else None
    return RecogniserSpec(
        name=str(ctx.settings.get("recogniser", "pocketsphinx")),
        model=str(found) if found else None,
        language=ctx.settings.get("language"),
        device=str(ctx.settings.get("device", "auto")),
        threads=os.cpu_count() or 1,
    )


def _stream(ctx: StageContext) -> int | None:
    chosen = ctx.options.get("audioStream")
    return int(chosen) if chosen is not None else None


def _reported(ctx: StageContext, decoder: AudioDecoder) -> Iterator[Samples]:
    """Yield the decoder's blocks, telling how far into the recording they are."""
    for block in decoder:
        ctx.progress(_RECOGNISED * decoder.fraction, "asr")
        yield block


def _fetching(ctx: StageContext) -> Any:
    def report(done: int, total: int | None) -> None:
        ctx.progress(done / total if total else 0.0, "validate")

    return report


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
