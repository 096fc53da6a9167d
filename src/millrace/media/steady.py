"""Decodes a stream without holes in bulk: FFmpeg hands over seconds at a time, not each frame of 20 ms.

That costs less than a loop over the frames in Python, and other threads of the interpreter go on meanwhile.
What this cannot vouch for is ``Unsteady``, to be decoded frame by frame: holes, damage, a change of format,
a container whose timestamps say too little.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.media.probe import DEMUXERS, AudioInfo, open_media

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.filter.context import FilterContext
    from av.filter.graph import Graph

_COUNTED = ("wav", "flac", "mp3", "aac", "ac3", "eac3")
"""Containers whose timestamps count the samples: there cannot be a hole."""

_INDEXED = ("matroska", "mov", "ogg")
"""Containers with timestamps of their own, right after a jump to the end too."""

CONTAINERS = _COUNTED + _INDEXED
"""The containers, by FFmpeg's names, of which the steady streams are known."""

_MARGIN = 0.05
"""Seconds that the resampler may look ahead, with much room."""

_END = 2.0
"""Seconds before the expected end from which on packets are looked at."""


class Unsteady(Exception):
    """The stream has to be decoded frame by frame."""


def frames(
    path: Path,
    container: str,
    stream: AudioInfo,
    *,
    rate: int,
    layout: str,
    gathered: int,
    lasting: float,
    block: int,
    tolerance: float,
    options: Mapping[str, str],
) -> Iterator[AudioFrame]:
    """Yield the stream in frames of ``block`` float samples, ``rate`` Hz, ``layout`` (packed), as they come.

    ``gathered`` samples, ``lasting`` so many seconds, are resampled at a time, with the ``options`` of
    libswresample. A frame is yielded once one that was gathered after it has been found to follow without a
    hole of more than ``tolerance`` seconds: up to where Unsteady is raised what was yielded is right.
    """
    import av

    # What FFmpeg refuses here is not the caller's file being bad: that was read before.
    try:
        graph, sink = _graph(path, stream, rate, layout, gathered, block, options)
    except (av.FFmpegError, ValueError) as error:
        raise Unsteady(str(error)) from error
    held: deque[tuple[float, AudioFrame]] = deque()
    clock: float | None = None
    while (frame := _pulled(sink)) is not None:
        starts = frame.time
        if starts is None:
            raise Unsteady("a frame has no time")
        if clock is not None and abs(starts - clock) > tolerance:
            raise Unsteady(f"the sound jumps from {clock:.3f} to {starts:.3f} s")
        # The time of what was gathered is that of its first sample: a hole may be behind that.
        while held and held[0][0] <= starts - lasting - _MARGIN:
            yield held.popleft()[1]
        clock = (starts if clock is None else clock) + frame.samples / rate
        held.append((clock, frame))
    del graph
    if clock is None:
        raise Unsteady("there is no sound")
    if container in _INDEXED and _last_start(path, stream, clock) > clock + tolerance:
        raise Unsteady("there is a hole at the end")
    for _, frame in held:
        yield frame


def _graph(
    path: Path,
    stream: AudioInfo,
    rate: int,
    layout: str,
    gathered: int,
    block: int,
    options: Mapping[str, str],
) -> tuple[Graph, FilterContext]:
    """Return a filter graph that reads the file by itself, and its end; it lives as long as the graph."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add(
        "amovie",
        filename=str(path.absolute()),
        streams=str(stream.index),
        dec_threads="1",
        format_opts=f"format_whitelist={DEMUXERS}",
    )
    gather = graph.add("asetnsamples", n=str(gathered), p="0")
    resample = graph.add(
        "aresample",
        osr=str(rate),
        osf="flt",
        ochl=layout,
        **{name: str(value) for name, value in options.items()},
    )
    regroup = graph.add("asetnsamples", n=str(block), p="0")
    sink = graph.add("abuffersink")
    graph.link_nodes(source, gather, resample, regroup, sink).configure()
    return graph, sink


def _pulled(sink: FilterContext) -> AudioFrame | None:
    import av
    from av.audio.frame import AudioFrame

    try:
        frame = sink.pull()
    except av.EOFError:
        return None
    except av.FFmpegError as error:
        raise Unsteady(str(error)) from error
    assert isinstance(frame, AudioFrame)
    return frame


def _last_start(path: Path, stream: AudioInfo, expected: float) -> float:
    """Return when the stream's last packet begins, on the file's clock; ``expected`` at least."""
    import av

    last = expected
    try:
        with open_media(path) as container:
            chosen = container.streams.audio[stream.position]
            container.seek(max(0, round((expected - _END) * 1e6)))
            for packet in container.demux(chosen):
                if packet.pts is not None and packet.time_base is not None:
                    last = max(last, float(packet.pts * packet.time_base))
    except av.FFmpegError as error:
        raise Unsteady(str(error)) from error
    return last
