"""Choosing the default track: original language, then the priority list; plain tracks before others."""

import pytest

from millrace.workloads.tracks.choice import choose, codec_rank, purpose, wishes_for
from millrace.workloads.tracks.model import AudioTrack


def track(index, language="eng", *, default=False, name="", codec="A_AAC", channels=2, **flags):
    return AudioTrack(index, index + 1, language, name, codec, channels, default, **flags)


def chosen(audio, *priority, original=None, **options):
    return choose(audio, wishes_for(original, "webhook", priority), **options)


def test_the_original_language_comes_first():
    audio = [track(0, "eng", default=True), track(1, "jpn")]
    choice = chosen(audio, "en", original="ja")
    assert choice.track.index == 1
    assert choice.message == (
        "Set default audio track to 'jpn' (track 2, A_AAC, stereo): original language (webhook) is ja;"
        " was 'eng' (track 1, A_AAC, stereo)"
    )


def test_then_the_first_match_in_the_priority_list():
    audio = [track(0, "eng", default=True), track(1, "fra")]
    assert chosen(audio, "de", "fr", "en", original="ko").track.index == 1


def test_a_title_whose_original_language_is_unknown_goes_by_the_list():
    audio = [track(0, "eng", default=True), track(1, "fra")]
    assert chosen(audio, "fr", original="und").track.index == 1


def test_already_correct():
    choice = chosen([track(0, "jpn", default=True), track(1)], "ja")
    assert choice.skip == "already_correct"
    assert "already 'jpn'" in choice.message


def test_two_defaults_are_not_correct():
    choice = chosen([track(0, "jpn", default=True), track(1, default=True)], "ja")
    assert choice.skip is None
    assert choice.track.index == 0
    assert "track 2 was marked default too" in choice.message


def test_no_match_says_what_there_is():
    choice = chosen([track(0, "eng"), track(1, "")], "ja", "ko")
    assert choice.skip == "no_matching_track"
    assert choice.message == "No audio track matches: wanted ja, ko; the file has eng, und"


def test_no_audio():
    assert chosen([], "ja").skip == "no_audio_tracks"


@pytest.mark.parametrize(
    "other",
    [
        {"name": "Director's Commentary"},
        {"commentary": True},
        {"name": "Audiokommentar"},
        {"name": "English [AD]"},
        {"name": "Audio Description"},
        {"descriptive": True},
        {"name": "Karaoke (off vocal)"},
        {"name": "カラオケ"},
    ],
    ids=str,
)
def test_special_tracks_are_never_chosen_while_a_plain_one_exists(other):
    special = track(0, "jpn", default=True, codec="A_FLAC", channels=6, **other)
    assert purpose(special) is not None
    assert chosen([special, track(1, "jpn")], "ja").track.index == 1
    assert chosen([special, track(1, "eng")], "ja").skip == "no_matching_track"
    assert chosen([special], "ja").track.index == 0


@pytest.mark.parametrize("name", ["Stereo", "Adventure", "Surround 5.1", "Recommended", "Japanese", "Main"])
def test_plain_names_are_plain(name):
    assert purpose(track(0, name=name)) is None


def test_among_equals_the_present_default_then_codec_then_channels():
    aac, flac, dts = (
        track(0, codec="A_AAC", channels=8),
        track(1, codec="A_FLAC"),
        track(2, codec="A_DTS", channels=6),
    )
    assert chosen([aac, flac, dts], "en").track is flac
    assert chosen([aac, dts], "en").track is dts
    held = track(3, codec="A_MPEG/L3", default=True)
    assert chosen([aac, flac, dts, held], "en").track is held
    assert chosen([track(0, channels=2), track(1, channels=6)], "en").track.channels == 6
    assert chosen([track(0), track(1)], "en").track.index == 0


def test_the_closer_region_wins():
    audio = [track(0, "pt-PT", default=True), track(1, "por"), track(2, "pt-BR")]
    assert chosen(audio, "pt-BR").track.index == 2
    assert chosen(audio[:2], "pt-BR").track.index == 1
    only = chosen(audio[:1], "pt-BR", "en")
    assert only.track.index == 0
    assert "another region" in only.message


def test_a_disabled_track_is_not_chosen():
    assert chosen([track(0, enabled=False), track(1)], "en").track.index == 1


def test_lossless_codecs_rank_above_lossy_in_every_container():
    for better, worse in [
        ("A_TRUEHD", "A_EAC3"),
        ("fLaC", "mp4a"),
        ("A_DTS/LOSSLESS", "A_DTS"),
        ("ec-3", "ac-3"),
    ]:
        assert codec_rank(better) > codec_rank(worse)
