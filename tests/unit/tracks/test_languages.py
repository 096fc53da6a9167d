"""Languages compare by meaning, however they are written."""

import pytest

from millrace.workloads.tracks.languages import Match, known, match, normalise


@pytest.mark.parametrize(
    ("wanted", "written", "expected"),
    [
        ("ja", "jpn", Match.EXACT),
        ("fre", "fra", Match.EXACT),
        ("fr", "FRE", Match.EXACT),
        ("ger", "deu", Match.EXACT),
        ("chi", "zho", Match.EXACT),
        ("zh", "cmn", Match.EXACT),
        ("iw", "heb", Match.EXACT),
        ("pt-BR", "por", Match.SAME_LANGUAGE),
        ("pt", "pt-BR", Match.SAME_LANGUAGE),
        ("pt-BR", "pt_BR", Match.EXACT),
        ("pt-BR", "pt-PT", Match.OTHER_REGION),
        ("zh-Hant", "zh-Hans", Match.EXACT),
        ("no", "nob", Match.SAME_LANGUAGE),
        ("nno", "nor", Match.SAME_LANGUAGE),
        ("zh", "yue", Match.NONE),
        ("da", "no", Match.NONE),
        ("en", "und", Match.NONE),
        ("en", "", Match.NONE),
        ("en", "qaa", Match.NONE),
        ("en", "not a language", Match.NONE),
        ("en", "e" * 5000, Match.NONE),
    ],
)
def test_match(wanted, written, expected):
    assert match(wanted, written) is expected


def test_what_says_nothing_is_no_language():
    assert [normalise(tag) for tag in ("und", "mul", "mis", "zxx", "qab", "", " ", "x-klingon")] == [None] * 8


def test_a_setting_that_is_no_language_is_refused_with_a_hint():
    assert known("jpn") == "ja"
    with pytest.raises(ValueError, match="'japanese' is not a language code"):
        known("japanese")
