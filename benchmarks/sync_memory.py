"""Measures the memory that comparing very long recordings takes, in a process of its own.

    python benchmarks/sync_memory.py [--hours 10] [--cases late,drift,cut,unrelated] [--dir DIR]

Master and dub are WAV files of generated sound, written piece by piece: an offset, an unlisted drift, a
cut in the middle, another sound altogether. The target is 600 MB at most for ten hours.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.sync import measured
from tests.unit.sync.sounds import bed

RATE = 8000
PIECE = 60
CASES = ("late", "drift", "cut", "unrelated")


def main() -> None:
    """Write the files, compare them, say what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--cases", default=",".join(CASES), help=f"of: {', '.join(CASES)}")
    parser.add_argument("--dir", help="where the files are written (1.2 GB), and kept")
    options = parser.parse_args()
    pieces = round(options.hours * 3600 / PIECE)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.dir or scratch)
        master = written(folder / "master.wav", sound(0, pieces))
        for case in options.cases.split(","):
            dub = written(folder / f"{case}.wav", changed(case, pieces))
            run = measured([sys.executable, "-m", "millrace.cli", "sync", "--json", master, dub], whole=True)
            if run.answer is None:
                print(f"{case}: failed: {run.error[-200:]}")
                continue
            found = run.answer
            print(
                f"{case:<10} {found['status']:<8} {found['offset_seconds']} s, "
                f"{len(found['segments'])} segments, confidence {found['confidence']}; "
                f"{run.cpu:.0f} s of CPU, {run.megabytes:.0f} MB",
                flush=True,
            )
            dub.unlink()


def sound(seed: int, pieces: int) -> Iterator[np.ndarray]:
    """Yield generated sound, a minute at a time."""
    for number in range(pieces):
        yield bed(PIECE, 100_000 * seed + number, RATE)


def changed(case: str, pieces: int) -> Iterator[np.ndarray]:
    """Yield a dub's sound."""
    if case == "late":
        yield np.zeros(round(3.5 * RATE), np.float32)
        yield from sound(0, pieces)
    elif case == "drift":
        for part in sound(0, pieces):
            at = np.arange(round(len(part) * 1.004)) / 1.004
            yield np.interp(at, np.arange(len(part)), part).astype(np.float32)
    elif case == "cut":
        for number, part in enumerate(sound(0, pieces)):
            yield part[12 * RATE :] if number == pieces // 2 else part
    else:
        yield from sound(1, pieces)


def written(path: Path, parts: Iterator[np.ndarray]) -> Path:
    """Write a 16-bit WAV file of one channel."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        for part in parts:
            out.writeframes((np.clip(part, -1, 1) * 32767).astype("<i2").tobytes())
    return path


if __name__ == "__main__":
    main()
