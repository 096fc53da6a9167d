"""Recognition: word errors and speed on real speech, against calling the engine bare in the same run.

    python benchmarks/transcripts.py [--corpus DIR] [--repeat 6] [--items 4] [--cores 2] [--server]

Bare is what somebody would write in ten lines: load the engine once, decode each file, hand it over
whole. The peer for the overhead is the engine given the very segments that the stage gives it, so
that nothing but our own work (decoding, voice activity, cues, files) is counted. ``--repeat`` joins
the corpus so often into one long recording for the measure of cores. ``--server`` also runs batches
of 1, 2 and ``--items`` recordings through a real server.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from millrace.engine.context import StageContext, WarmModels
from millrace.media.decode import read_audio
from millrace.workloads.transcripts import pipeline, vad
from millrace.workloads.transcripts.recognisers import Recogniser, RecogniserSpec, load

DEFAULT_CORPUS = Path(__file__).parent.parent.parent / "shared" / "corpus" / "speech"


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return re.findall(r"[^\W_]+(?:'\w+)?", text.lower())


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Return the edit distance between two lists of words."""
    row = list(range(len(heard) + 1))
    for n, wanted in enumerate(reference, 1):
        last, row[0] = row[0], n
        for m, word in enumerate(heard, 1):
            last, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, last + (wanted != word))
    return row[-1]


def stage(path: Path, models: WarmModels, spec: RecogniserSpec, slots: int) -> dict:
    """Run the recognition stage as a worker would; return ``output.json``."""
    work = Path(tempfile.mkdtemp())
    settings = {"recogniser": spec.name, "recogniser_model": spec.model, "language": spec.language}
    ctx = StageContext(
        job="benchmark",
        idx=0,
        name=path.name,
        stage="asr",
        input={"kind": "path", "path": str(path)},
        workdir=work,
        slots=slots,
        settings={**settings, "device": spec.device},
        site={"media_roots": [str(path.parent)], "models_dir": "/"},
        models=models,
    )
    try:
        pipeline.recognise(ctx)
        return json.loads((work / "artifacts" / "output.json").read_text())
    finally:
        shutil.rmtree(work)


def timed(work: Callable[[], object], repeat: int = 3) -> float:
    """Return the median of wall seconds."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def accuracy(files: list[Path], bare: Recogniser, models: WarmModels, spec: RecogniserSpec) -> None:
    """Print the word error rate of the engine on whole files, and of the stage."""
    errors = {"bare": 0, "stage": 0}
    total = 0
    for path in files:
        transcript = path.with_suffix(".txt")
        if not transcript.exists():
            continue
        reference = words_of(transcript.read_text())
        total += len(reference)
        samples, _ = read_audio(path, rate=vad.RATE)
        errors["bare"] += word_errors(reference, words_of(bare.recognise(samples).text))
        errors["stage"] += word_errors(reference, words_of(stage(path, models, spec, 1)["text"]))
    if total:
        print(f"words {total}; WER bare {errors['bare'] / total:.1%}, stage {errors['stage'] / total:.1%}")


def overhead(path: Path, seconds: float, bare: Recogniser, models: WarmModels, spec: RecogniserSpec) -> None:
    """Print what the stage costs beyond the engine on the same segments."""
    samples, _ = read_audio(path, rate=vad.RATE)
    detector = vad.load_detector()
    segments = [s.samples for s in vad.speech([samples], detector, vad.Segmenter(8000, 50))]
    stage(path, models, spec, 1)
    engine = timed(lambda: [bare.recognise(segment) for segment in segments])
    whole = timed(lambda: stage(path, models, spec, 1))
    heard = timed(lambda: list(vad.speech([samples], detector, vad.Segmenter(8000, 50))))
    print(
        f"one core, {seconds:.0f} s of speech: engine {engine:.2f} s (RTF {engine / seconds:.3f}), "
        f"stage {whole:.2f} s (RTF {whole / seconds:.3f}), overhead {whole / engine - 1:+.1%}; "
        f"of it voice activity by {type(detector).__name__} {heard / engine:.1%}"
    )


def cores(path: Path, seconds: float, models: WarmModels, spec: RecogniserSpec, most: int) -> None:
    """Print how much faster one recording is on more cores."""
    stage(path, models, spec, most)
    one = timed(lambda: stage(path, models, spec, 1))
    for number in range(2, most + 1):
        many = timed(lambda number=number: stage(path, models, spec, number))
        print(f"{number} cores: {many:.2f} s against {one:.2f} s on one, ×{one / many:.2f}")
    print(
        f"peak memory of the worker itself {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )
    print(f"real-time factor on one core {one / seconds:.3f}")


def through_server(path: Path, spec: RecogniserSpec, most: int) -> None:
    """Print how long batches of 1, 2 and more recordings take from the request to the last SRT."""
    from tests.live import LiveServer

    section = {"recogniser": spec.name, "device": spec.device}
    if spec.model:
        section["recogniser_model"] = spec.model
    with LiveServer(
        Path(tempfile.mkdtemp()), media_roots=[path.parent], settings={"transcripts": section}
    ) as server:
        item = {"kind": "audioPath", "audioPath": str(path)}
        options = {"tasks": {"asr": True, "demucs": False}}
        for number in (1, 1, 2, most):
            started = time.perf_counter()
            body = {"items": [item] * number, "options": options}
            batch = server.client.post("/v2/batches", json=body).json()["data"]["batchId"]
            state = server.wait(batch, timeout=3600)["state"]
            print(f"server, {number} item(s): {time.perf_counter() - started:.2f} s, {state}")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, default=DEFAULT_CORPUS)
    parser.add_argument("--recogniser", default="pocketsphinx")
    parser.add_argument("--model", help="the recogniser's directory")
    parser.add_argument("--language")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeat", type=int, default=6)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--items", type=int, default=4)
    parser.add_argument("--server", action="store_true")
    arguments = parser.parse_args()
    files = sorted([*arguments.corpus.glob("*.wav"), *arguments.corpus.glob("*.ogg")])
    if not files:
        raise SystemExit(f"no recordings in {arguments.corpus}: give --corpus")
    model = str(Path(arguments.model).resolve()) if arguments.model else None
    spec = RecogniserSpec(arguments.recogniser, model, arguments.language, arguments.device, arguments.cores)
    models, bare = WarmModels(), load(spec)
    accuracy(files, bare, models, spec)
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.wav"
        samples = np.concatenate([read_audio(path, rate=vad.RATE)[0] for path in files] * arguments.repeat)
        with wave.open(str(long), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(vad.RATE)
            out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        seconds = len(samples) / vad.RATE
        overhead(long, seconds, bare, models, spec)
        cores(long, seconds, models, spec, arguments.cores)
        if arguments.server:
            through_server(long, spec, arguments.items)
    models.clear()


if __name__ == "__main__":
    main()
