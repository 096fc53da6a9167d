"""The dashboard's form for new jobs and its page System, in a real browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewServer
from tests.e2e.browser import Looker, needs_chromium
from tests.live import LiveServer, probe_path

pytestmark = needs_chromium

SECRET = "whsec_b25seSB0aGUgb3BlcmF0b3Iga25vd3M="


@pytest.fixture(scope="module")
def server(new_module_server: NewServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    media = tmp_path_factory.mktemp("media")
    (media / "talks" / "inner").mkdir(parents=True)
    for name in ("one.bin", "two.bin"):
        (media / "talks" / name).write_bytes(name.encode())
    settings = {
        "webhooks": {"allow_private": True, "attempts": 1, "secret": SECRET},
        "fetch": {"allow_private": True, "ports": []},
        "tracks": {"path_mappings": [{"remote": "/data/tv", "local": str(media / "talks")}]},
    }
    path = probe_path(tmp_path_factory.mktemp("plugins"))
    return new_module_server(settings=settings, media_roots=[media], path=path).start()


class Receiver(BaseHTTPRequestHandler):
    """Takes webhooks; refuses the first of each message."""

    seen: list[str] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        ident = self.headers["webhook-id"]
        self.send_response(204 if ident in self.seen else 500)
        self.seen.append(ident)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_address[1]}/hook"
        listener.shutdown()


def job_of(server: LiveServer, page: Any) -> dict[str, Any]:
    """Wait until the page has gone to a job, and that has ended; return its row."""
    page.wait_for_url("**/ui/jobs/*")
    return server.wait(page.url.rpartition("/")[2])


def results(server: LiveServer, job: dict[str, Any]) -> list[Any]:
    items = server.client.get(f"/jobs/{job['job_id']}/items").json()["items"]
    return [(item["name"], (item["results"] or {}).get("first", item["error"])) for item in items]


# -- where the files come from ----------------------------------------------------------------


def test_files_of_this_computer(server: LiveServer, look: Looker, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    for name in ("b 10.txt", "b 9.txt"):
        (tmp_path / name).write_text(name)
    page = look.open(f"{server.url}/ui/new")
    page.get_by_role("link", name="Probe").click()
    page.get_by_label("Choose files").set_input_files([tmp_path / "b 10.txt", tmp_path / "b 9.txt"])
    chosen = page.locator(".chosen-list li")
    expect(chosen).to_have_count(2)
    expect(chosen.first).to_contain_text("b 9.txt")
    expect(page.locator("[data-sum]")).to_contain_text("2 items, 15 B to upload")
    page.get_by_label("Label").fill("From here")
    page.get_by_role("combobox", name="Priority").select_option("high")
    page.get_by_role("button", name="Submit").click()
    job = job_of(server, page)
    assert (job["label"], job["priority"]) == ("From here", 2)
    assert [(name, result["bytes"]) for name, result in results(server, job)] == [
        ("b 9.txt", 7),
        ("b 10.txt", 8),
    ]


def test_files_are_dropped(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(f"{server.url}/ui/new?kind=probe")
    data = page.evaluate_handle(
        "() => { const data = new DataTransfer();"
        "data.items.add(new File(['dropped'], 'dropped.txt', {type: 'text/plain'})); return data; }"
    )
    drop = page.locator("[data-drop='']")
    drop.dispatch_event("dragenter", {"dataTransfer": data})
    expect(drop).to_have_class("drop over")
    drop.dispatch_event("drop", {"dataTransfer": data})
    expect(page.locator(".chosen-list")).to_contain_text("dropped.txt")
    page.get_by_role("button", name="Submit").click()
    assert results(server, job_of(server, page))[0][1]["bytes"] == 7


def test_a_large_upload_shows_how_far_it_is(server: LiveServer, look: Looker, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    large = tmp_path / "large.bin"
    large.write_bytes(bytes(30_000_000))
    page = look.open(f"{server.url}/ui/new?kind=probe")
    page.context.new_cdp_session(page).send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 10_000_000},
    )
    page.get_by_label("Choose files").set_input_files(large)
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".submit progress")).to_be_visible()
    expect(page.locator("[data-told]")).to_contain_text("of 30 MB")
    page.get_by_role("button", name="Stop the upload").click()
    expect(page.locator("[data-fault]")).to_contain_text("Stopped; nothing was submitted")
    expect(page.locator(".submit progress")).to_be_hidden()


def test_files_and_folders_of_the_server(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(f"{server.url}/ui/new?kind=probe")
    page.get_by_role("tab", name="From the server").click()
    browser = page.get_by_role("list", name="Files on the server")
    browser.get_by_role("button", name="talks").click()
    browser.get_by_role("button", name="one.bin").click()
    expect(page.locator(".chosen-list li")).to_have_count(1)
    page.get_by_role("button", name="Remove all").click()
    browser.get_by_role("button", name="Choose this folder").click()
    expect(page.locator(".chosen-list li")).to_have_count(2)
    page.get_by_role("button", name="Remove one.bin").click()
    browser.get_by_role("button", name="..").click()
    expect(browser.get_by_role("button", name="talks")).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    assert [(name, result["bytes"]) for name, result in results(server, job_of(server, page))] == [
        ("two.bin", 7)
    ]


def test_addresses(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(f"{server.url}/ui/new?kind=probe")
    page.get_by_role("tab", name="Addresses").click()
    field = page.get_by_label("An address on each line")
    field.fill("ftp://odd\n")
    page.get_by_role("button", name="Add them").click()
    expect(page.get_by_role("alert")).to_contain_text("is no address of the form https://")
    field.fill(f"{server.url}/livez\n\n{server.url}/nothing\n")
    page.get_by_role("button", name="Add them").click()
    expect(page.locator(".chosen-list li")).to_have_count(2)
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/ui/jobs/*")
    job = server.wait(page.url.rpartition("/")[2])
    assert job["counts"] == {**job["counts"], "succeeded": 1, "failed": 1}


def test_a_csv_file(server: LiveServer, look: Looker, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    talks = server.media_roots[0] / "talks"
    csv = tmp_path / "list.csv"
    page = look.open(f"{server.url}/ui/new?kind=probe")
    page.get_by_role("tab", name="CSV").click()
    chooser = page.get_by_label("Choose a CSV file")
    csv.write_text("file\nx\n")
    chooser.set_input_files(csv)
    expect(page.get_by_role("alert")).to_contain_text("needs a column path or url")
    csv.write_text(f'\ufeffname;path\r\n"first; ""really""";{talks / "one.bin"}\r\n;{talks / "two.bin"}\r\n')
    chooser.set_input_files(csv)
    expect(page.locator(".chosen-list li")).to_have_count(2)
    page.get_by_role("button", name="Submit").click()
    names = [name for name, _ in results(server, job_of(server, page))]
    assert names == ['first; "really"', str(talks / "two.bin")]


