"""Reads the audio tracks of every other container (AVI, MPEG-TS, WMV …) through PyAV, to explain them.

None of these has a default flag that could be set, so nothing here writes.
"""

from __future__ import annotations

from millrace.errors import BadInput
from millrace.workloads.tracks.model import AudioTrack, Probe


def probe(fd: int, name: str) -> Probe:
    """Return what FFmpeg finds in an open file; BadInput (``unreadable``) when it is no media file."""
    import av
    from av.stream import Disposition

    try:
        with av.open(f"/proc/self/fd/{fd}") as container:
            tracks = tuple(
                AudioTrack(
                    index=index,
                    number=stream.index + 1,
                    language=str(stream.metadata.get("language", "")),
                    name=str(stream.metadata.get("title", "")),
                    codec=stream.codec_context.name if stream.codec_context else "",
                    channels=stream.codec_context.channels if stream.codec_context else 0,
                    default=bool(stream.disposition & Disposition.default),
                    commentary=bool(stream.disposition & Disposition.comment),
                    descriptive=bool(stream.disposition & Disposition.visual_impaired),
                    hearing_impaired=bool(stream.disposition & Disposition.hearing_impaired),
                )
                for index, stream in enumerate(container.streams.audio)
            )
            return Probe("other", container.format.long_name or container.format.name, tracks)
    except (av.error.FFmpegError, ValueError) as error:
        raise BadInput(f"{name} is not a media file that can be read: {error}", code="unreadable") from error
