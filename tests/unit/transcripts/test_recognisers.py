"""Recognisers load from local directories alone, say what is missing, and share out their segments."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from millrace.errors import SettingsError, Transient
from millrace.workloads.transcripts.recognisers import RECOGNISERS, RecogniserSpec, check, load
from millrace.workloads.transcripts.recognisers.funasr import word_times
from millrace.workloads.transcripts.recognisers.onnx_metadata import read_metadata
from millrace.workloads.transcripts.recognisers.sherpa_onnx import join_tokens
from millrace.workloads.transcripts.recognisers.team import Team
from millrace.workloads.transcripts.vad import Segment, Speech
from tests.voice import speak

from . import tiny_models

SPHINX = RecogniserSpec("pocketsphinx")


def speeches(count, seconds=0.6):
    """Segments that differ, so that their order shows."""
    made = []
    for n in range(count):
        samples = speak("aeiou"[n % 5] * (1 + n % 3), pitch=100 + 10 * n)[: round(seconds * 16000)]
        made.append(Speech(Segment(n * 16000, n * 16000 + len(samples), n * 16000, n * 16000), samples))
    return made


def test_pocketsphinx_answers_with_words_inside_the_segment():
    recogniser = load(SPHINX)
    samples = speak("aeiou oieau")
    said = recogniser.recognise(samples)
    assert said.language == "en"
    assert said.text == " ".join(word.text for word in said.words)
    for word in said.words:
        assert 0 <= word.start < word.end <= len(samples) / 16000 + 0.02
        assert word.text
        assert word.text[0] not in "<["
        assert not word.text.endswith(")")
    assert recogniser.recognise(np.zeros(300, np.float32)).text == ""
    recogniser.close()


@pytest.fixture(scope="module")
def team():
    """Two PocketSphinx children, kept by all tests that leave them alive."""
    team = Team(SPHINX)
    yield team
    team.close()


def test_a_team_answers_in_order(team):
    segments = speeches(6)
    answers = list(team.recognise(iter(segments), 2))
    assert [id(one) for one, _ in answers] == [id(one) for one in segments]
    for one, said in answers:
        assert all(word.end <= len(one.samples) / 16000 + 0.02 for word in said.words)


def test_one_core_is_used_without_children():
    team = Team(SPHINX)
    assert len(list(team.recognise(speeches(2), 1))) == 2
    assert team._children == []
    team.close()


def test_a_team_takes_no_more_segments_than_it_can_work_on(team):
    taken = 0

    def endless():
        nonlocal taken
        for segment in speeches(5) * 100:
            taken += 1
            yield segment

    answers = team.recognise(endless(), 2)
    for _ in range(3):
        next(answers)
    answers.close()
    assert taken <= 3 + 5


def test_a_child_that_died_fails_what_it_had_and_is_replaced():
    team = Team(SPHINX)
    list(team.recognise(speeches(2), 2))
    child = team._children[0]
    child._process.kill()
    with pytest.raises(Transient, match="signal 9"):
        child.recognise(np.zeros(16000, np.float32))
    assert len(list(team.recognise(speeches(3), 2))) == 3
    children = [child._process for child in team._children]
    team.close()
    assert len(children) == 2
    assert all(child.poll() is not None for child in children)


def test_children_die_with_the_process_that_started_them():
    program = """
        import time
        import numpy
        from millrace.workloads.transcripts.recognisers import RecogniserSpec
        from millrace.workloads.transcripts.recognisers import children
        child = children.ChildRecogniser(RecogniserSpec("pocketsphinx"))
        child.recognise(numpy.zeros(1000, numpy.float32))
        print(child._process.pid, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":
            return
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child outlived its parent")


def test_an_unknown_recogniser_and_a_missing_model_are_named(tmp_path):
    with pytest.raises(SettingsError, match="must be one of pocketsphinx, faster-whisper"):
        check(RecogniserSpec("dragon"))
    for name, engine in RECOGNISERS.items():
        if engine.own_model:
            check(RecogniserSpec(name))
        elif missing := engine.missing():
            with pytest.raises(SettingsError, match=f"needs {missing[0]}.*pip install 'millrace"):
                check(RecogniserSpec(name, str(tmp_path)))
        else:
            with pytest.raises(SettingsError, match=r"set transcripts\.recogniser_model"):
                check(RecogniserSpec(name))
            with pytest.raises(SettingsError, match="never downloaded"):
                check(RecogniserSpec(name, "openai/whisper-tiny"))
            with pytest.raises(SettingsError, match="is no "):
                check(RecogniserSpec(name, str(tmp_path)))


def test_faster_whisper_runs_a_model_from_a_directory(tmp_path):
    pytest.importorskip("faster_whisper")
    spec = RecogniserSpec(
        "faster-whisper", str(tiny_models.whisper(tmp_path / "whisper")), device="cpu", threads=2
    )
    team = Team(spec)
    answers = [said for _, said in team.recognise(speeches(4), 2)]
    assert team._children == [], "it lets go of the interpreter lock: threads are enough"
    assert len(answers) == 4
    for said in answers:
        assert said.language in tiny_models.LANGUAGES
        assert all(0 <= word.start <= word.end <= 0.6 for word in said.words)
    team.close()
    (tmp_path / "whisper" / "tokenizer.json").unlink()
    with pytest.raises(SettingsError, match=r"lacks tokenizer\.json"):
        load(spec)


def test_faster_whisper_refuses_a_gpu_that_is_not_there(tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")
    if ctranslate2.get_cuda_device_count():
        pytest.skip("there is one")
    folder = tiny_models.whisper(tmp_path / "whisper")
    with pytest.raises(SettingsError, match="no CUDA device is seen"):
        load(RecogniserSpec("faster-whisper", str(folder), device="cuda"))


def test_sherpa_onnx_runs_a_model_from_a_directory(tmp_path):
    pytest.importorskip("sherpa_onnx")
    pytest.importorskip("onnx", reason="the test makes its model with onnx")
    folder = tiny_models.sense_voice(tmp_path / "sense-voice")
    team = Team(RecogniserSpec("sherpa-onnx", str(folder), threads=2))
    answers = [said for _, said in team.recognise(speeches(4), 2)]
    team.close()
    assert len(answers) == 4
    assert any(said.text for said in answers)
    for said in answers:
        assert [word.start for word in said.words] == sorted(word.start for word in said.words)
        assert all(0 <= word.start <= word.end for word in said.words)


@pytest.mark.skipif(bool(RECOGNISERS["funasr"].missing()), reason="funasr or torch is not installed")
def test_funasr_runs_a_model_from_a_directory(tmp_path):
    spec = RecogniserSpec("funasr", str(tiny_models.funasr(tmp_path / "funasr")), device="cpu")
    team = Team(spec)
    answers = [said for _, said in team.recognise(speeches(3), 2)]
    assert len(team._children) == 2
    team.close()
    assert len(answers) == 3
    assert all("<|" not in said.text for said in answers)
    assert any(said.text for said in answers)


def test_funasr_stamps_words_and_characters():
    assert [word.text for word in word_times("hello world", [[0, 500], [500, 900]])] == ["hello", "world"]
    assert [word.end for word in word_times("你好。", [[0, 200], [200, 400]])] == [0.2, 0.4]
    assert word_times("hello world", [[0, 500]]) == ()


@pytest.mark.parametrize("key", ["vocab_size", "with_itn", "neg_mean", "lang_yue"])
def test_sherpa_onnx_is_never_given_a_model_that_would_end_its_process(tmp_path, key):
    pytest.importorskip("sherpa_onnx")
    pytest.importorskip("onnx", reason="the test makes its model with onnx")
    folder = tiny_models.sense_voice(tmp_path / "sense-voice", leave_out=(key,))
    with pytest.raises(SettingsError, match=f"metadata lacks {key}"):
        load(RecogniserSpec("sherpa-onnx", str(folder)))


def test_the_metadata_reader_refuses_what_is_no_model(tmp_path):
    for n, content in enumerate((b"", b"<html>", b"\x0a", b"\x3a\xff\xff\xff\xff\x0fabc", bytes(range(256)))):
        path = tmp_path / f"{n}.onnx"
        path.write_bytes(content)
        if content:
            with pytest.raises(ValueError, match=r"ONNX|protobuf"):
                read_metadata(path)
        else:
            assert read_metadata(path) == {}


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["▁hel", "lo", "▁world"], ["hello", "world"]),
        ([" hel", "lo", " world"], ["hello", "world"]),
        (["你", "好", "。"], ["你", "好", "。"]),
        (["你", "▁hello", "好"], ["你", "hello", "好"]),
        (["hel@@", "lo", "world"], ["hello", "world"]),
        (["", "▁", "▁a"], ["a"]),
    ],
)
def test_tokens_become_words(tokens, words):
    joined = join_tokens(tokens, [0.1 * n for n in range(len(tokens))], 1.0)
    assert [word.text for word in joined] == words
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(joined))


def test_tokens_without_times_give_no_words():
    assert join_tokens(["a", "b"], [], 1.0) == ()
