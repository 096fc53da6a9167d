"""Settings: file, environment, flags, in that order; one clear sentence on the first wrong one."""

import os
import textwrap
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from millrace import plugins
from millrace.engine.workload import Workload
from millrace.errors import SettingsError
from millrace.settings import Settings, is_loopback
from millrace.settings_sources import load_settings
from millrace.workloads import NoSettings, Plugin


class Reels(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    engine: str = "plain"
    languages: tuple[str, ...] = ("en",)
    mappings: dict[str, str] = {}
    depth: int = 3


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        file = tmp_path / "millrace.yaml"
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    return write


def load(environ=None, flags=None, config=None, sections=None):
    return load_settings(config, flags=flags, environ=environ or {}, sections=sections or {"reels": Reels})


def refusal(**given) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**given)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_defaults_need_nothing(write, tmp_path):
    settings = load()
    assert (settings.host, settings.require_auth, settings.token) == ("127.0.0.1", False, "")
    assert settings.data_dir == tmp_path / "data"
    assert settings.tmp_dir == tmp_path / "data" / "tmp"
    assert settings.blob_location == str(tmp_path / "data" / "blobs")
    assert settings.database_url.render_as_string() == f"sqlite:///{tmp_path}/data/millrace.db"
    assert settings.slots.cpu >= 1
    assert settings.workload("reels", Reels).engine == "plain"


def test_flags_stand_over_the_environment_and_that_over_the_file(write):
    write("port: 1111\nlog: {level: debug, format: json}\nfetch:\n  max_bytes: 5\n")
    environ = {"MILLRACE_PORT": "2222", "MILLRACE_LOG__LEVEL": "error"}
    assert load().port == 1111
    assert load(environ).port == 2222
    settings = load(environ, {"port": 3333})
    assert (settings.port, settings.log.level, settings.log.format) == (3333, "error", "json")
    assert settings.fetch.max_bytes == 5


def test_the_documented_short_names_are_read(write, tmp_path):
    environ = {
        "REQUIRE_AUTH": "true",
        "BEARER_TOKEN": "s3cret",
        "TMP_DIR": str(tmp_path / "t"),
        "JOB_TTL_SECONDS": "60",
    }
    settings = load(environ)
    assert (settings.require_auth, settings.token) == (True, "s3cret")
    assert (settings.tmp_dir, settings.retention.ttl) == (tmp_path / "t", 60.0)


def test_the_jobs_section_of_the_tracks_contract_is_read(write, tmp_path):
    from millrace.workloads.tracks.settings import TracksSettings

    write("""
        jobs:
          max_queue_size: 7
          max_concurrent: 3
          storage_path: jobs.db
          retention_days: 2
          cleanup_interval_hours: 0.5
    """)
    settings = load({"MILLRACE_JOBS__MAX_CONCURRENT": "4"}, sections={"tracks": TracksSettings})
    tracks = settings.workload("tracks", TracksSettings)
    assert (tracks.max_queue_size, tracks.max_concurrent, tracks.retention_days) == (7, 4, 2)
    assert settings.retention.sweep == 1800
    assert settings.database == f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("workers: 3", "unknown setting jobs.workers"),
        ("max_queue_size: 0", "max_queue_size"),
        ("cleanup_interval_hours: soon", "jobs.cleanup_interval_hours"),
    ],
)
def test_what_is_wrong_in_the_jobs_section_is_named(write, line, said):
    from millrace.workloads.tracks.settings import TracksSettings

    write(f"jobs: {{{line}}}")
    with pytest.raises(SettingsError, match=said):
        load(sections={"tracks": TracksSettings})


def test_the_prefixed_name_wins_over_the_short_one(write):
    assert load({"JOB_TTL_SECONDS": "60", "MILLRACE_RETENTION__TTL": "90"}).retention.ttl == 90


def test_an_empty_variable_is_not_set(write):
    assert load({"BEARER_TOKEN": "", "MILLRACE_PORT": ""}).port == 8000


