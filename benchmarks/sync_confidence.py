"""Fits how far sync's answers are to be trusted, and measures whether that confidence keeps its word.

    python benchmarks/sync_confidence.py [--pairs 400] [--seed 1]

Pairs of known offset are made worse and worse (noise, other sound over the same bed, parts replaced, other
recordings altogether), until the answers are wrong. Of each answer two figures are kept that do not grow
with the length of the recordings: the share of the excerpts that agree, and how alike the features are
along the answer; and whether it was right to 20 ms. A logistic curve is fitted to one half of the pairs.
What it says of the other half is compared, bin by bin, with how many answers were right there. The gate
that asks for half of the excerpts is left open for this; of the answers that pass it the last line tells.
Answers that chance alone would give are left out, as they are by sync.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.unit.sync.sounds import RATE, bed, later, recorded

from millrace.workloads.sync import trust
from millrace.workloads.sync.align import TRUSTED_PEAK, Searcher, find_speed
from millrace.workloads.sync.features import FRAME_RATE
from millrace.workloads.sync.lines import ENOUGH, Pair, beyond_chance, by_phase, whole

FEATURES = ("mfcc", "onset", "spectral", "correlation", "embedding")
RIGHT = 0.02
REACH = 0.5


def main() -> None:
    """Make the pairs, fit, and print what the fit is worth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for number in range(options.pairs):
        rows += [(number, *row) for row in answers(np.random.default_rng([options.seed, number]))]
    table = np.array(rows)
    given, right = table[:, 1:3], table[:, 3]
    learn = table[:, 0] % 2 == 0
    weights = fitted(trust.evidence(given[learn, 0], given[learn, 1]), right[learn])
    print(f"{len(table)} answers to {options.pairs} pairs, {int(right.sum())} right")
    print("fitted weights:", ", ".join(f"{weight:.2f}" for weight in weights))
    print("in trust.py:   ", ", ".join(f"{weight:.2f}" for weight in trust.WEIGHTS))
    said = trust.probability(given[~learn, 0], given[~learn, 1])
    told(said, right[~learn])
    passed = given[~learn, 0] >= ENOUGH
    print(
        f"behind the gate: {int(passed.sum())} answers, {right[~learn][passed].mean():.3f} right, "
        f"said {said[passed].mean():.3f}"
    )


def answers(rng: np.random.Generator) -> Iterator[tuple[float, float, float]]:
    """Yield support, similarity and whether it is right (0 or 1), of each feature's answer to one pair."""
    seconds = float(rng.uniform(8, 60))
    delay = round(float(rng.uniform(-0.2, 0.2)) * seconds * RATE) / RATE
    sound = bed(seconds, int(rng.integers(1 << 30)))
    kind = rng.choice(("noise", "other", "patched", "unrelated"), p=(0.35, 0.25, 0.25, 0.15))
    if kind in ("patched", "unrelated"):
        dub = bed(seconds, int(rng.integers(1 << 30)))
        kept = float(rng.uniform(0.1, 1.0)) if kind == "patched" else 0.0
        block = round(float(rng.uniform(2, 15)) * RATE)
        for begin in range(0, len(dub), block):
            if rng.random() < kept:
                dub[begin : begin + block] = sound[begin : begin + block]
    else:
        worse = (
            rng.standard_normal(len(sound)) if kind == "noise" else bed(seconds, int(rng.integers(1 << 30)))
        )
        level = float(sound.std() / worse.std()) * 10 ** (float(rng.uniform(-10, 30)) / 20)
        dub = (sound + level * worse[: len(sound)]).astype(np.float32)
        dub *= np.float32(min(1.0, 0.9 / float(np.abs(dub).max())))
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(recorded(Path(folder), "master", sound), recorded(Path(folder), "dub", later(dub, delay)))
        lines: dict[tuple[float, float], object] = {}
        for name in FEATURES:
            master, other = pair.master.features(name), pair.dub.features(name)
            peak = find_speed(Searcher(master, FRAME_RATE), other)
            if peak is None:
                continue
            place = (round(peak.delay, 1), peak.stretch)
            if place not in lines:
                lines[place] = by_phase(
                    pair, *pair.overlap(peak.delay, peak.stretch), peak.delay, peak.stretch, 0.5
                )
            line = lines[place]
            sure = peak.z >= TRUSTED_PEAK
            if line is None or (line.support >= ENOUGH and not sure and not beyond_chance(line, REACH)):
                continue
            similarity = trust.agreement(master, other, FRAME_RATE, whole(pair, line)[0])
            middle = sum(pair.overlap(line.delay, line.stretch)) / 2
            good = kind != "unrelated" and abs(line.at(middle) - middle - delay) <= RIGHT
            yield line.support, similarity, float(good)


def fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the weights of a logistic regression with a little ridge, by Newton's method."""
    weights = np.zeros(x.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (y - p) - 1e-2 * weights
        bend = (x * (p * (1 - p))[:, None]).T @ x + 1e-2 * np.eye(len(weights))
        step = np.linalg.solve(bend, slope)
        weights += step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def told(said: np.ndarray, right: np.ndarray) -> None:
    """Print the reliability of a half of the pairs."""
    print(f"\nthe other half: Brier score {np.mean((said - right) ** 2):.4f}")
    error = 0.0
    for low, high in ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
        inside = (said >= low) & (said < high)
        if inside.any():
            error += inside.mean() * abs(said[inside].mean() - right[inside].mean())
            print(
                f"  said {low:4.2f} to {min(high, 1):4.2f}: {int(inside.sum()):5d} answers, "
                f"said {said[inside].mean():.3f}, right {right[inside].mean():.3f}"
            )
    print(f"expected calibration error {error:.3f}")


if __name__ == "__main__":
    main()
