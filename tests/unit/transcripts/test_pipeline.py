"""The recognition stage as a worker runs it, and what the doctor says of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from millrace.engine.context import StageContext, WarmModels
from millrace.errors import BadInput, StageError
from millrace.workloads.transcripts import pipeline
from millrace.workloads.transcripts.plugin import build, doctor
from millrace.workloads.transcripts.settings import TranscriptsSettings
from tests.unit.media.media_files import write_media, write_wav
from tests.voice import speak

CORPUS = Path(__file__).parents[4] / "shared" / "corpus" / "speech"


@pytest.fixture(scope="module")
def models():
    models = WarmModels()
    yield models
    models.clear()


def run(stage, path, work, models, **arguments):
    """Run a stage over a path; return its result and where its artifacts are."""
    ctx = StageContext(
        job="j",
        idx=0,
        name=path.name,
        stage="asr",
        input={"kind": "path", "path": str(path)},
        workdir=work,
        site={"media_roots": [str(path.parent)]},
        models=models,
        **arguments,
    )
    return stage(ctx), work / "artifacts"


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real recordings is not beside the project")
@pytest.mark.parametrize("name", ["librivox-0880", "librivox-0930"])
def test_real_speech_becomes_mostly_the_right_words(tmp_path, models, name):
    result, made = run(pipeline.recognise, CORPUS / f"{name}.wav", tmp_path, models)
    said = json.loads((made / "output.json").read_text())
    wanted = (CORPUS / f"{name}.txt").read_text().split()
    right = sum(word in said["text"].split() for word in wanted)
    assert right / len(wanted) >= 0.5
    assert result["cues"] == len(said["cues"]) >= 1
    words = [word for segment in said["segments"] for word in segment["words"]]
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    assert words[-1]["end"] <= said["duration"] + 0.05


def test_speech_is_timed_by_the_film_it_belongs_to(tmp_path, models):
    voice = speak("aei oui", pause=0.5)
    path = write_media(tmp_path / "late.mkv", voice, rate=16000, start=2.5, video=5.0)
    phases = []
    _, made = run(
        pipeline.recognise, path, tmp_path / "work", models, report=lambda share, phase: phases.append(phase)
    )
    said = json.loads((made / "output.json").read_text())
    assert said["duration"] == pytest.approx(2.5 + len(voice) / 16000, abs=0.05)
    assert all(segment["start"] > 2.3 for segment in said["segments"])
    assert phases[0] == "asr_convert"
    assert phases[-1] == "asr"


def test_a_stage_run_again_writes_the_same_files(tmp_path, models):
    path = write_wav(tmp_path / "a.wav", np.zeros(16000, np.float32))
    for attempt in ("one", "two"):
        result, made = run(pipeline.recognise, path, tmp_path / attempt, models)
        assert result["cues"] == 0
        assert sorted(file.name for file in made.iterdir()) == ["output.json", "output.srt", "output.vtt"]


def test_validation_tells_what_is_in_a_film(tmp_path, models):
    path = write_media(tmp_path / "film.mkv", [speak("a"), speak("o")], rate=16000, video=1.0)
    result, _ = run(pipeline.validate, path, tmp_path / "work", models, options={"audioStream": 1})
    assert (result["container"], result["audio_streams"], result["stream"]) == ("matroska", 2, 1)
    assert (result["video_streams"], result["rate"], result["channels"]) == (1, 16000, 1)
    with pytest.raises(BadInput, match="there is no audio stream 7"):
        run(pipeline.validate, path, tmp_path / "work", models, options={"audioStream": 7})


def test_a_recogniser_that_is_not_there_is_an_engine_error(tmp_path, models):
    path = write_wav(tmp_path / "a.wav", speak("aeiou"))
    for settings in ({"recogniser": "funasr"}, {"recogniser": "sherpa-onnx", "recogniser_model": "/nowhere"}):
        with pytest.raises(StageError, match=r"recogniser") as error:
            run(pipeline.recognise, path, tmp_path / "work", models, settings=settings)
        assert error.value.code == "engine_error"
        assert not error.value.retryable


def test_the_doctor_names_what_is_missing(tmp_path):
    lines = {what: (works, hint) for what, works, hint in doctor(TranscriptsSettings(), Path("models"))}
    assert lines["recogniser pocketsphinx"][0] is True
    broken = TranscriptsSettings(recogniser="sherpa-onnx", recogniser_model=tmp_path)
    works, hint = {what: (ok, hint) for what, ok, hint in doctor(broken, Path("models"))}[
        "recogniser sherpa-onnx"
    ]
    assert works is False
    assert "sherpa-onnx" in hint


def test_the_workload_follows_its_settings():
    workload = build(TranscriptsSettings(on_restart="resume", timeout=5, max_queued_jobs=3))
    assert (workload.policy, workload.fails_when, workload.on_restart) == ("stage_first", "any", "resume")
    assert workload.max_queued_jobs == 3
    assert workload.stage("asr").timeout == 5
    assert workload.ttl == 21_600
    assert workload.stage_names({"tasks": {"asr": True, "demucs": False}}) == ("validate", "asr")
    assert workload.stage_names({}) == ("validate", "asr", "demucs")
