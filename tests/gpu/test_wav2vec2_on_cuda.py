"""The wav2vec2 method of sync on a real GPU: the same answers as on the CPU, and its memory given back."""

import gc

import numpy as np
import pytest

from millrace.engine.context import WarmModels
from millrace.workloads.sync import neural
from tests.unit.sync.sounds import bed, later, recorded

torch = pytest.importorskip("torch", reason="the wav2vec extra is not installed")
transformers = pytest.importorskip("transformers", reason="the wav2vec extra is not installed")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An encoder of the base size, its weights random."""
    torch.manual_seed(0)
    where = tmp_path_factory.mktemp("models") / "wav2vec2"
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).save_pretrained(where)
    return where


def test_a_gpu_gives_the_embeddings_that_the_cpu_gives(folder, monkeypatch):
    sound = bed(5, 1)
    on_gpu = neural.Wav2Vec2(folder).embed(sound)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = neural.Wav2Vec2(folder).embed(sound)
    assert on_gpu.shape == on_cpu.shape
    assert np.abs(on_gpu - on_cpu).max() < 0.02 * np.abs(on_cpu).max()


def test_features_on_a_gpu_find_the_offset(folder, tmp_path):
    sound = bed(60, 6)
    model = neural.Wav2Vec2(folder)
    master, dub = recorded(tmp_path, "m", sound), recorded(tmp_path, "d", later(sound, 7.3))
    mine, rate = model.features(master)
    theirs, _ = model.features(dub)
    peak = neural.Searcher(mine, rate).find(theirs, least=10.0)
    assert peak is not None
    assert peak.delay == pytest.approx(7.3, abs=0.05)


def test_an_idle_model_gives_the_memory_of_the_gpu_back(folder):
    gc.collect()
    before = torch.cuda.memory_allocated()
    clock = [0.0]
    models = WarmModels(idle=10.0, clock=lambda: clock[0])
    models.get("wav2vec2", lambda: neural.Wav2Vec2(folder), neural.Wav2Vec2.close).embed(bed(1, 1))
    assert torch.cuda.memory_allocated() > before
    clock[0] = 11.0
    assert models.drop_idle() == 1
    gc.collect()
    assert torch.cuda.memory_allocated() <= before
