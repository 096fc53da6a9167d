"""``millrace submit``, ``watch`` and the rest as people and scripts run them, against a real server."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.cli import SHIPPED, ends
from tests.cutting_proxy import CuttingProxy
from tests.live import LiveServer, free_port, probe_path

COMMAND = [sys.executable, "-m", "millrace.cli"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A running server with the workload ``probe`` beside those that ship."""
    home = tmp_path_factory.mktemp("cli")
    media = home / "media"
    media.mkdir()
    with LiveServer(home / "server", media_roots=[media], path=probe_path(home)) as server:
        yield server


@pytest.fixture
def environment(live: LiveServer, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return {**kept, "MILLRACE_URL": live.url, "COLUMNS": "160", "HOME": str(tmp_path)}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """A function that runs ``millrace …`` to its end, without a terminal."""

    def go(*words: object, code: int = 0, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *map(str, words)],
            cwd=tmp_path,
            env={**environment, **more},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done

    return go


@pytest.fixture
def submit(live: LiveServer) -> Callable[..., str]:
    """A function that submits a probe job past the command line, and returns its id."""

    def go(*inputs: dict[str, Any], **fields: Any) -> str:
        items = [{"name": f"{n}.txt", "input": each} for n, each in enumerate(inputs)]
        reply = live.client.post("/jobs", json={"kind": "probe", "items": items, **fields})
        return str(reply.raise_for_status().json()["job_id"])

    return go


class Terminal:
    """A command in a terminal of its own; ``seen`` is all that it has written, colours and all left out."""

    def __init__(self, words: list[str], environment: dict[str, str], folder: Path) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # pragma: no cover - the other process
            os.chdir(folder)
            os.execvpe(words[0], words, {**environment, "TERM": "xterm-256color"})
        self._raw = b""

    @property
    def seen(self) -> str:
        text = self._raw.decode(errors="replace")
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r\n", "\n")

    def until(self, pattern: str, seconds: float = 60.0) -> None:
        """Read until something that matches was written."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{self.seen}"
            if not self._read(0.1):
                break
        assert re.search(pattern, self.seen), f"no {pattern!r} in:\n{self.seen}"

    def press(self, key: bytes) -> None:
        os.write(self._fd, key)

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read(60.0):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return True
        try:
            block = os.read(self._fd, 65536)
        except OSError:  # how Linux says that the other side has closed
            return False
        self._raw += block
        return bool(block)


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path) -> Callable[..., Terminal]:
    return lambda *words: Terminal([*COMMAND, *map(str, words)], environment, tmp_path)


# -- help --------------------------------------------------------------------------------------


def test_the_help_reads_like_a_manual(run: Run) -> None:
    said = run("--help").stdout
    panels = re.findall(r"─ ([A-Z][\w ,]+?) ─", said)
    assert panels[:2] == ["Options", "Server"]
    assert panels[2:] == [
        "Run a server",
        "Jobs",
        "By the clock, and who is told",
        "On this machine, without a server",
    ]
    wanted = "serve doctor models demo submit jobs show watch cancel retry stats schedules webhooks"
    for command in [*wanted.split(), "tracks", "sync", "images", "documents"]:
        assert re.search(rf"│ {command}\b", said), command
    for code, meaning in ends.MEANINGS.items():
        assert f"{code:>3}  {meaning}" in said


def test_what_the_help_says_of_the_workloads_is_what_they_say_themselves(run: Run) -> None:
    from millrace.plugins import discover

    for kind, plugin in discover().items():
        if kind in SHIPPED:
            about = plugin.commands().info.help if plugin.commands else ""
            assert SHIPPED[kind] == (about or "")
    assert "scan" in run("tracks", "--help").stdout
    assert "Did you mean 'tracks'" in run("trakcs", code=2).stderr


def test_help_needs_neither_the_workloads_nor_the_server() -> None:
    program = (
        "import sys\nsys.argv = ['millrace', '--help']\nimport millrace.cli\n"
        "try: millrace.cli.main()\nexcept SystemExit: pass\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.partition("LOADED")[2].split())
    assert loaded & {"pydantic", "fastapi", "sqlalchemy", "httpx2", "numpy", "uvicorn", "yaml"} == set()


# -- submit ------------------------------------------------------------------------------------


def test_a_script_gets_the_id_and_nothing_else(run: Run, live: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")
    done = run("submit", "probe", "a.txt", "--label", "from a script", "--priority", "high")
    job = done.stdout.strip()
    assert done.stdout == f"{job}\n"
    assert done.stderr == ""
    row = live.wait(job)
    assert (row["label"], row["priority"], row["counts"]["succeeded"]) == ("from a script", 2, 1)


def test_watching_writes_plain_lines_and_saves_what_was_made(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "below"
    folder.mkdir(parents=True)
    (folder / "b.txt").write_text("bbb")
    (tmp_path / "in" / "a.txt").write_text("aa")
    (tmp_path / "in" / ".hidden").write_text("not meant")
    (tmp_path / "in" / "c.log").write_text("not meant either")
    done = run("submit", "probe", "in", "--pattern", "*.txt", "--watch", "--output", "out")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "started"
    assert "a.txt: first" in lines
    assert any(line.startswith("b.txt: succeeded (") for line in lines)
    assert any(line.startswith("succeeded: 2 done in ") for line in lines)
    assert lines[-2:] == ["out/0 a/copy.bin", "out/1 b/copy.bin"]
    assert (tmp_path / "out/1 b/copy.bin").read_text() == "bbb"


def test_paths_of_the_server_options_presets_and_urls(run: Run, live: LiveServer, tmp_path: Path) -> None:
    there = live.media_roots[0] / "there.txt"
    there.write_text("on the server")
    (tmp_path / "options.yaml").write_text("deep: {a: 1, b: 2}\nplain: text\n")
    done = run(
        *("submit", "probe", "--path", there, "--options", "options.yaml", "--wait", "--json"),
        *("-O", "deep.b=true", "-O", "words=[1,2]", "-O", "word=mfcc"),
    )
    row = json.loads(done.stdout)
    assert row["options"] == {
        "deep": {"a": 1, "b": True},
        "plain": "text",
        "words": [1, 2],
        "word": "mfcc",
    }
    assert row["label"] == "there.txt"
    assert json.loads(run("presets", "save", "probe", "three", "-O", "found=3", "--json").stdout)
    assert json.loads(run("presets", "--kind", "probe", "--json").stdout)[0]["name"] == "three"
    done = run("submit", "probe", "--preset", "three", "--wait", "--json")
    assert json.loads(done.stdout)["counts"]["succeeded"] == 3
    assert json.loads(run("presets", "show", "probe", "three").stdout) == {"found": 3}
    run("presets", "delete", "probe", "three")
    run("presets", "show", "probe", "three", code=4)
    job = run("submit", "probe", "https://example.invalid/x.mp3", "--held").stdout.strip()
    assert live.client.get(f"/jobs/{job}/items/0").json()["name"].endswith("x.mp3")
    run("cancel", job, "--purge")
    run("show", job, code=4)


def test_many_files_can_be_split_into_jobs_of_a_size(run: Run, live: LiveServer, tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"{n}.txt").write_text(str(n))
    files = [f"{n}.txt" for n in range(5)]
    ids = run("submit", "probe", *files, "--split", "2", "--key", "monday").stdout.split()
    assert [live.wait(each)["counts"]["total"] for each in ids] == [2, 2, 1]
    assert run("submit", "probe", *files, "--split", "2", "--key", "monday").stdout.split() == ids


def test_a_csv_of_pairs_becomes_a_sync_job(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("master_file;dub_file\na.wav;\n")
    assert (
        "line 2: a master_file and a dub_file" in run("submit", "sync", "--csv", "pairs.csv", code=2).stderr
    )
    (tmp_path / "pairs.csv").write_text("master_file;dub_file\nnosuch.wav;b.wav\n")
    assert "there is no file nosuch.wav" in run("submit", "sync", "--csv", "pairs.csv", code=2).stderr
    (tmp_path / "pairs.csv").write_text("dub_file\nb.wav\n")
    assert "must name the column master_file" in run("submit", "sync", "--csv", "pairs.csv", code=2).stderr


def test_tracks_are_paths_of_the_server(run: Run, live: LiveServer) -> None:
    (live.media_roots[0] / "tv").mkdir(exist_ok=True)
    done = run("submit", "tracks", live.media_roots[0] / "tv", "-O", "dry_run=true", "--wait", "--json")
    row = json.loads(done.stdout)
    assert (row["options"]["path"], row["options"]["dry_run"]) == (str(live.media_roots[0] / "tv"), True)
    assert "set in place" in run("submit", "tracks", "https://x.example/a.mkv", code=2).stderr


# -- wrong input -------------------------------------------------------------------------------


def test_an_unknown_kind_is_answered_with_the_nearest(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    said = run("submit", "transcrips", "a.mp3", code=2).stderr
    assert said.startswith("millrace: there is no kind 'transcrips'; did you mean transcripts?")
    assert run("jobs", "--kind", "image", code=2).stderr.startswith("millrace: there is no kind 'image'; did")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("submit", "probe", "nosuch.txt"), "there is no file nosuch.txt"),
        (("submit", "probe", "."), "has no file *.nosuch"),
        (("submit", "probe", "-O", "nonsense"), "write NAME=VALUE"),
        (("submit", "probe", "-O", "a=1", "-O", "a.b=2"), "a is 1, which has nothing inside"),
        (("submit", "probe", "--options", "nosuch.json"), "cannot be read"),
        (("submit", "documents"), "items: at least one is needed"),
        (("submit", "sync", "one.wav"), "sync needs MASTER and DUB"),
        (("jobs", "--status", "nonsense"), "'nonsense' is no status"),
        (("jobs", "--server", "ftp://x"), "write http://host:port"),
        (("schedules", "add", "each day", "probe"), "cron"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(run: Run, words: tuple[str, ...], said: str) -> None:
    more = ("--pattern", "*.nosuch") if words[-1] == "." else ()
    done = run(*words, *more, code=ends.WRONG)
    assert said in done.stderr
    assert done.stderr.startswith("millrace: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_each_way_to_fail_has_its_code(run: Run, submit: Callable[..., str], live: LiveServer) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert f"no server answers at {nobody}" in run("jobs", "--server", nobody, code=ends.UNREACHABLE).stderr
    assert "there is no job nosuch" in run("show", "nosuch", code=ends.NOT_FOUND).stderr
    done = submit({})
    live.wait(done)
    assert "no failed item" in run("retry", done, code=ends.NOT_NOW).stderr
    failing = submit({"fail": "as told"}, {})
    assert run("watch", failing, code=ends.FAILED).stdout.count("bad_probe: as told") == 1
    sleeping = submit({"sleep": 30})
    said = run("watch", sleeping, "--timeout", "0.5", code=ends.TIMED_OUT).stderr
    assert f"follow it:  millrace watch {sleeping}" in said
    assert "cancelled" in run("cancel", sleeping).stdout
    assert "cancelled: 1 cancelled" in run("watch", sleeping, code=ends.FAILED).stdout
    assert "nothing was changed" in run("cancel", sleeping).stdout
    assert ends.MEANINGS.keys() == {0, 1, 2, 3, 4, 5, 6, 7, 124, 130}


def test_a_token_is_taken_from_the_option_or_the_environment(run: Run, tmp_path: Path) -> None:
    environ = {"REQUIRE_AUTH": "true", "BEARER_TOKEN": "right"}
    with LiveServer(tmp_path / "guarded", environ=environ) as guarded:
        at = ("--server", guarded.url)
        assert "needs a token" in run("jobs", *at, code=ends.REFUSED).stderr
        assert "not the right one" in run("jobs", *at, "--token", "wrong", code=ends.REFUSED).stderr
        assert run("jobs", *at, "--token", "right", "--json").stdout == "[]\n"
        assert run("jobs", *at, "--json", MILLRACE_TOKEN="right").stdout == "[]\n"
        # The server may be named before the command, too, and before a command of a group.
        assert run(*at, "--token", "right", "jobs", "--json").stdout == "[]\n"
        run("schedules", *at, "--token", "right", "show", "nosuch", code=ends.NOT_FOUND)


# -- looking -----------------------------------------------------------------------------------


def test_every_answer_can_be_json(run: Run, submit: Callable[..., str], live: LiveServer) -> None:
    job = submit({"fail": "as told"}, {"artifact": "a.txt", "content": "x"}, label="json")
    live.wait(job)

    def of(*words: str, code: int = 0) -> Any:
        return json.loads(run(*words, "--json", code=code).stdout)

    assert of("jobs", "--search", "json")[0]["job_id"] == job
    shown = of("show", job, "--items", "--artifacts")
    assert shown["items"][0]["error"]["message"] == "as told"
    assert [artifact["name"] for artifact in shown["artifacts"]] == ["a.txt"]
    assert of("stats", "--kind", "probe")["total_jobs"] >= 1
    assert {row["kind"] for row in of("workloads")} >= {"probe", "tracks"}
    assert of("fetch", job, "there") == ["there/1 1/a.txt"]
    schedule = of("schedules", "add", "@daily", "probe", "-O", "found=1")["id"]
    assert [row["id"] for row in of("schedules")] == [schedule]
    assert of("schedules", "off", schedule)["enabled"] is False
    assert of("schedules", "on", schedule)["enabled"] is True
    assert of("schedules", "show", schedule)["ticks"] == []
    assert of("schedules", "delete", schedule) == {"deleted": schedule}
    told = submit({}, callbacks=[{"url": "https://example.invalid/hook"}])
    live.wait(told)
    (delivery,) = of("webhooks", "--job", told)
    assert of("webhooks", "show", delivery["id"])["body"]["data"]["id"] == told
    assert "still being tried" in run("webhooks", "resend", delivery["id"], code=ends.NOT_NOW).stderr
    assert of("workloads", "pause", "probe")["mode"] == "paused"
    assert of("workloads", "resume", "probe")["mode"] == "active"
    assert of("models") == []
    assert of("doctor")["healthy"]
    slow = submit({"sleep": 20})
    assert of("priority", slow, "low")["priority"] == 0
    assert of("cancel", slow)["state"] == "cancelled"


def test_watching_as_json_is_an_event_a_line_then_the_job(run: Run, submit: Callable[..., str]) -> None:
    job = submit({"sleep": 0.2}, {})
    *events, row = map(json.loads, run("watch", job, "--json").stdout.splitlines())
    assert events[0]["type"] == "job.created"
    assert events[-1]["type"] == "job.finished"
    assert row["job_id"] == job
    assert row["state"] == "succeeded"
    # Exactly what lies behind a known event.
    last = events[-1]["seq"]
    assert len(run("watch", job, "--json", "--after", last - 1).stdout.splitlines()) == 2


def test_a_job_is_found_by_the_beginning_of_its_id_or_as_the_last(
    run: Run, submit: Callable[..., str]
) -> None:
    job = submit({})
    assert run("show", job[:20]).stdout.startswith(f"job       {job}\n")
    assert run("show", "last").stdout.startswith(f"job       {job}\n")
    submit({})
    assert re.search(r"begins the ids of \d+ jobs", run("show", "job_", code=ends.NOT_FOUND).stderr)


def test_failed_items_are_shown_first_and_tried_again(
    run: Run, submit: Callable[..., str], live: LiveServer, tmp_path: Path
) -> None:
    switch = tmp_path / "switch"
    job = submit({}, {"fail_unless": str(switch)})
    live.wait(job)
    said = run("show", job).stdout
    assert "Failed\n1\t1.txt\tmissing: not there yet" in said
    switch.touch()
    done = run("retry", job, "--watch")
    assert "1 items are tried again" in done.stdout
    assert "1.txt: succeeded" in done.stdout
    assert "0.txt" not in done.stdout


def test_lists_are_lines_with_tabs_elsewhere_than_at_a_terminal(
    run: Run, submit: Callable[..., str], live: LiveServer
) -> None:
    job = submit({}, label="of\ttabs")
    live.wait(job)
    (line,) = run("jobs", "--search", job).stdout.splitlines()
    cells = line.split("\t")
    assert cells[:7] == [job, "probe", "succeeded", "100", "1", "0", "1"]
    assert cells[-1] == "of tabs"
    assert len(cells) == 9
    assert len(run("jobs", "-n", "1").stdout.splitlines()) == 1
    assert len(run("jobs", "--all").stdout.splitlines()) == live.client.get("/jobs").json()["total"]
    assert any(line.startswith("probe\t") for line in run("stats").stdout.splitlines())


def test_watching_goes_on_when_the_connection_drops(
    environment: dict[str, str], submit: Callable[..., str], live: LiveServer, tmp_path: Path
) -> None:
    live.client.post("/workloads/probe/pause")
    job = submit(*[{"sleep": 0.5}] * 4, parallelism=1)
    proxy = CuttingProxy(live.port)
    command = [*COMMAND, "watch", job, "--json", "--server", proxy.url]
    seen: list[Any] = []
    cuts = 0
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            seen.append(json.loads(line))
            kind = seen[-1].get("type")
            if kind == "job.created":
                live.client.post("/workloads/probe/resume")
            elif kind == "item.finished" and cuts < 2:
                cuts += bool(proxy.cut())
    assert watching.returncode == 0
    proxy.close()
    stored = [event["seq"] for event in seen[:-1] if event["seq"]]
    assert stored == list(range(1, len(stored) + 1))
    assert cuts >= 1


# -- at a terminal -----------------------------------------------------------------------------


def test_at_a_terminal_there_are_bars_with_stage_and_what_is_left(
    terminal: Callable[..., Terminal], submit: Callable[..., str], live: LiveServer
) -> None:
    live.client.post("/workloads/probe/pause")
    job = submit({"sleep": 1}, {"fail": "as told"}, {"sleep": 3}, {"sleep": 3}, parallelism=1)
    shown = terminal("watch", job)
    shown.until(r"probe 0/4")
    live.client.post("/workloads/probe/resume")
    assert shown.end() == ends.FAILED
    assert "━" in shown.seen
    assert re.search(r"probe \d/4", shown.seen)
    assert re.search(r"2\.txt .*%.*first sleeping", shown.seen)
    assert re.search(r"items/(s|min)", shown.seen)
    assert "to go" in shown.seen
    assert "✓ 0.txt" in shown.seen
    assert "✗ 1.txt  bad_probe: as told" in shown.seen
    assert f"try again:    millrace retry {job}" in shown.seen


def test_ctrl_c_leaves_the_job_running_and_says_how_to_follow_it(
    terminal: Callable[..., Terminal], submit: Callable[..., str], live: LiveServer
) -> None:
    job = submit({"sleep": 30})
    shown = terminal("watch", job)
    shown.until("sleeping")
    shown.press(b"\x03")
    assert shown.end() == ends.INTERRUPTED
    assert "The job goes on." in shown.seen
    assert f"follow it:  millrace watch {job}" in shown.seen
    assert "Traceback" not in shown.seen
    assert live.client.get(f"/jobs/{job}").json()["state"] == "running"
    live.client.delete(f"/jobs/{job}")


def test_ctrl_c_while_waiting_in_silence_leaves_it_running_too(
    environment: dict[str, str], live: LiveServer, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("x")
    live.client.post("/workloads/probe/pause")
    try:
        command = [*COMMAND, "submit", "probe", "a.txt", "--wait", "--label", "quiet"]
        waiting = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (found := live.client.get("/jobs", params={"q": "quiet"}).json()["jobs"]):
            assert time.monotonic() < deadline
        time.sleep(0.2)  # so that the answer has come, too
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate()
    finally:
        live.client.post("/workloads/probe/resume")
    assert waiting.returncode == ends.INTERRUPTED
    assert f"millrace watch {found[0]['job_id']}" in said


def test_lists_are_tables_at_a_terminal(
    terminal: Callable[..., Terminal], submit: Callable[..., str]
) -> None:
    job = submit({}, label="for people")
    shown = terminal("jobs", "-n", "1")
    assert shown.end() == 0
    assert re.search(r"JOB\s+KIND\s+STATE", shown.seen)
    assert re.search(rf"{job}\s+probe\s+\w+.* ago\s+for people", shown.seen)


# -- completion --------------------------------------------------------------------------------


def complete(environment: dict[str, str], line: str) -> list[str]:
    """Return what bash would offer for a line."""
    more = {
        "_MILLRACE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    program = "import sys\nsys.argv = ['millrace']\nfrom millrace.cli import app\napp(prog_name='millrace')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **more},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_commands_kinds_and_jobs(
    environment: dict[str, str], submit: Callable[..., str]
) -> None:
    assert complete(environment, "millrace sub") == ["submit"]
    assert complete(environment, "millrace tra") == ["tracks"]
    assert complete(environment, "millrace submit pro") == ["probe"]
    assert complete(environment, "millrace jobs --kind im") == ["images"]
    job = submit({})
    assert job in complete(environment, f"millrace watch {job[:6]}")
    assert "last" in complete(environment, "millrace show ")


def test_completion_fails_in_silence_where_no_server_answers(environment: dict[str, str]) -> None:
    nowhere = {**environment, "MILLRACE_URL": f"http://127.0.0.1:{free_port()}"}
    assert complete(nowhere, "millrace watch j") == []
    assert complete(nowhere, "millrace submit tra") == ["tracks", "transcripts"]