# -- forms by kind ----------------------------------------------------------------------------


def test_a_folder_for_tracks_with_its_options(server: LiveServer, look: Looker) -> None:
    page = look.open(f"{server.url}/ui/new?kind=tracks")
    browser = page.get_by_role("list", name="Files on the server")
    browser.get_by_role("button", name="talks").click()
    browser.get_by_role("button", name="Choose this folder").click()
    page.get_by_label("Only say what would be done").check()
    page.get_by_label("File names").fill("*.mkv")
    page.get_by_label("Leave out").fill("*sample*, extras/*")
    page.get_by_role("button", name="Submit").click()
    job = job_of(server, page)
    options = server.client.get(f"/jobs/{job['job_id']}").json()["options"]
    assert options["path"] == str(server.media_roots[0] / "talks")
    assert (options["dry_run"], options["recursive"], options["pattern"]) == (True, True, "*.mkv")
    assert options["filters"] == {"exclude_patterns": ["*sample*", "extras/*"]}


def test_a_folder_that_is_being_opened_is_not_mistaken_for_the_one_before(
    server: LiveServer, look: Looker
) -> None:
    from playwright.sync_api import Route, expect

    page = look.open(f"{server.url}/ui/new?kind=tracks")
    browser = page.get_by_role("list", name="Files on the server")
    talks = browser.get_by_role("button", name="talks")
    expect(talks).to_be_visible()
    held: list[Route] = []
    page.route("**/media?path=*", lambda route: held.append(route))
    talks.click()
    expect(page.locator(".browser")).to_have_js_property("inert", True)
    held[0].continue_()
    expect(page.locator(".browser")).to_have_js_property("inert", False)
    browser.get_by_role("button", name="Choose this folder").click()
    expect(page.locator(".chosen-list li")).to_contain_text(str(server.media_roots[0] / "talks"))


