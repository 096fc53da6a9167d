"""Decides which audio track is to be the default, and says why in one line. Pure: reads no file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from millrace.workloads.tracks.languages import Match, match, normalise
from millrace.workloads.tracks.model import AudioTrack

SkipReason = Literal["already_correct", "no_matching_track", "no_audio_tracks", "unsupported_container"]

_COMMENTARY = re.compile(
    r"comment(?:ary|aries|ator|aire)|kommentar|kommentaar|coment[aá]rio|commento|комментари|"
    r"コメンタリー|评论|評論|코멘터리|\btrivia\b",
    re.IGNORECASE,
)
_DESCRIPTIVE = re.compile(
    r"audio[\s._-]*descri|descriptive|described|\bdescription\b|\bDVS\b|\bAD\b|audiodes[ck]ri|hörfilm|"
    r"visually[\s._-]*impaired|vision[\s._-]*impaired|malvoyant|тифлокоммент|音声解説|解説音声|화면해설",
    re.IGNORECASE,
)
_KARAOKE = re.compile(
    r"karaoke|instrumental|off[\s._-]*vocal|sing[\s._-]*along|isolated[\s._-]*(?:score|music)|"
    r"music[\s._-]*only|カラオケ|卡拉|가라오케|караоке",
    re.IGNORECASE,
)

# From lossless down; a container's codec name is matched by how it begins.
_CODEC_RANKS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        6,
        (
            "A_TRUEHD", "A_MLP", "A_FLAC", "A_PCM", "A_ALAC", "A_WAVPACK4", "A_TTA", "A_DTS/LOSSLESS",
            "mlpa", "fLaC", "alac", "lpcm", "sowt", "twos", "in24", "in32", "fl32", "fl64", "ipcm", "fpcm",
            "truehd", "mlp", "flac", "pcm_", "tta", "wavpack",
        ),
    ),
    (5, ("A_DTS/HR", "dtsh", "dtsl", "dtse")),
    (4, ("A_DTS", "A_EAC3", "dtsc", "ec-3", "dts", "eac3")),
    (3, ("A_OPUS", "A_AC3", "A_AAC", "Opus", "ac-3", "ac-4", "mp4a", "opus", "ac3", "aac")),
    (2, ("A_VORBIS", "vorbis", "A_MPEG/L3", ".mp3", "mp3")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """The languages wanted, best first, and where each comes from (for the explanation)."""

    language: str
    source: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do with a file: ``track`` to make the default, or why not (``skip``), and the ``message``."""

    track: AudioTrack | None
    skip: SkipReason | None
    message: str


def purpose(track: AudioTrack) -> str | None:
    """Return 'commentary', 'descriptive' or 'karaoke' for a track that is not plain, else None.

    The container's flags decide, then the track's name.
    """
    if track.commentary or _COMMENTARY.search(track.name):
        return "commentary"
    if track.descriptive or _DESCRIPTIVE.search(track.name):
        return "descriptive"
    if _KARAOKE.search(track.name):
        return "karaoke"
    return None


def codec_rank(codec: str) -> int:
    """Return how good a codec is, 1 (unknown) to 6 (lossless)."""
    return next((rank for rank, names in _CODEC_RANKS if codec.startswith(names)), 1)


def choose(audio: Sequence[AudioTrack], wishes: Sequence[Wish], *, settled: bool | None = None) -> Choice:
    """Return which track is to be the default.

    The first wish that a track fits decides the language. Commentary, descriptive and karaoke
    tracks are looked at only where no plain track exists at all. Among the tracks of that language:
    the closer region, the present default, hearing-impaired mixes last, the better codec, more
    channels, the earlier in the file. ``settled`` says whether the file is as it should be when
    the chosen one is already the only default (the container may know more); None: it is.
    """
    if not audio:
        return Choice(None, "no_audio_tracks", "No audio tracks")
    usable = [track for track in audio if track.enabled] or list(audio)
    candidates = [track for track in usable if purpose(track) is None] or usable
    present = next((track for track in audio if track.default), None)
    for wish in wishes:
        fitting = [track for track in candidates if match(wish.language, track.language)]
        if fitting:
            best = max(fitting, key=lambda track: _merit(track, wish, present))
            return _decided(best, wish, audio, present, settled=settled)
    return Choice(None, "no_matching_track", _no_match(audio, wishes))


def _merit(track: AudioTrack, wish: Wish, present: AudioTrack | None) -> tuple[int | bool, ...]:
    return (
        match(wish.language, track.language),
        not track.hearing_impaired,
        track is present,
        track.default,
        codec_rank(track.codec),
        track.channels,
        -track.index,
    )


def _decided(
    best: AudioTrack,
    wish: Wish,
    audio: Sequence[AudioTrack],
    present: AudioTrack | None,
    *,
    settled: bool | None,
) -> Choice:
    why = f"{wish.source} is {wish.language}"
    if match(wish.language, best.language) is Match.OTHER_REGION:
        why += ", another region"
    alone = [track for track in audio if track.default] == [best]
    if alone and settled is not False:
        return Choice(best, "already_correct", f"Default audio track is already {describe(best)}: {why}")
    others = [track for track in audio if track.default and track is not best]
    was = ""
    if others and others[0] is present:
        was = f"; was {describe(others[0])}"
    elif others:
        was = f"; track {others[0].index + 1} was marked default too"
    return Choice(best, None, f"Set default audio track to {describe(best)}: {why}{was}")


def describe(track: AudioTrack) -> str:
    """Return a track in words: ``'jpn' (track 2, A_FLAC, 6 channels)``."""
    channels = {0: "", 1: ", mono", 2: ", stereo"}.get(track.channels, f", {track.channels} channels")
    return (
        f"'{track.language or 'und'}' (track {track.index + 1}, {track.codec or 'unknown codec'}{channels})"
    )


def _no_match(audio: Sequence[AudioTrack], wishes: Sequence[Wish]) -> str:
    have = ", ".join(
        (track.language or "und") + (f" ({kind})" if (kind := purpose(track)) else "") for track in audio[:12]
    )
    wanted = ", ".join(dict.fromkeys(wish.language for wish in wishes)) or "no language at all"
    return f"No audio track matches: wanted {wanted}; the file has {have}"


def wishes_for(
    original: str | None, source: str, priority: Sequence[str], *, prefer_original: bool = True
) -> list[Wish]:
    """Return the languages wanted: the title's original one when it is known, then the priority list."""
    wishes = [Wish(tag, "language priority") for tag in priority]
    tag = normalise(original or "")
    if tag is not None and prefer_original:
        wishes.insert(0, Wish(tag, f"original language ({source})" if source else "original language"))
    return wishes
