"""What the dashboard shows of an item of each kind, in a real browser, after a real job."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.plugins import discover
from millrace.workloads import DemoStand
from tests.conftest import NewServer
from tests.e2e.browser import PHONE, Looker, fits, needs_chromium, until
from tests.live import LiveServer
from tests.voice import speak

pytestmark = [needs_chromium, pytest.mark.timeout(400)]

RATE = 16_000
DELAY = 1.5
"""By how much the dub of the pair is late, in seconds."""


@pytest.fixture(scope="module")
def server(new_module_server: NewServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    return new_module_server(media_roots=[tmp_path_factory.mktemp("media")]).start()


def write_wav(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def submit(server: LiveServer, kind: str, inputs: list[dict[str, Any]], **fields: Any) -> str:
    body = {"kind": kind, "items": [{"input": each} for each in inputs], **fields}
    reply = server.client.post("/jobs", json=body)
    assert reply.status_code == 202, reply.text
    job = server.wait(reply.json()["job_id"], timeout=300)
    assert job["counts"]["failed"] == 0, server.client.get(f"/jobs/{job['job_id']}/items").text
    return str(job["job_id"])


def demo(server: LiveServer, kind: str) -> str:
    """Run a workload's own demonstration; return its job."""
    media = server.media_roots[0] / kind
    media.mkdir()
    make = discover()[kind].demo
    assert make is not None
    job: str = server.wait(make(DemoStand(server.client, media)).job, timeout=300)["job_id"]
    return job


def shows_itself(look: Looker, address: str) -> None:
    """Check that a view fits a phone, dark, and says nothing to the console."""
    page = look.open(address, color_scheme="dark", **PHONE)
    page.wait_for_timeout(300)
    assert fits(page), address


# -- transcripts ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(server: LiveServer) -> str:
    """The address of a recording's view: said twice, with a pause between."""
    path = write_wav(server.media_roots[0] / "talk.wav", speak("aeiou   oiea   uaeio", rate=RATE, pause=0.8))
    job = submit(server, "transcripts", [{"kind": "path", "path": str(path)}])
    return f"{server.url}/ui/jobs/{job}/items/0"


