"""What a path or a webhook tells of a title: its ids, its name and year, its original language."""

from pathlib import Path

import pytest

from millrace.errors import InvalidRequest
from millrace.workloads.tracks.titles import Titles
from millrace.workloads.tracks.tmdb import Title, title_of
from millrace.workloads.tracks.webhooks import parse, signature, verify


@pytest.mark.parametrize(
    ("path", "title"),
    [
        (
            "/m/The Matrix (1999) {tmdb-603}/The Matrix.mkv",
            Title("movie", tmdb="603", name="The Matrix", year="1999"),
        ),
        ("/tv/Show [tvdbid-81189]/Season 01/Show - S01E01.mkv", Title("tv", tvdb="81189")),
        ("/m/Film {imdb-tt0133093}/f.mkv", Title("movie", imdb="tt0133093")),
        ("/m/A.Film.(2001)/x.mkv", Title("movie", name="A Film", year="2001")),
        ("/m/A Film [2001].mkv", Title("movie", name="A Film", year="2001")),
        ("/tv/Show (2005)/Season 2/Show 2x03.mkv", Title("tv", name="Show", year="2005")),
        ("/tv/Serie/Staffel 1/a.mkv", Title("tv")),
        ("/m/x.mkv", Title("movie")),
    ],
)
def test_what_a_path_tells(path, title):
    assert title_of(Path(path)) == title


def test_a_language_is_known_for_everything_below_its_folder(tmp_path):
    titles = Titles(tmp_path / "titles")
    assert titles.original_language(Path("/tv/Show/Season 1/a.mkv")) is None
    titles.remember(Path("/tv/Show"), "ja")
    titles.remember(Path("/tv/Show/Season 1/b.mkv"), "ko")
    assert titles.original_language(Path("/tv/Show/Season 1/a.mkv")) == "ja"
    assert titles.original_language(Path("/tv/Show/Season 1/b.mkv")) == "ko"
    assert titles.original_language(Path("/tv/Other/a.mkv")) is None
    titles.remember(Path("/tv/Show"), "fr")
    assert titles.original_language(Path("/tv/Show/Season 1/a.mkv")) == "fr"


def test_a_sonarr_import():
    event = parse(
        "sonarr",
        {
            "eventType": "Download",
            "isUpgrade": True,
            "series": {"title": "S", "path": "/tv/S", "tvdbId": 5, "tmdbId": 0,
                       "originalLanguage": {"id": 30, "name": "Portuguese (Brazil)"}},
            "episodeFile": {"path": "/tv/S/a.mkv"},
            "episodeFiles": [{"path": "/tv/S/a.mkv"}, {"relativePath": "Season 1/b.mkv"}, "odd", {}],
        },
    )  # fmt: skip
    assert event.files == ("/tv/S/a.mkv", "/tv/S/Season 1/b.mkv")
    assert (event.original, event.upgrade, event.folder) == ("pt-BR", True, "/tv/S")
    assert event.ids == {"tvdb": "5"}


def test_a_radarr_import_on_windows():
    movie = {"title": "M", "folderPath": "D:\\M", "originalLanguage": {"name": "Unknown"}}
    event = parse("radarr", {"eventType": "Download", "movie": movie, "movieFile": {"relativePath": "m.mkv"}})
    assert event.files == ("D:\\M\\m.mkv",)
    assert event.original is None


@pytest.mark.parametrize(
    "payload",
    [None, [], "x", {}, {"eventType": 5}, {"eventType": "Download"}, {"eventType": "Download", "series": "x"},
     {"eventType": "Download", "series": None, "episodeFile": [], "episodeFiles": {}}],
)  # fmt: skip
def test_what_is_no_webhook_is_refused(payload):
    with pytest.raises(InvalidRequest):
        parse("sonarr", payload)


def test_signatures():
    assert verify("secret", b"body", signature("secret", b"body")) is None
    assert verify("secret", b"body", "sha256=" + signature("secret", b"body").upper()) is None
    assert "does not fit" in verify("secret", b"body!", signature("secret", b"body"))
    assert "does not fit" in verify("secret", b"body", "ümlaut")
    assert "missing" in verify("secret", b"body", None)
