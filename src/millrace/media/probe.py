"""What is inside a media file: its container, its audio streams, its declared duration.

Everything a file declares about itself (durations above all) is a hint and may be a lie: nothing
here, or built on it, allocates by it. Only the demuxers listed in ``DEMUXERS`` are allowed: those
that open further files or addresses named inside a file (playlists, ``concat``, image sequences)
would reach past the media roots.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.errors import BadInput

if TYPE_CHECKING:
    from av.audio.stream import AudioStream as AvAudioStream
    from av.container import InputContainer

DEMUXERS = (
    "aac,aax,ac3,ac4,aiff,amr,amrnb,amrwb,ape,asf,ast,au,avi,caf,dsf,dts,dtshd,dv,eac3,flac,flv,g722,"
    "g729,gsm,gxf,h264,hevc,iff,ircam,kux,latm,loas,m4v,matroska,mlp,mmf,mov,mp3,mpc,mpc8,mpeg,mpegts,"
    "mpegvideo,mxf,nistsphere,nsv,nut,obu,ogg,oma,osq,pvf,qcp,qoa,rka,rm,rso,sbc,shn,smk,sox,spdif,swf,tak,"
    "thp,truehd,tta,voc,vqf,w64,wav,wavarc,wtv,wv,ivf"
)
"""The demuxers a file may be read with, by FFmpeg's names: none opens anything but the file itself."""

MAX_SECONDS = 12 * 3600.0
"""How much audio one file may yield by default."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """One audio stream as its file declares it.

    position   counts the file's audio streams from 0; what ``stream`` means everywhere.
    index      the stream's index among all streams of the file.
    start      seconds at which it starts, on the file's own clock.
    duration   seconds it claims to last, or None: a hint, not to be trusted.
    """

    position: int
    index: int
    codec: str
    rate: int
    channels: int
    layout: str
    language: str | None
    title: str | None
    default: bool
    start: float
    duration: float | None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """A media file. ``duration`` is what it claims, in seconds; ``video`` counts films, not covers."""

    container: str
    bytes: int
    duration: float | None
    audio: tuple[AudioInfo, ...]
    video: int

    def stream(self, position: int | None = None) -> AudioInfo:
        """Return the audio stream at that position (the first by default); BadInput if there is none."""
        if not self.audio:
            what = "only video" if self.video else "no audio"
            raise _bad(f"the file has no audio stream: it is {self.container} with {what}", "no_audio_stream")
        wanted = position or 0
        if not 0 <= wanted < len(self.audio):
            raise _bad(
                f"there is no audio stream {wanted}: the file has {len(self.audio)}, counted from 0",
                "no_such_stream",
            )
        return self.audio[wanted]


def probe(path: Path) -> MediaInfo:
    """Return what the file declares; BadInput (``bad_audio``) if it is empty or no readable media."""
    with open_media(path) as container:
        return describe(container, path)


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a media file with the allowed demuxers only.

    Raises BadInput (code ``bad_audio``, ``details.reason`` a stable word) if the file is missing,
    empty, not a plain file, or in no format that can be read.
    """
    import av

    path = Path(path).absolute()
    _check_file(path)
    try:
        container = av.open(str(path), options={"format_whitelist": DEMUXERS}, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _bad(
            f"{path.name} is not an audio or video file that can be read "
            "(unknown format, damaged, or cut off before its index)",
            "not_media",
        ) from error
    try:
        yield container
    finally:
        container.close()


def describe(container: InputContainer, path: Path) -> MediaInfo:
    """Return what an open container declares about itself."""
    pictures = sum(1 for stream in container.streams.video if not _is_cover(stream.disposition.value))
    return MediaInfo(
        container=container.format.name.split(",")[0],
        bytes=path.stat().st_size,
        duration=container.duration / 1e6 if container.duration and container.duration > 0 else None,
        audio=tuple(_audio_info(stream, n) for n, stream in enumerate(container.streams.audio)),
        video=pictures,
    )


def _audio_info(stream: AvAudioStream, position: int) -> AudioInfo:
    codec = stream.codec_context
    scale = float(stream.time_base) if stream.time_base else 0.0
    return AudioInfo(
        position=position,
        index=stream.index,
        codec=codec.name if codec is not None else "unknown",
        rate=codec.sample_rate if codec is not None else 0,
        channels=codec.channels if codec is not None else 0,
        layout=codec.layout.name if codec is not None and codec.channels else "",
        language=stream.metadata.get("language"),
        title=stream.metadata.get("title"),
        default=bool(stream.disposition.value & 1),
        start=(stream.start_time or 0) * scale,
        duration=stream.duration * scale if stream.duration and stream.duration > 0 else None,
    )


def _is_cover(disposition: int) -> bool:
    return bool(disposition & 0x400)


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _bad(f"{path.name} cannot be read: {error.strerror or error}", "unreadable") from error
    if not path.is_file():
        raise _bad(f"{path.name} is not a file", "unreadable")
    if size == 0:
        raise _bad(f"{path.name} is empty (0 bytes)", "empty")


def _bad(message: str, reason: str) -> BadInput:
    return BadInput(message, code="bad_audio", details={"reason": reason})
