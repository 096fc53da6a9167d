"""The dashboard in a real browser: what runs, the list of jobs, a job, and how they stay live."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NewServer
from tests.contract.conftest import Jobs
from tests.e2e.browser import PHONE, Looker, fits, needs_chromium, until
from tests.live import LiveServer, probe_path

pytestmark = needs_chromium

TOKEN = "wheel & water"


def gate(folder: Path) -> tuple[dict[str, str], Path]:
    """Return an item that fails until a file is there, and that file."""
    flag = folder / "flag"
    return {"fail_unless": str(flag)}, flag


@pytest.fixture(scope="module")
def server(new_module_server: NewServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    slots = {"slots": {"cpu": 2, "io": 2}}
    return new_module_server(settings=slots, path=probe_path(tmp_path_factory.mktemp("plugins"))).start()


@pytest.fixture
def jobs(server: LiveServer) -> Any:
    made = Jobs(server)
    yield made
    server.client.post("/jobs/bulk", json={"action": "cancel", "filter": {"status": "queued,running"}})


# -- now --------------------------------------------------------------------------------------


def test_now_shows_lanes_and_follows_what_happens(server: LiveServer, jobs: Jobs, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(server.url)
    expect(page.get_by_text("Nothing is under way")).to_be_visible()
    expect(page.locator("live-light")).to_have_text("live")
    page.evaluate("window.kept = true")
    job = jobs.submit({"sleep": 60}, {"sleep": 60}, {"sleep": 60}, label="Night shift")
    lane = page.locator("#lane-cpu")
    expect(lane.locator(".running li")).to_have_count(2)
    expect(lane.locator(".slots")).to_contain_text("2 / 2")
    expect(lane.locator(".waiting li")).to_contain_text("Night shift")
    expect(lane.locator(".waiting li")).to_contain_text("for a free cpu slot")
    bar = lane.locator("progress").first
    before = bar.evaluate("bar => bar.value")
    until(page, f"document.querySelector('#lane-cpu progress').value > {before}")
    server.client.delete(f"/jobs/{job}")
    expect(page.get_by_text("Nothing is under way")).to_be_visible()
    expect(page.locator(".recent")).to_contain_text("Night shift")
    assert page.evaluate("window.kept"), "the page was loaded again"


def test_a_workload_is_paused_drained_and_resumed(server: LiveServer, jobs: Jobs, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(server.url)
    probe = page.locator("#workload-probe")
    probe.get_by_role("button", name="Pause").click()
    expect(probe.locator(".pill")).to_have_text("paused")
    jobs.submit({}, label="Patience")
    expect(page.locator("#lane-cpu .waiting")).to_contain_text("probe is paused")
    probe.get_by_role("button", name="Resume").click()
    expect(page.locator(".recent")).to_contain_text("Patience")
    probe.get_by_role("button", name="Drain").click()
    expect(probe.locator(".pill")).to_have_text("draining")
    assert server.client.post("/jobs", json={"kind": "probe", "items": [{"input": {}}]}).status_code == 503
    probe.get_by_role("button", name="Resume").click()
    expect(probe.locator(".pill")).to_have_count(0)


# -- jobs -------------------------------------------------------------------------------------


def test_jobs_are_filtered_and_paged(server: LiveServer, jobs: Jobs, look: Looker) -> None:
    from playwright.sync_api import expect

    for n in range(53):
        jobs.submit({}, label=f"paged {n:02d}")
    failed = jobs.run({"fail": "no"}, label="paged odd one")["job_id"]
    page = look.open(f"{server.url}/ui/jobs")
    page.get_by_label("Search").fill("PAGED")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.jobs tbody tr")).to_have_count(50)
    expect(page.locator(".pages")).to_contain_text("54 jobs match")
    page.get_by_role("link", name="Older").click()
    expect(page.locator("table.jobs tbody tr")).to_have_count(4)
    expect(page.locator("table.jobs")).to_contain_text("paged 00")
    page.get_by_role("combobox", name="Status").select_option("failed")
    page.get_by_role("combobox", name="Kind").select_option("probe")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    expect(page.locator(f"#job-{failed}")).to_be_visible()


def test_the_list_follows_a_job_to_its_end(server: LiveServer, jobs: Jobs, look: Looker) -> None:
    from playwright.sync_api import expect

    job = jobs.submit({"sleep": 60}, label="followed")
    page = look.open(f"{server.url}/ui/jobs?q=followed")
    row = page.locator(f"#job-{job}")
    expect(row.locator(".pill")).to_have_text("awake")
    row.get_by_role("checkbox").check()
    server.client.delete(f"/jobs/{job}")
    expect(row.locator(".pill")).to_have_text("cancelled")
    expect(row.get_by_role("checkbox")).to_be_checked()


def test_many_jobs_are_cancelled_after_their_count_was_shown(
    server: LiveServer, jobs: Jobs, look: Looker
) -> None:
    from playwright.sync_api import expect

    jobs.run({}, label="bulk done")
    # One at a time: what was quick so far shares a call, these would too.
    made = [jobs.submit({"sleep": 60}, {"sleep": 60}, label=f"bulk {n}", parallelism=1) for n in range(2)]
    for job in made:
        server.wait(job, "running")
    page = look.open(f"{server.url}/ui/jobs?q=bulk")
    page.get_by_role("checkbox", name="Select all jobs of this page").check()
    bar = page.locator("bulk-bar")
    expect(bar).to_contain_text("3 jobs selected")
    bar.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog", name="Cancel 2 jobs?")
    expect(dialog).to_contain_text("2 waiting items and 2 running items are stopped")
    expect(dialog).to_contain_text("1 other that you selected will stay")
    dialog.get_by_role("button", name="Keep as it is").click()
    assert all(server.client.get(f"/jobs/{job}").json()["state"] != "cancelled" for job in made)
    bar.get_by_role("button", name="Cancel").click()
    dialog.get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.get_by_text("2 jobs cancelled.")).to_be_visible()
    for job in made:
        expect(page.locator(f"#job-{job} .pill")).to_have_text("cancelled")
    expect(bar).to_be_hidden()


def test_many_jobs_are_retried_and_reprioritised(
    server: LiveServer, jobs: Jobs, look: Looker, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    item, flag = gate(tmp_path)
    failed = [jobs.run(item, {}, label=f"again {n}")["job_id"] for n in range(2)]
    page = look.open(f"{server.url}/ui/jobs?q=again")
    page.get_by_role("checkbox", name="Select all jobs of this page").check()
    flag.touch()
    page.locator("bulk-bar").get_by_role("button", name="Retry failed").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry 2 items").click()
    for job in failed:
        expect(page.locator(f"#job-{job} .pill")).to_have_text("completed")
    slow = jobs.submit({"sleep": 60}, label="again slow")
    row = page.locator(f"#job-{slow}")
    row.get_by_role("checkbox").check()
    page.get_by_label("New priority").select_option("high")
    page.get_by_role("dialog").get_by_role("button", name="Change 1 job").click()
    expect(row).to_contain_text("high")


# -- a job ------------------------------------------------------------------------------------


def test_a_job_shows_failures_first_and_retries_only_them(
    server: LiveServer, jobs: Jobs, look: Looker, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    item, flag = gate(tmp_path)
    job = jobs.run({"artifact": "a.txt"}, {}, item, {}, label="half done")["job_id"]
    page = look.open(f"{server.url}/ui/jobs/{job}")
    rows = page.locator(".items > li")
    expect(rows).to_have_count(4)
    expect(rows.first).to_have_attribute("data-idx", "2")
    expect(page.locator(".reasons article")).to_have_count(1)
    expect(page.locator(".reasons")).to_contain_text("not there yet")
    expect(page.locator(".reasons .advice")).to_contain_text("retry")
    expect(rows.first.locator(".steps .failed")).to_have_text("first")
    page.get_by_role("link", name="Failed 1").click()
    expect(rows).to_have_count(1)
    flag.touch()
    page.get_by_role("button", name="Retry failed only (1)").click()
    expect(page.locator("h1 .pill")).to_have_text("completed")
    expect(page.get_by_text("No item is in this state.")).to_be_visible()
    expect(page.get_by_role("button", name="Retry failed only")).to_have_count(0)
    page.get_by_role("link", name="All 4").click()
    page.get_by_text("Artifacts", exact=True).click()
    expect(page.locator("details").get_by_role("link", name="a.txt")).to_be_visible()
    page.get_by_text("Events", exact=True).click()
    expect(page.locator(".log")).to_contain_text("job.finished")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all", exact=True).click()
    assert download.value.suggested_filename == "half done.zip"


def test_a_job_is_followed_live_and_cancelled(server: LiveServer, jobs: Jobs, look: Looker) -> None:
    from playwright.sync_api import expect

    job = jobs.submit({"sleep": 60}, {"sleep": 60}, label="long")
    page = look.open(f"{server.url}/ui/jobs/{job}")
    page.evaluate("window.kept = true")
    expect(page.locator("#item-0 .pill")).to_have_text("running")
    until(page, "document.querySelector('#item-0 progress')?.value > 0.005")
    expect(page.locator("#item-0 .phase")).to_have_text("sleeping")
    page.get_by_label("Priority").select_option("high")
    until(page, f"fetch('/jobs/{job}').then(r => r.json()).then(j => j.priority === 2)")
    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog = page.get_by_role("dialog", name="Cancel this job?")
    expect(dialog).to_contain_text("running item")
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("h1 .pill")).to_have_text("cancelled")
    expect(page.locator(".items .cancelled .pill")).to_have_count(2)
    assert page.evaluate("window.kept")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good").click()
    page.wait_for_url("**/ui/jobs")
    assert server.client.get(f"/jobs/{job}").status_code == 404


def test_an_ended_job_that_another_retries_comes_to_life(
    server: LiveServer, jobs: Jobs, look: Looker, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    item, flag = gate(tmp_path)
    job = jobs.run(item, label="revived")["job_id"]
    page = look.open(f"{server.url}/ui/jobs/{job}")
    expect(page.locator("live-light")).to_have_text("live")
    flag.touch()
    server.client.post(f"/jobs/{job}/retry")
    expect(page.locator("h1 .pill")).to_have_text("completed")


def test_an_item_of_any_kind_has_a_view(server: LiveServer, jobs: Jobs, look: Looker) -> None:
    from playwright.sync_api import expect

    content = {"artifact": "note.txt", "content": "written by a stage", "media_type": "text/plain"}
    job = jobs.run(content, {"fail": "cannot be read"}, label="generic")["job_id"]
    page = look.open(f"{server.url}/ui/jobs/{job}/items/0")
    expect(page.locator(".timeline .run")).to_have_count(2)
    page.get_by_text("Look inside").click()
    expect(page.locator(".peek pre")).to_have_text("written by a stage")
    expect(page.locator("pre.json").first).to_contain_text("greeting")
    assert "_secret" not in page.content()
    page.keyboard.press("]")
    page.wait_for_url("**/items/1")
    expect(page.locator(".reasons")).to_contain_text("cannot be read")


# -- a connection that is lost ----------------------------------------------------------------


def test_a_lost_connection_comes_back(new_server: NewServer, look: Looker, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    server = new_server(path=probe_path(tmp_path)).start()
    jobs = Jobs(server)
    job = jobs.submit({"sleep": 2}, {"sleep": 2}, {"sleep": 60}, label="survivor", parallelism=1)
    look.forgive(
        "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"
    )
    here = look.open(f"{server.url}/ui/jobs/{job}")
    front = look.open(server.url)
    for page in (here, front):
        expect(page.locator("live-light")).to_have_text("live")
        page.evaluate("window.kept = true")
    server.fixed_port = server.port
    server.kill()
    for page in (here, front):
        expect(page.locator("live-light")).to_contain_text("connection lost")
    server.start()
    for page in (here, front):
        expect(page.locator("live-light")).to_have_text("live")
    expect(here.locator("#item-1 .pill")).to_have_text("succeeded")
    expect(here.locator("#item-2 .pill")).to_have_text("running")
    expect(front.locator("#lane-cpu .running")).to_be_visible()
    server.client.delete(f"/jobs/{job}")
    expect(here.locator("h1 .pill")).to_have_text("cancelled")
    expect(front.get_by_text("Nothing is under way")).to_be_visible()
    assert here.evaluate("window.kept")
    assert front.evaluate("window.kept")


# -- ten thousand items -----------------------------------------------------------------------


def test_ten_thousand_items_are_a_hundred_rows(server: LiveServer, jobs: Jobs, look: Looker) -> None:
    from playwright.sync_api import expect

    inputs: list[dict[str, Any]] = [{} for _ in range(10_000)]
    inputs[9_000] = {"fail": "the odd one"}
    job = jobs.submit(*inputs, label="ten thousand")
    page = look.open(f"{server.url}/ui/jobs/{job}")
    expect(page.locator(".items > li")).to_have_count(100)
    expect(page.locator("h1 .pill")).to_have_text("failed", timeout=90_000)
    expect(page.locator(".items > li").first).to_have_attribute("data-idx", "9000")
    assert page.locator("*").count() < 3_000
    page.get_by_role("link", name="Next 100").click()
    expect(page.locator(".items > li")).to_have_count(100)
    expect(page.locator(".items > li").first).to_have_attribute("data-idx", "99")


# -- keyboard, small windows, both schemes, and the token -------------------------------------


def test_everything_is_reached_by_keyboard(server: LiveServer, jobs: Jobs, look: Looker) -> None:
    from playwright.sync_api import expect

    first = jobs.run({}, label="keys one")["job_id"]
    page = look.open(server.url)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url("**/ui/jobs")
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("keys one")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=keys+one*")
    page.keyboard.press("j")
    expect(page.locator("tr.here a").first).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("x")
    expect(page.locator("bulk-bar")).to_contain_text("1 job selected")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/ui/jobs/{first}")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/items/0")
    page.keyboard.press("u")
    page.wait_for_url(f"**/ui/jobs/{first}")


PAGES = [
    "/",
    "/ui/jobs",
    "/ui/jobs/{job}",
    "/ui/jobs/{job}?show=failed",
    "/ui/jobs/{job}/items/0",
    "/ui/new",
    "/ui/system",
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_in_both_schemes(server: LiveServer, jobs: Jobs, look: Looker, scheme: str) -> None:
    long = "a_very_long_name_without_any_place_to_break_it_" * 4
    body = {
        "kind": "probe",
        "label": long,
        "items": [{"name": long, "input": {"fail": long}}, {"name": long, "input": {"sleep": 60}}],
    }
    job = server.client.post("/jobs", json=body).json()["job_id"]
    server.wait(job, "running")
    for address in PAGES:
        page = look.open(server.url + address.format(job=job), color_scheme=scheme, **PHONE)
        page.wait_for_load_state("networkidle") if "jobs" not in address and address != "/" else None
        assert fits(page), address
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(244, 246, 248)", "dark": "rgb(14, 19, 24)"}[scheme]


def test_a_chosen_scheme_is_kept(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(server.url, color_scheme="light")
    page.get_by_role("button", name="Switch between dark and light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto(f"{server.url}/ui/jobs")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_a_person_signs_in_with_the_token(new_server: NewServer, look: Looker, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    environ = {"REQUIRE_AUTH": "true", "BEARER_TOKEN": TOKEN}
    server = new_server(environ=environ, path=probe_path(tmp_path)).start()
    jobs = Jobs(server)
    job = jobs.submit({"sleep": 60}, label="guarded")
    look.forgive("status of 403")
    page = look.open(f"{server.url}/ui/jobs/{job}")
    expect(page.get_by_label("Bearer token")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not this server")
    page.get_by_label("Bearer token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/ui/jobs/{job}")
    expect(page.locator("live-light")).to_have_text("live")
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("h1 .pill")).to_have_text("cancelled")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/ui/sign-in")
    page.goto(server.url)
    page.wait_for_url(re.compile(r"/ui/sign-in"))
    page.goto(f"{server.url}/ui/sign-in?next=/ui/jobs#token=wheel%20%26%20water")
    page.wait_for_url("**/ui/jobs")