def test_lists_and_maps_from_the_environment(write, tmp_path):
    (tmp_path / "a,b").mkdir()
    (tmp_path / "c").mkdir()
    environ = {
        "MILLRACE_MEDIA_ROOTS": os.pathsep.join([str(tmp_path / "a,b"), str(tmp_path / "c")]),
        "MILLRACE_FETCH__PORTS": "80, 8080",
        "MILLRACE_REELS__LANGUAGES": '["de", "fr"]',
        "MILLRACE_REELS__MAPPINGS": '{"/tv": "/media/tv"}',
        "MILLRACE_REELS__ENGINE": "{odd}",
    }
    settings = load(environ)
    assert settings.media_roots == (tmp_path / "a,b", tmp_path / "c")
    assert settings.fetch.ports == (80, 8080)
    reels = settings.workload("reels", Reels)
    assert reels.languages == ("de", "fr")
    assert reels.mappings == {"/tv": "/media/tv"}
    assert reels.engine == "{odd}"


def test_a_workloads_section_stands_under_its_name(write):
    write("reels:\n  depth: 7\n  mappings:\n    /a.b: /c\n")
    reels = load({"MILLRACE_REELS__ENGINE": "fast"}).workload("reels", Reels)
    assert (reels.depth, reels.engine, reels.mappings) == (7, "fast", {"/a.b": "/c"})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("prot: 80\n", ["unknown setting prot = 80", "millrace.yaml, line 1", "did you mean port?"]),
        ("a: 1\n", ["unknown setting a", "known here: bearer_token, blobs"]),
        ("reel:\n  depth: 1\n", ["unknown setting reel", "line 1", "did you mean reels?"]),
        ("port: 1\nfetch:\n  max_byte: 1\n", ["unknown setting fetch.max_byte = 1", "line 3", "max_bytes"]),
        ("reels:\n  deep: 1\n", ["unknown setting reels.deep", "line 2", "depth"]),
        ("port: seventy\n", ["the setting port = 'seventy'", "line 1", "valid integer"]),
        ("reels: {depth: [1]}\n", ["reels.depth = [1]", "line 1", "valid integer"]),
        ("fetch:\n  ports: [80, 99999]\n", ["fetch.ports.1 = 99999", "line 2", "65535"]),
        ("fetch: 5\n", ["the setting fetch = 5", "line 1"]),
        ("port: 1\nport: 2\n", ["port is given twice", "line 2"]),
        ("[1, 2]\n", ["must hold names and values"]),
        ("port: [\n", ["is not YAML"]),
        ("workloads: {}\n", ["unknown setting workloads", "under its own name (reels)"]),
        ("media_roots: [/nowhere/at/all]\n", ["media_roots", "/nowhere/at/all is not a directory"]),
        ("database: mysql://x/y\n", ["database", "must be sqlite or postgresql, not mysql"]),
        ("blobs: {location: 'ftp://x'}\n", ["blobs.location must be a directory or s3://bucket"]),
        ("blobs: {endpoint: 'http://x'}\n", ["need blobs.location to be s3://bucket"]),
        ("host: 0.0.0.0\n", ["0.0.0.0 can be reached", "set BEARER_TOKEN, or REQUIRE_AUTH=false"]),
        ("require_auth: true\n", ["require_auth is on but bearer_token is not set"]),
    ],
)
def test_a_bad_file_is_refused_with_name_value_and_line(write, text, parts):
    write(text)
    message = refusal()
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"MILLRACE_PROT": "80"}, ["unknown setting prot = '80'", "MILLRACE_PROT", "did you mean port?"]),
        ({"MILLRACE_REELS__DEEP": "1"}, ["unknown setting reels.deep", "MILLRACE_REELS__DEEP"]),
        (
            {"MILLRACE_FETCH__DEADLINE": "-1"},
            ["fetch.deadline = '-1'", "MILLRACE_FETCH__DEADLINE", "greater than 0"],
        ),
        ({"MILLRACE_PORT__X": "1", "MILLRACE_PORT": "5"}, ["port from the environment", "has no parts"]),
        ({"REQUIRE_AUTH": "perhaps"}, ["require_auth = 'perhaps'", "REQUIRE_AUTH", "boolean"]),
        ({"MILLRACE_REELS__MAPPINGS": "{a: ["}, ["reels.mappings", "is not YAML"]),
    ],
)
def test_a_bad_variable_is_refused_with_its_name(write, environ, parts):
    message = refusal(environ=environ)
    for part in parts:
        assert part in message


