"""Sounds and files that the tests of sync compare: made, never recorded."""

import wave
from pathlib import Path

import numpy as np

from millrace.workloads.sync import methods
from millrace.workloads.sync.analysis import Pair
from millrace.workloads.sync.pipeline import compare
from millrace.workloads.sync.recording import Source, extract

RATE = 16000


def bed(seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """Notes, sweeps and bursts at random times over faint noise: as lively as a film's sound."""
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    out = rng.standard_normal(count).astype(np.float32) * np.float32(1e-3)
    at = 0.0
    while at < seconds:
        length = rng.uniform(0.1, 0.9)
        begin, end = int(at * rate), min(count, int((at + length) * rate))
        at += rng.uniform(0.05, 0.4)
        t = np.arange(end - begin, dtype=np.float32) / rate
        kind = rng.integers(3)
        if kind == 0:
            pitch = rng.uniform(90, 900)
            sound = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k for k in range(1, 8))
        elif kind == 1:
            width = rng.integers(1, 12)
            sound = np.convolve(rng.standard_normal(end - begin), np.ones(width) / width, "same")[
                : end - begin
            ]
        else:
            low, high = rng.uniform(100, 3000, 2)
            sound = np.sin(2 * np.pi * (low * t + (high - low) / 2 / length * t * t))
        shape = np.minimum(t / 0.01, 1) * np.exp(-t * rng.uniform(2, 9))
        out[begin:end] += (sound * shape * rng.uniform(0.1, 0.5)).astype(np.float32)
    return out * np.float32(0.5)


def later(sound: np.ndarray, seconds: float, rate: int = RATE) -> np.ndarray:
    """The sound delayed by ``seconds``, or with its beginning missing where they are negative."""
    count = round(seconds * rate)
    return np.concatenate([np.zeros(count, np.float32), sound]) if count > 0 else sound[-count:]


def stretched(sound: np.ndarray, ratio: float) -> np.ndarray:
    """The sound ``ratio`` times as long, pitch and all."""
    at = np.arange(int(len(sound) * ratio)) / ratio
    return np.interp(at, np.arange(len(sound)), sound).astype(np.float32)


def write(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    """A 16-bit WAV file; (n,) or (n, channels)."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def recorded(folder: Path, name: str, sound: np.ndarray, rate: int = RATE):
    """The sound as a recording ready for analysis."""
    home = folder / name
    home.mkdir()
    return extract(Source(write(folder / f"{name}.wav", sound, rate)), home)


def compared(master, dub, *names: str, tolerance: float = 0.02, slots: int = 1):
    """The analysis of two recordings by the named methods (default: auto)."""
    places = methods.ModelPlaces(Path("/nowhere"), Path("/nowhere"))
    return compare(Pair(master, dub), names or ("auto",), None, places, None, tolerance, slots=slots)
