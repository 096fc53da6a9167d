"""``millrace sync MASTER DUB`` and ``millrace sync repair``, as a person types them."""

import json
import subprocess
import sys

import pytest

from tests.unit.sync.sounds import bed, later, write


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    sound = bed(20, 1)
    write(folder / "master.wav", sound)
    write(folder / "dub.wav", later(sound, 1.5))
    write(folder / "other.wav", bed(20, 2))
    return folder


def sync(folder, *words):
    command = [sys.executable, "-m", "millrace.cli", "sync", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def test_two_files_are_enough(media):
    done = sync(media, "master.wav", "dub.wav")
    assert done.returncode == 0, done.stderr
    assert "status      offset" in done.stdout
    assert "offset      -1.500" in done.stdout
    assert "late" in done.stdout


def test_all_that_is_known_comes_as_json_with_a_picture(media, tmp_path):
    plot = tmp_path / "plot.png"
    done = sync(media, "--json", "--plot", str(plot), "--methods", "mfcc,ai", "master.wav", "dub.wav")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [each["label"] for each in found["methods"]] == ["MFCC", "AI (Spectral)"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_files_that_do_not_match_end_with_3(media):
    done = sync(media, "master.wav", "other.wav")
    assert (done.returncode, "no_match" in done.stdout) == (3, True)


def test_a_repair_is_written_and_checked(media, tmp_path):
    out = tmp_path / "fixed.flac"
    done = sync(media, "repair", "master.wav", "dub.wav", str(out))
    assert done.returncode == 0, done.stderr
    assert "in_sync" in done.stdout
    assert out.stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("master.wav", "nowhere.wav"), "nowhere.wav"),
        (("master.wav", "dub.wav", "--methods", "guess"), "guess"),
        (("master.wav", "dub.wav", "--methods", "ai", "--ai-model", "yamnet"), "not available"),
    ],
)
def test_mistakes_are_said_in_a_sentence(media, words, said):
    done = sync(media, *words)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
