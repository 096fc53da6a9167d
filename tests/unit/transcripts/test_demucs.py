"""Demucs through its real loading and inference code, with a tiny model of random weights."""

import hashlib
import json
import os
import pickle
from fractions import Fraction

import numpy as np
import pytest

from millrace.engine.context import StageContext, WarmModels
from millrace.errors import StageError, Transient
from millrace.media.decode import read_audio
from millrace.workloads.transcripts.separation import separate
from millrace.workloads.transcripts.separators import Survey
from tests.unit.media.media_files import write_wav

torch = pytest.importorskip("torch", reason="the demucs extra is not installed")
pytest.importorskip("demucs", reason="the demucs extra is not installed")

from demucs.htdemucs import HTDemucs  # noqa: E402

from millrace.workloads.transcripts.separators import demucs as subject  # noqa: E402

SOURCES = ["drums", "bass", "other", "vocals"]
TINY = {
    "channels": 8,
    "growth": 2,
    "depth": 4,
    "t_layers": 1,
    "t_heads": 4,
    "bottom_channels": 0,
    "segment": Fraction(2),
    "samplerate": 16000,
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A bag ``two`` of a pickled and a safetensors model, as Demucs lays a local repository out."""
    from safetensors.torch import save_file

    root = tmp_path_factory.mktemp("demucs")
    torch.manual_seed(0)
    for signature, plain in (("aaaa1111", False), ("bbbb2222", True)):
        model = HTDemucs(SOURCES, **TINY)
        if plain:
            kwargs = {**TINY, "segment": {"_type": "fraction", "numerator": 2, "denominator": 1}}
            save_file(
                {key: value.contiguous() for key, value in model.state_dict().items()},
                root / f"{signature}.safetensors",
                {
                    "klass": "demucs.htdemucs.HTDemucs",
                    "args": json.dumps([SOURCES]),
                    "kwargs": json.dumps(kwargs),
                },
            )
        else:
            package = {"klass": HTDemucs, "args": (SOURCES,), "kwargs": TINY, "state": model.state_dict()}
            torch.save(package, root / "new.th")
            digest = hashlib.sha256((root / "new.th").read_bytes()).hexdigest()[:8]
            (root / "new.th").rename(root / f"{signature}-{digest}.th")
    (root / "two.yaml").write_text("models: ['aaaa1111', 'bbbb2222']\n", encoding="utf-8")
    return root


def noise(seconds: float, rate: int) -> np.ndarray:
    return (0.2 * np.random.default_rng(5).standard_normal((round(seconds * rate), 2))).astype(np.float32)


def survey(samples, rate):
    return Survey(rate, len(samples), 1.0, 0.0, float(samples.mean(axis=1).std()), 1.0)


def context(tmp_path, repository, models, seen):
    return StageContext(
        job="b",
        idx=0,
        name="a.wav",
        stage="demucs",
        input={},
        workdir=tmp_path / "work",
        options={"tasks": {"asr": False, "demucs": True}},
        settings={"separation": {"engine": "demucs", "model": "two", "repository": str(repository)}},
        models=models,
        report=lambda fraction, phase: seen.append(fraction),
    )


def test_a_bag_of_models_goes_through_to_stems_that_sum_to_the_recording(tmp_path, repository):
    seen, models = [], WarmModels()
    mix = noise(5, 44100)
    result = separate(context(tmp_path, repository, models, seen), write_wav(tmp_path / "a.wav", mix, 44100))
    out = tmp_path / "work" / "artifacts"
    stems = [read_audio(out / name, channels=2)[0] for name in ("vocals.mp3", "no_vocals.mp3")]
    assert result["separator"] == "demucs"
    assert result["approximate"] is False
    assert [len(stem) for stem in stems] == [len(mix)] * 2
    assert all(np.isfinite(stem).all() and np.abs(stem).max() > 0.01 for stem in stems)
    error = stems[0] + stems[1] - mix * 10 ** (result["gain_db"] / 20)
    assert np.sqrt((error**2).mean()) < 0.5 * np.sqrt((mix**2).mean())
    assert seen == sorted(seen)
    assert len(set(seen)) > 5  # Demucs' own segments, not only the ends
    assert len(models.keys()) == 1


def test_the_model_is_loaded_once_and_let_go_when_idle(tmp_path, repository):
    clock = [0.0]
    models = WarmModels(idle=10.0, clock=lambda: clock[0])
    for n in range(2):
        source = write_wav(tmp_path / f"{n}.wav", noise(0.5, 16000), 16000)
        separate(context(tmp_path / str(n), repository, models, []), source)
        assert len(models.keys()) == 1
    separator = models.get(models._warm.copy().popitem()[0], lambda: None)
    clock[0] = 11.0
    assert models.drop_idle() == 1
    assert separator._model is None


def test_chunks_join_without_a_seam_or_a_gap(repository, monkeypatch):
    mix = noise(12, 16000)
    separator = subject.DemucsSeparator(repository, "aaaa1111", device="cpu")

    def vocals(chunk):
        monkeypatch.setattr(subject, "_CHUNK_SECONDS", chunk)
        blocks = (mix[n : n + 7001] for n in range(0, len(mix), 7001))
        pairs = list(separator.vocals(blocks, survey(mix, 16000), lambda fraction: None))
        assert np.array_equal(np.concatenate([mixed for mixed, _ in pairs]), mix)
        return np.concatenate([voice for _, voice in pairs])

    whole, cut = vocals(60.0), vocals(5.0)
    assert whole.shape == cut.shape == mix.shape
    seams = np.concatenate([np.abs(np.diff(cut[n - 5 : n + 5], axis=0)).ravel() for n in (80000, 160000)])
    assert seams.max() <= np.abs(np.diff(whole, axis=0)).max() * 1.5


def test_a_recording_at_another_rate_keeps_its_length_and_its_time(repository):
    mix = noise(3, 44100)[:-7]
    separator = subject.DemucsSeparator(repository, "aaaa1111", device="cpu")
    ((_, voice),) = list(separator.vocals(iter([mix]), survey(mix, 44100), lambda fraction: None))
    assert voice.shape == mix.shape


class Payload:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"klass": HTDemucs, "args": (), "kwargs": {}, "state": Payload()}, tmp_path / "evil.th")
    (tmp_path / "bare.th").write_bytes(pickle.dumps(Payload()))
    for name in ("evil", "bare"):
        with pytest.raises(StageError, match="is not a Demucs model"):
            subject.load_model(tmp_path, name)
    assert not (tmp_path / "pwned").exists()


def test_a_class_that_is_not_demucs_own_is_refused(tmp_path):
    from safetensors.torch import save_file

    metadata = {"klass": "os.system", "args": '["touch pwned"]', "kwargs": "{}"}
    save_file({"x": torch.zeros(1)}, tmp_path / "evil.safetensors", metadata)
    with pytest.raises(StageError, match=r"wants the class os\.system"):
        subject.load_model(tmp_path, "evil")


def test_a_damaged_file_is_named(tmp_path, repository):
    original = next(repository.glob("aaaa1111-*.th"))
    data = bytearray(original.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / original.name).write_bytes(data)
    with pytest.raises(StageError, match="is damaged: its SHA-256"):
        subject.load_model(tmp_path, "aaaa1111")


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ("models: ['../../etc/passwd']", "not a plain name"),
        ("models: [nosuch]", "nosuch is not there"),
        ("- nothing", "does not describe a bag"),
        ("models: [", "does not describe a bag"),
    ],
)
def test_a_bag_that_cannot_be_loaded_says_why(tmp_path, listing, message):
    (tmp_path / "bag.yaml").write_text(listing, encoding="utf-8")
    with pytest.raises(StageError, match=message):
        subject.load_model(tmp_path, "bag")


def test_a_gpu_that_is_not_there_is_refused_not_replaced(repository, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StageError, match="sees no CUDA device"):
        subject.DemucsSeparator(repository, "two", device="cuda")
    assert subject.DemucsSeparator(repository, "two", device="auto").device == "cpu"


def test_a_full_gpu_is_worth_another_try(repository, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("demucs.apply.apply_model", full)
    separator = subject.DemucsSeparator(repository, "two", device="cpu")
    mix = noise(0.5, 16000)
    with pytest.raises(Transient, match="memory of cpu is full"):
        list(separator.vocals(iter([mix]), survey(mix, 16000), lambda fraction: None))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_chosen_by_itself_and_given_back(repository):
    before = torch.cuda.memory_allocated()
    separator = subject.DemucsSeparator(repository, "two")
    assert separator.device == "cuda"
    mix = noise(3, 16000)
    list(separator.vocals(iter([mix]), survey(mix, 16000), lambda fraction: None))
    separator.close()
    assert torch.cuda.memory_allocated() == before
