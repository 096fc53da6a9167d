"""The demonstration: a small library with the wrong default tracks, put right by ``POST /batch``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.workloads import DemoJob

if TYPE_CHECKING:
    from millrace.workloads import DemoStand

_RATE = 44_100
_SECONDS = 2
_LIBRARY = {
    "A Show/Season 01/A Show - S01E01.mkv": ("jpn", "eng"),
    "A Show/Season 01/A Show - S01E02.mkv": ("jpn", "fre", "eng"),
    "A Show/Season 01/A Show - S01E03.mp4": ("jpn", "eng"),
    "A Film (2001)/A Film (2001).mkv": ("eng", "ger"),
    "Another Film (2012)/Another Film (2012).mp4": ("fre", "ger"),
}


def demo(stand: DemoStand) -> DemoJob:
    """Make the library and submit it; English is what the server wants unless it is told otherwise."""
    for name, languages in _LIBRARY.items():
        write_sample(stand.media / name, languages)
    answer = stand.client.post("/batch", json={"path": str(stand.media), "pattern": "**/*.{mkv,mp4}"})
    job = answer.raise_for_status().json()["job_id"]

    def tell() -> list[str]:
        row = stand.client.get(f"/batch/{job}").raise_for_status().json()
        base = str(stand.media) + "/"
        return [f"{result['file'].removeprefix(base)}: {result['message']}" for result in row["results"]]

    return DemoJob(job, "sets the default audio track of five files in place, by POST /batch", tell=tell)


def write_sample(path: Path, languages: Sequence[str]) -> None:
    """Write a file with one audio track (a tone) for each language; the first is the default."""
    import av
    import numpy as np
    from av.stream import Disposition

    path.parent.mkdir(parents=True, exist_ok=True)
    moments = np.arange(_RATE * _SECONDS) / _RATE
    with av.open(str(path), "w") as container:
        streams = []
        for index, language in enumerate(languages):
            stream = container.add_stream("aac", rate=_RATE, layout="mono")
            stream.metadata["language"] = language
            stream.disposition = Disposition.default if index == 0 else Disposition(0)
            streams.append(stream)
        for index, stream in enumerate(streams):
            tone = (8000 * np.sin(2 * np.pi * (330 + 110 * index) * moments)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(tone[None, :], format="s16", layout="mono")
            frame.sample_rate = _RATE
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
