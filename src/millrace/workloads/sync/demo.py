"""The demonstration of sync: a master and four dubs: one late, one at PAL speed, one cut, one foreign."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from millrace.workloads import DemoJob, DemoStand
from millrace.workloads.sync.features import Array

_RATE = 24000
_SECONDS = 90
_BATCH = "/api/v1/analysis/batch"


def demo(stand: DemoStand) -> DemoJob:
    """Upload a CSV as a client of the contract would, and start it."""
    folder = stand.media / "dubs"
    folder.mkdir()
    sound = _scene(1)
    cut = np.concatenate([sound[: 40 * _RATE], sound[46 * _RATE :]])
    faster = np.interp(np.arange(0, len(sound), 25 / 24), np.arange(len(sound)), sound)
    late = np.concatenate([np.zeros(round(15.023 * _RATE)), sound])
    master = _write(folder / "master.wav", sound)
    dubs = {
        "late by 15.023 s": _write(folder / "late.wav", late),
        "PAL speed-up": _write(folder / "pal.wav", faster),
        "six seconds missing": _write(folder / "cut.wav", cut),
        "another film": _write(folder / "other.wav", _scene(2)),
    }
    rows = [f"{master},{path},auto,{title},yes" for title, path in dubs.items()]
    text = "\n".join(["master_file,dub_file,methods,description,repair", *rows])
    sent = stand.client.post(f"{_BATCH}/upload-csv", files={"file": ("demo.csv", text.encode(), "text/csv")})
    batch = sent.raise_for_status().json()["batch_id"]
    stand.client.post(f"{_BATCH}/{batch}/start", json={"parallel_jobs": 2}).raise_for_status()
    return DemoJob(
        job=batch,
        title=f"Dubs are aligned with their master: POST {_BATCH}/upload-csv",
        seconds=float(_SECONDS * (1 + len(dubs))),
        tell=lambda: list(_told(stand, batch)),
    )


def _told(stand: DemoStand, batch: str) -> Iterator[str]:
    results = stand.client.get(f"{_BATCH}/{batch}/results").raise_for_status().json()
    for item in results["results"]:
        found = item.get("result")
        if found is None:
            yield f"{item['description']}: {item.get('error', item['status'])}"
            continue
        if found["offset_seconds"] is None:
            yield f"{item['description']}: no match"
            continue
        drift = f", {found['drift']['cause']}" if found["drift"]["cause"] else ""
        mended = found["repair"].get("verified")
        then = f"; repaired, now {mended['status'].replace('_', ' ')}" if mended else ""
        yield (
            f"{item['description']}: {found['status']}, {found['offset_seconds']:+.4f} s{drift}, "
            f"confidence {found['confidence']:.3f}{then}"
        )
    yield f"report: {results['download_links']['html_report']}"


def _scene(seed: int) -> Array:
    """Return notes and knocks at random times over faint noise: as lively as a film's sound."""
    rng = np.random.default_rng(seed)
    count = _SECONDS * _RATE
    out = rng.standard_normal(count).astype(np.float32) * np.float32(1e-3)
    at = 0.0
    while at < _SECONDS:
        begin = int(at * _RATE)
        length = min(count - begin, int(rng.uniform(0.1, 0.9) * _RATE))
        at += rng.uniform(0.05, 0.4)
        time = np.arange(length) / _RATE
        decay = np.minimum(time / 0.01, 1) * np.exp(-time * rng.uniform(2, 9)) * rng.uniform(0.05, 0.25)
        if rng.random() < 0.3:
            sound = rng.standard_normal(length)
        else:
            pitch = rng.uniform(90, 900)
            sound = np.sum([np.sin(2 * np.pi * pitch * n * time) / n for n in range(1, 7)], axis=0)
        out[begin : begin + length] += (sound * decay).astype(np.float32)
    return out


def _write(path: Path, sound: Array) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE)
        out.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path
