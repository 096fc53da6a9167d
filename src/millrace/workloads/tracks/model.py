"""What the tracks workload knows about a file: its audio tracks, and the bytes to change in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from millrace.errors import BadInput

Container = Literal["matroska", "mp4", "other"]


class Damaged(BadInput):
    """The file's header contradicts itself, is cut off, or asks for more than any real file needs."""

    code = "damaged"


class NoRoom(Exception):
    """The header has no space for the change; the file must be edited by other means."""


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """One audio track as its container describes it.

    index     0-based among the audio tracks of the file, in the order of the file.
    number    the container's own number (Matroska TrackNumber, MP4 track_ID, stream index + 1).
    language  as written in the file (BCP 47 where there is one), empty when it is not said.
    codec     the container's name of the codec (``A_FLAC``, ``ec-3``).
    channels  0 when the header does not say.
    default   what players take as the default: FlagDefault, or the enabled bit of ``tkhd``.
    enabled   False only for a Matroska track whose FlagEnabled is 0.
    group     MP4 alternate_group; 0 elsewhere.
    """

    index: int
    number: int
    language: str
    name: str
    codec: str
    channels: int
    default: bool
    enabled: bool = True
    original: bool = False
    commentary: bool = False
    descriptive: bool = False
    hearing_impaired: bool = False
    group: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return what the API and ``tracks explain --json`` show of the track."""
        return {
            "index": self.index,
            "number": self.number,
            "language": self.language or "und",
            "name": self.name,
            "codec": self.codec,
            "channels": self.channels,
            "default": self.default,
            "commentary": self.commentary,
            "descriptive": self.descriptive,
        }


@dataclass(frozen=True, slots=True)
class Probe:
    """What was read of one file. ``format`` is its name for people; ``layout`` what an edit needs."""

    container: Container
    format: str
    audio: tuple[AudioTrack, ...]
    layout: Any = None

    @property
    def first_default(self) -> AudioTrack | None:
        """The track that a player takes today: the first one marked default, else the first."""
        return next((track for track in self.audio if track.default), self.audio[0] if self.audio else None)


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes to replace at an offset. ``old`` is shorter than ``new`` only at the end of the file."""

    offset: int
    old: bytes
    new: bytes


def differing_spans(offset: int, old: bytes, new: bytes, gap: int = 16) -> list[Write]:
    """Return the writes that turn ``old`` into ``new``, both starting at ``offset`` and equally long.

    Spans that lie fewer than ``gap`` bytes apart are joined: one larger write beats two small ones.
    """
    if len(old) != len(new):
        raise ValueError(f"{len(old)} bytes cannot become {len(new)} in place")
    spans: list[list[int]] = []
    for position, (before, after) in enumerate(zip(old, new, strict=True)):
        if before == after:
            continue
        if spans and position - spans[-1][1] < gap:
            spans[-1][1] = position + 1
        else:
            spans.append([position, position + 1])
    return [Write(offset + start, old[start:end], new[start:end]) for start, end in spans]


def apply_to(data: bytes, writes: Sequence[Write]) -> bytes:
    """Return ``data`` with the writes applied: what the file will read afterwards."""
    out = bytearray(data)
    for write in writes:
        out[write.offset : write.offset + len(write.new)] = write.new
    return bytes(out)
