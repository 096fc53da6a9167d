"""A recording made ready for analysis: its sound and log-mel energies on disk, read in pieces.

Memory stays flat however long the recording is: ten hours are 1.2 GB of samples on disk and a few
megabytes here. Where the same file is wanted again (a master with several dubs) it is found by its
identity in a cache shared by all processes of a machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from millrace.errors import BadInput
from millrace.media.decode import AudioDecoder
from millrace.media.probe import probe
from millrace.workloads.sync import features
from millrace.workloads.sync.features import BANDS, CONTEXT, FRAME_RATE, HOP, SAMPLE_RATE, Array

_VERSION = 3
_SOUND, _MEL, _LEVEL, _FACTS = "sound.s16", "mel.s16", "level.f32", "facts.json"
_FINE = 2048
"""Steps of the stored log-mel energies in a power of ten."""

_BLOCK = 10.0
_SILENT = -4.5
"""Level (log10 mel power, where a full-scale tone reads 4) below which a whole recording is silent: 85 dB
below full scale, the noise of 16 bits with some room."""

SHORTEST = 1.0
"""Seconds below which a recording cannot be aligned."""

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Source:
    """Which sound of a file is meant.

    stream    audio stream counted from 0; None: the first that is not silent.
    channel   channel of that stream counted from 0; None: all mixed.
    mix       all audio streams of the file mixed (several mono streams that belong together).
    """

    path: Path
    stream: int | None = None
    channel: int | None = None
    mix: bool = False

    def identity(self) -> str:
        """Return a key that changes whenever the file or the choice within it does."""
        status = self.path.stat()
        facts = (
            _VERSION,
            str(self.path.resolve()),
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            self.stream,
            self.channel,
            self.mix,
        )
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a recording: seconds, sample and frame counts, level, stream taken."""

    name: str
    seconds: float
    samples: int
    frames: int
    loud: float
    stream: int
    streams: int
    codec: str
    channels: int
    rate: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording on disk, below ``folder``; all reads are of pieces."""

    folder: Path
    facts: Facts

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.facts.seconds

    def sound(self, start: int, count: int) -> Array:
        """Return ``count`` samples from ``start`` on; what lies outside the recording is zero."""
        out = np.zeros(count, np.float32)
        low, high = max(0, start), min(self.facts.samples, start + count)
        if high > low:
            raw = np.fromfile(self.folder / _SOUND, np.int16, high - low, offset=2 * low)
            out[low - start : high - start] = raw
            out *= np.float32(1 / 32768)
        return out

    def mel(self, start: int, stop: int) -> Array:
        """Return log-mel frames ``start`` to ``stop``, quiet ones raised to the recording's floor."""
        start, stop = max(0, start), min(self.facts.frames, stop)
        if stop <= start:
            return np.zeros((0, BANDS), np.float32)
        raw = np.fromfile(self.folder / _MEL, np.int16, (stop - start) * BANDS, offset=2 * start * BANDS)
        mel = raw.reshape(-1, BANDS) * np.float32(1 / _FINE)
        np.maximum(mel, np.float32(self.floor), out=mel)
        return mel

    def heard(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return which of the frames ``start`` to ``stop`` are no silence."""
        start, stop = max(0, start), min(self.facts.frames, stop)
        if stop <= start:
            return np.zeros(0, np.bool_)
        level = np.fromfile(self.folder / _LEVEL, np.float32, stop - start, offset=4 * start)
        heard: NDArray[np.bool_] = level > np.float32(self.floor + 1.0)
        return heard

    @property
    def floor(self) -> float:
        """The log10 mel power taken as silence."""
        return self.facts.loud - features.RANGE

    def features(self, name: str, pool: int = 1) -> Array:
        """Return the named feature of the whole recording, normalised, shape ``(bands, frames // pool)``.

        ``pool`` averages that many frames into one.
        """
        function = features.FEATURES[name]
        block = 6000 * pool
        count = self.facts.frames // pool
        bands = np.zeros((1, 0), np.float32)
        active = np.zeros(count, np.bool_)
        for start in range(0, count * pool, block):
            before = min(CONTEXT, start)
            size = min(block, count * pool - start)
            mel = self.mel(start - before, start + size + CONTEXT)
            drawn = function(mel)[before : before + size]
            pooled = drawn[::pool]
            for shift in range(1, pool):
                pooled = pooled + drawn[shift::pool]
            if start == 0:
                bands = np.empty((drawn.shape[1], count), np.float32)
            part = slice(start // pool, (start + size) // pool)
            np.divide(pooled.T, np.float32(pool), out=bands[:, part])
            heard = self.heard(start, start + size)
            np.logical_or.reduce(heard.reshape(-1, pool), axis=1, out=active[part])
        return features.normalise(bands, FRAME_RATE / pool, active)

    def excerpt(self, name: str, start: int, count: int) -> Array:
        """Return ``count`` frames of the named feature from ``start`` on, normalised by themselves.

        Shape ``(bands, count)``; zero outside the recording.
        """
        low, high = max(0, start), min(self.facts.frames, start + count)
        before = min(CONTEXT, low)
        mel = self.mel(low - before, max(low, high) + CONTEXT)
        inside = slice(before, before + max(0, high - low))
        drawn = features.FEATURES[name](mel)[inside]
        out = np.zeros((drawn.shape[1], count), np.float32)
        bands = features.normalise(np.ascontiguousarray(drawn.T), FRAME_RATE, self.heard(low, high))
        out[:, low - start : low - start + bands.shape[1]] = bands
        return out


def extract(source: Source, folder: Path, progress: Progress = lambda fraction: None) -> Recording:
    """Decode a source into ``folder`` (which must exist) and return it as a recording.

    Raises BadInput: ``bad_audio`` if the file cannot be read or has no (such) audio, ``too_short``
    below one second, ``silent`` if there is nothing to be heard.
    """
    info = probe(source.path)
    info.stream(source.stream)
    if source.mix and len(info.audio) > 1:
        facts = _mixed(source, len(info.audio), folder, progress)
    else:
        choices = [source.stream] if source.stream is not None else [s.position for s in info.audio]
        for position in choices:
            facts = _one(source, position, len(info.audio), folder, progress)
            if facts.loud > _SILENT:
                break
    _check(source, facts)
    (folder / _FACTS).write_text(json.dumps(asdict(facts)))
    return Recording(folder, facts)


def _check(source: Source, facts: Facts) -> None:
    if facts.seconds < SHORTEST or facts.frames < 50:
        raise BadInput(
            f"{source.path.name} is {facts.seconds:.2f} s long; at least {SHORTEST:g} s of sound are needed",
            code="too_short",
        )
    if facts.loud <= _SILENT:
        which = "" if facts.streams == 1 else f" (all of its {facts.streams} audio streams)"
        raise BadInput(
            f"{source.path.name} is silent{which}: there is nothing to align; choose another stream "
            "or channel",
            code="silent",
        )


def _one(source: Source, stream: int, streams: int, folder: Path, progress: Progress) -> Facts:
    with AudioDecoder(
        source.path, rate=SAMPLE_RATE, stream=stream, channel=source.channel, block=_BLOCK, fair=True
    ) as decoder:
        with _Writer(folder) as writer:
            for block in decoder:
                writer.add(block)
                progress(decoder.fraction)
        return writer.facts(source, decoder, streams)


def _mixed(source: Source, streams: int, folder: Path, progress: Progress) -> Facts:
    """Decode all streams, each to a file of its own, then add them up block by block."""
    samples = round(_BLOCK * SAMPLE_RATE)
    paths = [folder / f"stream-{n}.s16" for n in range(streams)]
    for n, path in enumerate(paths):
        with (
            AudioDecoder(source.path, rate=SAMPLE_RATE, stream=n, block=_BLOCK, fair=True) as decoder,
            path.open("wb") as out,
        ):
            for block in decoder:
                out.write(_as_int16(block, 32767).data)
                progress((n + decoder.fraction) / (streams + 1))
    with _Writer(folder) as writer:
        for start in range(0, max(path.stat().st_size for path in paths) // 2, samples):
            parts = [np.fromfile(path, np.int16, samples, offset=2 * start) for path in paths]
            total = np.zeros(max(len(part) for part in parts), np.float32)
            for part in parts:
                total[: len(part)] += part
            writer.add(total / np.float32(32768 * streams))
    for path in paths:
        path.unlink()
    return writer.facts(source, decoder, streams)


def _as_int16(values: Array, scale: int) -> NDArray[np.int16]:
    scaled = values * np.float32(scale)
    np.rint(scaled, out=scaled)
    clipped: NDArray[np.int16] = np.clip(scaled, -32768, 32767, out=scaled).astype(np.int16)
    return clipped


class _Writer:
    """Takes blocks of sound and writes them, and their log-mel frames, to disk as they come."""

    def __init__(self, folder: Path) -> None:
        self._sound = (folder / _SOUND).open("wb")
        self._mel = (folder / _MEL).open("wb")
        self._level = (folder / _LEVEL).open("wb")
        self._rest = np.zeros(0, np.float32)
        self._levels: list[Array] = []
        self._samples = self._frames = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._sound.close()
        self._mel.close()
        self._level.close()

    def add(self, block: Array) -> None:
        """Append a block of mono samples."""
        self._sound.write(_as_int16(block, 32767).data)
        self._samples += len(block)
        pending = np.concatenate([self._rest, block])
        mel = features.log_mel(pending)
        level = mel.max(axis=1)
        self._mel.write(_as_int16(mel, _FINE).data)
        self._level.write(level.data)
        self._rest = pending[len(mel) * HOP :]
        self._frames += len(mel)
        self._levels.append(level)

    def facts(self, source: Source, decoder: AudioDecoder, streams: int) -> Facts:
        """Return what was written."""
        return Facts(
            name=source.path.name,
            seconds=self._samples / SAMPLE_RATE,
            samples=self._samples,
            frames=self._frames,
            loud=self._loud(),
            stream=decoder.stream.position,
            streams=streams,
            codec=decoder.stream.codec,
            channels=decoder.stream.channels,
            rate=decoder.stream.rate,
        )

    def _loud(self) -> float:
        """Return the level that 1 % of the frames exceed; of a file that is nearly all silence, 0.5 s do."""
        levels = np.sort(np.concatenate(self._levels)) if self._levels else np.zeros(0, np.float32)
        if len(levels) == 0:
            return -9.0
        usual = float(levels[-1 - len(levels) // 100])
        return usual if usual > _SILENT else float(levels[-min(50, len(levels))])


class RecordingCache:
    """Recordings by identity, below one folder, for all processes of the machine.

    A lock file for each key lets one process decode while the others wait for its result; what was
    used longest ago is removed when ``limit`` bytes are exceeded. What is in use (shared lock) stays.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def use(self, source: Source, make: Callable[[Source, Path], None]) -> Iterator[Recording]:
        """Hold the recording of ``source``; where it is not there yet ``make(source, folder)`` makes it.

        What ``make`` raises is passed on, and nothing is kept.
        """
        key = source.identity()
        home = self.folder / key
        with (self.folder / f"{key}.lock").open("a+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            while not (home / _FACTS).exists():
                fcntl.flock(lock, fcntl.LOCK_UN)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not (home / _FACTS).exists():
                    self._fill(source, home, make)
                fcntl.flock(lock, fcntl.LOCK_UN)
                fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(home / _FACTS)
            yield open_recording(home)
        self.shrink()

    def _fill(self, source: Source, home: Path, make: Callable[[Source, Path], None]) -> None:
        aside = self.folder / f"{home.name}.part"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            make(source, aside)
            shutil.rmtree(home, ignore_errors=True)
            aside.rename(home)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def shrink(self) -> int:
        """Remove what was used longest ago until the limit holds; return the bytes that are left."""
        kept = []
        for facts in self.folder.glob(f"*/{_FACTS}"):
            try:
                size = sum(path.stat().st_size for path in facts.parent.iterdir())
                kept.append((facts.stat().st_mtime, size, facts.parent))
            except FileNotFoundError:
                continue
        total = sum(size for _, size, _ in kept)
        for _, size, home in sorted(kept):
            if total <= self.limit:
                break
            if self._remove(home):
                total -= size
        return total

    def _remove(self, home: Path) -> bool:
        with (self.folder / f"{home.name}.lock").open("a+b") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            shutil.rmtree(home, ignore_errors=True)
            return True


def open_recording(folder: Path) -> Recording:
    """Return the recording that ``extract`` wrote into ``folder``."""
    return Recording(folder, Facts(**json.loads((folder / _FACTS).read_text())))