def test_a_transcript_is_played_and_its_cues_follow_and_seek(recording: str, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(recording)
    look.forgive("willReadFrequently")  # the test reads the canvas, the page does not
    deck = page.locator("sound-deck")
    expect(deck.locator(".figure")).to_contain_text("/ 0:")
    colours = (
        "(() => { const c = document.querySelector('sound-deck canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n / (d.length / 4); })()"
    )
    until(page, f"{colours} > 0.05")
    deck.get_by_role("button", name="Play", exact=True).click()
    until(page, "document.querySelector('sound-deck').time > 0.3")
    cues = page.locator(".cues li")
    last = cues.last
    start = float(last.get_attribute("data-start") or 0)
    last.get_by_role("button").click()
    until(page, f"document.querySelector('sound-deck').time >= {start}")
    expect(last).to_have_attribute("aria-current", "true")
    deck.get_by_role("button", name="Pause").click()
    expect(deck).to_have_attribute("data-state", "paused")
    slider = deck.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    until(page, "document.querySelector('sound-deck').time === 0")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('sound-deck').time > 0")


def test_stems_are_soloed_and_muted(recording: str, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(recording)
    deck = page.locator("sound-deck")
    expect(deck.get_by_role("button", name="Mute: Voice")).to_be_hidden()
    deck.get_by_role("button", name="Stems").click()
    deck.get_by_role("button", name="Play", exact=True).click()
    until(page, "document.querySelector('audio[data-voice=Voice]').currentTime > 0.2")
    until(page, "document.querySelector('audio[data-voice=Rest]').currentTime > 0.2")
    assert page.evaluate("document.querySelector('audio[data-voice=Original]').paused")

    def muted() -> list[bool]:
        found: list[bool] = page.evaluate(
            "[...document.querySelectorAll('audio[data-stem]')].map(audio => audio.muted)"
        )
        return found

    assert muted() == [False, False]
    deck.get_by_role("button", name="Hear only: Voice").click()
    assert muted() == [False, True]
    deck.get_by_role("button", name="Hear only: Voice").click()
    deck.get_by_role("button", name="Mute: Voice").click()
    assert muted() == [True, False]
    expect(deck.get_by_role("button", name="Mute: Voice")).to_have_attribute("aria-pressed", "true")


def test_a_form_that_no_browser_plays_is_played_all_the_same(server: LiveServer, look: Looker) -> None:
    import av

    samples = speak("aeiou oiea", rate=RATE)
    path = server.media_roots[0] / "talk.au"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16be", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None, :], "s16", "mono")
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    job = submit(
        server, "transcripts", [{"kind": "path", "path": str(path)}], options={"tasks": {"demucs": False}}
    )
    page = look.open(f"{server.url}/ui/jobs/{job}/items/0")
    page.get_by_role("button", name="Play", exact=True).click()
    until(page, "document.querySelector('sound-deck').time > 0.2")
    assert page.evaluate("document.querySelector('audio').currentSrc").endswith("/sound/input/listen")


def test_the_transcript_fits_a_phone(recording: str, look: Looker) -> None:
    shows_itself(look, recording)


# -- sync -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(server: LiveServer) -> str:
    """The address of a pair's view: the dub is the master, late."""
    noise = np.random.default_rng(3)
    loud = np.repeat(noise.uniform(0.02, 0.5, 300), RATE // 10)
    master = (noise.normal(size=len(loud)) * loud * 0.5).astype(np.float32)
    root = server.media_roots[0]
    late = np.concatenate((np.zeros(round(DELAY * RATE), np.float32), master))
    sides = {"master": write_wav(root / "master.wav", master), "dub": write_wav(root / "dub.wav", late)}
    given = {side: {"kind": "path", "path": str(path)} for side, path in sides.items()}
    return f"{server.url}/ui/jobs/{submit(server, 'sync', [given])}/items/0"


def test_a_pair_shows_its_offset_and_its_plot(pair: str, look: Looker) -> None:
    from playwright.sync_api import expect

    page = look.open(pair)
    expect(page.locator(".figures")).to_contain_text("-1.500 s")
    plot = page.get_by_role("img", name="The correlation's peak")
    expect(plot).to_be_visible()
    until(page, "document.querySelector('img.plot').naturalWidth > 100")


def test_the_player_applies_the_offset(pair: str, look: Looker) -> None:
    """What is fetched for both sides, and heard at once, begins where the analysis says it should."""
    from playwright.sync_api import expect

    page = look.open(pair)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/clip?" in request.url else None)
    deck = page.locator("ab-deck")
    deck.get_by_role("button", name="Play", exact=True).click()
    until(page, "/master 0:0[1-9]/.test(document.querySelector('ab-deck [data-place]').textContent)")
    expect(deck.locator("[data-place]")).to_contain_text("dub 0:0")
    starts = {
        url.split("/sound/")[1].split("/")[0]: float(url.split("start=")[1].split("&")[0]) for url in asked
    }
    assert starts["dub"] - starts["master"] == pytest.approx(DELAY, abs=0.005)
    deck.get_by_role("button", name="Left and right").click()
    expect(deck).to_have_attribute("data-heard", "split")
    asked.clear()
    deck.get_by_label("apply the offset").uncheck()
    until(page, "document.querySelector('ab-deck [data-said]').textContent === ''")
    while not any("/dub/" in url for url in asked):
        page.wait_for_timeout(50)
    starts = {
        url.split("/sound/")[1].split("/")[0]: float(url.split("start=")[1].split("&")[0]) for url in asked
    }
    assert starts["dub"] == pytest.approx(starts["master"], abs=0.005)
    deck.get_by_role("button", name="Pause").click()
    expect(deck).to_have_attribute("data-state", "paused")


def test_the_pair_fits_a_phone(pair: str, look: Looker) -> None:
    shows_itself(look, pair)


# -- tracks, images, documents ----------------------------------------------------------------


def test_tracks_before_and_after(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    job = demo(server, "tracks")
    items = server.client.get(f"/jobs/{job}/items").json()["items"]
    changed = next(item["idx"] for item in items if item["state"] == "succeeded")
    page = look.open(f"{server.url}/ui/jobs/{job}/items/{changed}")
    rows = page.locator("section[aria-labelledby=tracks-title] tbody tr")
    was, now = (rows.filter(has_text="jpn"), rows.filter(has_text="eng"))
    expect(was.locator("td").nth(6)).to_contain_text("default")
    expect(was.locator("td").nth(7)).to_have_text("–")
    expect(now.locator("td").nth(7)).to_contain_text("default")
    shows_itself(look, page.url)


def test_an_images_metadata_before_and_after(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    job = demo(server, "images")
    page = look.open(f"{server.url}/ui/jobs/{job}/items/0")
    words = page.locator("table.words")
    title = server.client.get(f"/jobs/{job}/items/0").json()["results"]["analyse"]["tags"]["title"]
    expect(words.locator("tr", has_text="Title").locator("td").last).to_have_text(title)
    expect(words.locator(".tag.fresh").first).to_be_visible()
    until(page, "document.querySelector('img.whole').naturalWidth > 100")
    with page.expect_download() as given:
        page.get_by_role("link", name="As it was given").click()
    assert given.value.suggested_filename.endswith(".jpg")
    shows_itself(look, page.url)


def test_a_documents_findings_are_marked_and_ruled_on(server: LiveServer, look: Looker) -> None:
    from playwright.sync_api import expect

    job = demo(server, "documents")
    page = look.open(f"{server.url}/ui/jobs/{job}/items/0")
    findings = page.locator("[data-findings] .finding")
    expect(findings.first).to_be_visible()
    until(page, "document.querySelector('.sheet img').naturalWidth > 100")
    marks = page.locator(".frame svg .mark")
    assert marks.count() >= 1
    box = marks.first.bounding_box()
    sheet = page.locator(".frame img").first.bounding_box()
    assert box is not None
    assert sheet is not None
    assert sheet["x"] <= box["x"] <= sheet["x"] + sheet["width"]
    assert sheet["y"] <= box["y"] <= sheet["y"] + sheet["height"]
    findings.first.get_by_role("button").click()
    expect(marks.first).to_have_class("mark personal pointed")
    form = page.locator("form[data-ruling]")
    choice = form.locator("select[name=category]")
    other = next(
        name for name in choice.locator("option").all_text_contents() if name != choice.input_value()
    )
    choice.select_option(other)
    form.get_by_label("Your name").fill("Mara")
    form.get_by_label("Why").fill("It was published long ago")
    form.get_by_role("button", name="Rule").click()
    expect(page.locator("[data-history] li")).to_contain_text("by Mara")
    doc = server.client.get(f"/jobs/{job}/items/0").json()["uid"]
    assert server.client.get(f"/documents/{doc}").json()["classification"]["final_category"] == other
    shows_itself(look, page.url)


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    from playwright.sync_api import expect

    expect.set_options(timeout=15_000)
    yield
    expect.set_options(timeout=5_000)