def test_pairs_for_sync(server: LiveServer, look: Looker, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    for name in ("m1.wav", "m2.wav", "d1.wav"):
        (tmp_path / name).write_text(name)
    page = look.open(f"{server.url}/ui/new?kind=sync")
    page.get_by_label("Choose masters", exact=True).set_input_files(
        [tmp_path / "m2.wav", tmp_path / "m1.wav"]
    )
    page.get_by_label("Choose dubs", exact=True).set_input_files(tmp_path / "d1.wav")
    expect(page.locator("[data-sum]")).to_contain_text("1 pair, 12 B to upload; 1 masters without a dub")
    expect(page.locator(".chosen-list")).to_contain_text("d1.wav against m1.wav")
    page.get_by_label("choose by itself").uncheck()
    page.get_by_label("MFCC").check()
    page.get_by_label("Make a repaired copy").check()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/ui/jobs/*")
    job = server.wait(page.url.rpartition("/")[2])
    assert job["state"] == "failed", "these are no recordings"
    assert "bad_audio" in server.client.get(f"/jobs/{job['job_id']}/items/0").json()["error"]["code"]


def test_a_preset_is_saved_and_used(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(f"{server.url}/ui/new?kind=transcripts")
    page.get_by_label("Separate the voice").uncheck()
    page.get_by_label("Audio stream").fill("1")
    page.on("dialog", lambda dialog: dialog.accept("Only words"))
    page.get_by_role("button", name="Save as…").click()
    expect(page.get_by_text("Saved as Only words.")).to_be_visible()
    stored = server.client.get("/presets/transcripts/Only%20words").json()["options"]
    assert stored["tasks"] == {"asr": True, "demucs": False}
    page.goto(f"{server.url}/ui/new?kind=transcripts")
    expect(page.get_by_label("Separate the voice")).to_be_checked()
    page.get_by_label("Preset").select_option("Only words")
    expect(page.get_by_label("Separate the voice")).not_to_be_checked()
    expect(page.get_by_label("Audio stream")).to_have_value("1")


def test_what_the_server_refuses_is_said_beside_the_form(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    look.forgive("status of 400")
    page = look.open(f"{server.url}/ui/new?kind=transcripts")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose what the job is to work on")
    page.get_by_label("Recognise speech").uncheck()
    page.get_by_label("Separate the voice").uncheck()
    page.get_by_role("tab", name="Addresses").click()
    page.get_by_label("An address on each line").fill("https://example.com/a.mp3")
    page.get_by_role("button", name="Add them").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("asr and demucs are both off")
    page.get_by_label("Audio stream").fill("one")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("“one” is not a number")


# -- system -----------------------------------------------------------------------------------


def test_a_job_on_a_schedule_is_seen_and_steered(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(f"{server.url}/ui/new?kind=probe")
    page.get_by_role("tab", name="From the server").click()
    browser = page.get_by_role("list", name="Files on the server")
    browser.get_by_role("button", name="talks").click()
    browser.get_by_role("button", name="one.bin").click()
    page.get_by_label("Label").fill("Nightly")
    page.get_by_text("On a schedule instead").click()
    page.get_by_label("Cron, five fields").fill("0 3 * * *")
    page.get_by_label("Time zone").fill("Europe/Zurich")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/ui/system#schedules")
    row = page.locator("tr[id^=schedule-]")
    expect(row).to_contain_text("Nightly")
    expect(row).to_contain_text("Europe/Zurich")
    expect(row).to_contain_text("in ")
    row.get_by_role("button", name="Switch off").click()
    expect(row.get_by_role("button", name="Switch on")).to_be_visible()
    assert server.client.get("/schedules").json()["schedules"][0]["enabled"] is False
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("can be put on a schedule")).to_be_visible()


def test_a_webhook_is_seen_and_sent_again(server: LiveServer, look: Looker, receiver: str) -> None:
    from playwright.sync_api import expect

    job = {"kind": "probe", "items": [{"input": {}}], "callbacks": [{"url": receiver}]}
    server.client.post("/jobs", json=job).raise_for_status()
    page = look.open(f"{server.url}/ui/system")
    row = page.locator("tr[id^=delivery-]").first
    while not row.get_by_text("failed", exact=True).is_visible():
        page.wait_for_timeout(200)
        page.reload()
    expect(row).to_contain_text(receiver)
    expect(row).to_contain_text("500")
    row.get_by_role("button", name="Resend").click()
    while not row.get_by_text("delivered", exact=True).is_visible():
        page.wait_for_timeout(200)
        page.reload()
    expect(row).to_contain_text("204")


def test_system_shows_what_there_is_and_no_secret(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(f"{server.url}/ui/system")
    expect(page.locator("section[aria-labelledby=workers-title] tbody tr").first).to_contain_text("idle")
    expect(page.locator("section[aria-labelledby=disks-title]")).to_contain_text("free")
    expect(page.locator("section[aria-labelledby=findings-title]")).to_contain_text("media_roots")
    expect(page.locator("section[aria-labelledby=models-title]")).to_contain_text(
        "embedded engines need none"
    )
    settings = page.locator("section[aria-labelledby=settings-title]")
    changed = settings.locator("tr.own", has_text="webhooks.secret")
    expect(changed).to_contain_text("••••••")
    expect(settings).to_contain_text("tracks.settle_seconds")
    expect(settings).to_contain_text("probe.greeting")
    assert SECRET not in page.content()


def test_path_mappings_can_be_tried(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(f"{server.url}/ui/system")
    page.get_by_label("Path as the other program sees it").fill("/data/tv/one.bin")
    page.get_by_role("button", name="Try it").click()
    expect(page.locator("[data-answer-here]")).to_contain_text(
        str(server.media_roots[0] / "talks" / "one.bin")
    )
    assert json.loads(server.client.get("/webhook/map", params={"path": "/data/tv/one.bin"}).text)
