"""How fast the neural stages run on a GPU, beside the CPU in the same run.

Models of full size with random weights: their speed is real, what they find is not. Prints seconds of
sound a second (×real time), and how many times faster the GPU is.

    python benchmarks/gpu.py [--seconds 300] [--cpu-seconds 20]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from millrace.workloads.sync.neural import Wav2Vec2
from millrace.workloads.transcripts.separators import Survey
from millrace.workloads.transcripts.separators.demucs import DemucsSeparator

RATE = 44100


def wav2vec2(folder: Path, device: str) -> Callable[[float], None]:
    import transformers

    where = folder / "wav2vec2"
    if not where.exists():
        transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).save_pretrained(where)
    with mock.patch.object(torch.cuda, "is_available", return_value=device == "cuda"):
        model = Wav2Vec2(where)
    block = noise(11.0, 16000)

    def run(seconds: float) -> None:
        for _ in range(max(1, round(seconds / 10.0))):
            model.embed(block)

    return run


def htdemucs(folder: Path, device: str) -> Callable[[float], None]:
    from demucs.htdemucs import HTDemucs

    where = folder / "demucs"
    if not where.exists():
        where.mkdir()
        kwargs = {"samplerate": RATE}
        model = HTDemucs(["drums", "bass", "other", "vocals"], **kwargs)
        package = {"klass": HTDemucs, "args": (["drums", "bass", "other", "vocals"],), "kwargs": kwargs}
        torch.save({**package, "state": model.state_dict()}, where / "full.th")
    separator = DemucsSeparator(where, "full", device=device, threads=2)

    def run(seconds: float) -> None:
        sound = np.repeat(noise(seconds, RATE)[:, None], 2, axis=1)
        survey = Survey(RATE, len(sound), 1.0, 0.0, float(sound.std()), 1.0)
        for _ in separator.vocals(blocks(sound), survey, lambda fraction: None):
            pass

    return run


def blocks(sound: np.ndarray) -> Iterator[np.ndarray]:
    for at in range(0, len(sound), RATE):
        yield sound[at : at + RATE]


def noise(seconds: float, rate: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(1).standard_normal(round(seconds * rate))).astype(np.float32)


def pace(run: Callable[[float], None], seconds: float) -> float:
    run(min(seconds, 10.0))
    started = time.perf_counter()
    run(seconds)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return seconds / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="of sound, on the GPU")
    parser.add_argument("--cpu-seconds", type=float, default=20.0, help="of sound, on the CPU")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no CUDA device here")
    torch.set_num_threads(2)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CPU on 2 threads")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("wav2vec2 base", wav2vec2), ("HTDemucs", htdemucs)):
            slow = pace(make(Path(folder), "cpu"), given.cpu_seconds)
            fast = pace(make(Path(folder), "cuda"), given.seconds)
            print(f"{name:14} CPU {slow:8.1f} x real time   GPU {fast:8.1f} x   ratio {fast / slow:6.1f}")


if __name__ == "__main__":
    main()