def test_a_bad_flag_is_named(write):
    assert "from --port" in refusal(flags={"port": 70000})
    assert "from --media-root" in refusal(flags={"media_roots": ["/nowhere/at/all"]})


def test_secrets_are_never_shown(write):
    assert "hunter2" not in refusal(environ={"MILLRACE_BEARER_TOKEN__X": "hunter2"})
    assert "hunter2" not in refusal(environ={"MILLRACE_DATABASE": "mysql://u:hunter2@h/d"})
    assert "hunter2" not in repr(load({"BEARER_TOKEN": "hunter2"}))


def test_a_named_file_must_exist_and_the_default_need_not(write, tmp_path):
    assert load().port == 8000
    assert "cannot be read" in refusal(config=tmp_path / "other.yaml")
    assert "other.yaml cannot be read" in refusal(environ={"MILLRACE_CONFIG": "other.yaml"})


def test_an_open_host_may_be_left_open_only_by_saying_so(write):
    assert load({"REQUIRE_AUTH": "false"}, {"host": "0.0.0.0"}).require_auth is False
    assert load({"BEARER_TOKEN": "x"}, {"host": "0.0.0.0"}).require_auth is True


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_loopback(host, local):
    assert is_loopback(host) is local


def test_settings_cannot_be_changed(write):
    with pytest.raises(ValueError, match="frozen"):
        load().port = 5


def test_stages_see_what_they_need_and_no_secret(write):
    settings = load({"BEARER_TOKEN": "hunter2", "MILLRACE_WEBHOOKS__SECRET": "hunter2"})
    assert "hunter2" not in repr(settings.site())
    assert settings.site()["fetch"]["redirects"] == 3


def test_postgres_goes_through_psycopg():
    url = Settings(database="postgresql://me@here/db").database_url
    assert url.drivername == "postgresql+psycopg"


class _Entry:
    dist = None
    value = "pkg:plugin"

    def __init__(self, name, plugin):
        self.name, self._plugin = name, plugin

    def load(self):
        if isinstance(self._plugin, Exception):
            raise self._plugin
        return self._plugin


def _plugin(kind: str) -> Plugin:
    return Plugin(kind=kind, build=lambda settings: Workload(kind=kind, stages=()), settings=NoSettings)


def test_plugins_are_found_by_name():
    found = plugins.discover([_Entry("b", _plugin("b")), _Entry("a", _plugin("a"))])
    assert list(found) == ["a", "b"]


@pytest.mark.parametrize(
    ("entries", "part"),
    [
        ([_Entry("a", ImportError("no module x"))], "could not be loaded: ImportError: no module x"),
        ([_Entry("a", object())], "must name a millrace.workloads.Plugin, not object"),
        ([_Entry("a", _plugin("b"))], "calls itself 'b'"),
        ([_Entry("fetch", _plugin("fetch"))], "takes the name of a setting"),
        ([_Entry("A-b", _plugin("A-b"))], "small letters"),
        ([_Entry("a", _plugin("a")), _Entry("a", _plugin("a"))], "is installed twice"),
    ],
)
def test_a_plugin_that_cannot_work_stops_the_start_by_name(entries, part):
    with pytest.raises(SettingsError) as caught:
        plugins.discover(entries)
    assert part in caught.value.message
    assert entries[0].name in caught.value.message
