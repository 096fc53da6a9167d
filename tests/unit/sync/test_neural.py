"""AI models on local weights: loaded from where the operator put them, never fetched, never replaced."""

from importlib.util import find_spec

import numpy as np
import pytest

from millrace.errors import BadInput
from millrace.workloads.sync import methods
from millrace.workloads.sync.analysis import Pair, analyse
from tests.unit.sync.sounds import bed, later, recorded, stretched


class Models:
    def model(self, key, load, close=None):
        return load()


@pytest.fixture(scope="module")
def sound():
    return bed(60, 6)


def places(**given):
    return methods.ModelPlaces.of(given, "/nowhere")


def compared(first, second, model, where):
    pair = Pair(first, second)
    return analyse(pair, methods.build(("ai",), model, pair, where, Models()), 0.02)


def toy_yamnet(path):
    """A network with YAMNet's inputs, outputs and hop whose embedding is random filters: not its weights."""
    onnx = pytest.importorskip("onnx", reason="the toy network is written with onnx")
    from onnx import TensorProto, helper, numpy_helper

    filters = np.random.default_rng(0).standard_normal((64, 1, 400)).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["waveform", "shape"], ["x"]),
        helper.make_node("Conv", ["x", "filters"], ["c"], strides=[160]),
        helper.make_node("Abs", ["c"], ["a"]),
        helper.make_node("AveragePool", ["a"], ["p"], kernel_shape=[96], strides=[48]),
        helper.make_node("Squeeze", ["p", "zero"], ["s"]),
        helper.make_node("Transpose", ["s"], ["t"], perm=[1, 0]),
        helper.make_node("Sqrt", ["t"], ["l"]),
        helper.make_node("Tile", ["l", "times"], ["embeddings"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 1, -1], np.int64), "shape"),
        numpy_helper.from_array(filters, "filters"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([1, 16], np.int64), "times"),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["frames", 1024])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


@pytest.mark.skipif(not find_spec("onnxruntime"), reason="onnxruntime is not installed")
def test_yamnet_is_run_from_its_file_and_refined_by_phase(sound, tmp_path):
    where = places(yamnet=toy_yamnet(tmp_path / "yamnet.onnx"))
    first, second = recorded(tmp_path, "m", sound), recorded(tmp_path, "d", later(sound, 7.3))
    found = compared(first, second, "yamnet", where)
    assert found.method_used == "AI (YAMNet)"
    assert found.chosen.offset == pytest.approx(-7.3, abs=1e-3)
    assert compared(first, recorded(tmp_path, "o", bed(60, 9)), "yamnet", where).status == "no_match"


@pytest.mark.skipif(not find_spec("onnxruntime"), reason="onnxruntime is not installed")
def test_a_file_that_is_no_network_is_refused(sound, tmp_path):
    broken = tmp_path / "yamnet.onnx"
    broken.write_bytes(b"nothing of the kind")
    first = recorded(tmp_path, "m", sound[:48000])
    with pytest.raises(BadInput, match="cannot be loaded as ONNX") as error:
        compared(first, first, "yamnet", places(yamnet=broken))
    assert error.value.code == "model_unavailable"


@pytest.mark.skipif(
    not (find_spec("transformers") and find_spec("torch")), reason="transformers and torch are not installed"
)
def test_wav2vec2_is_run_from_a_local_directory(sound, tmp_path, monkeypatch):
    import transformers

    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[16] * 7
    )
    folder = tmp_path / "wav2vec2"
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    where = places(wav2vec2=folder)
    first, second = recorded(tmp_path, "m", sound), recorded(tmp_path, "d", later(sound, 7.3))
    found = compared(first, second, "wav2vec2", where)
    assert found.method_used == "AI (Wav2Vec2)"
    assert found.chosen.offset == pytest.approx(-7.3, abs=1e-3)
    monkeypatch.setattr("millrace.workloads.sync.neural.WHOLE_SECONDS", 10.0)
    assert compared(first, second, "wav2vec2", where).chosen.offset == pytest.approx(-7.3, abs=1e-3)
    other = recorded(tmp_path, "o", stretched(bed(60, 9), 1.0))
    assert compared(first, other, "wav2vec2", where).status == "no_match"


@pytest.mark.skipif(
    not (find_spec("transformers") and find_spec("torch")), reason="transformers and torch are not installed"
)
def test_a_warm_model_gives_its_memory_back_when_it_is_dropped(sound, tmp_path):
    import gc
    import weakref

    import transformers

    from millrace.engine.context import WarmModels

    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[16] * 7
    )
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path / "wav2vec2")
    warm = WarmModels()

    class Context:
        def model(self, key, load, close=None):
            return warm.get(key, load, close)

    first = recorded(tmp_path, "m", sound[:48000])
    pair = Pair(first, first)
    methods.build(("ai",), "wav2vec2", pair, places(wav2vec2=tmp_path / "wav2vec2"), Context())
    (key,) = warm._warm
    network = weakref.ref(warm._warm[key].value._model)
    assert network() is not None
    warm.clear()
    gc.collect()
    assert network() is None


@pytest.mark.parametrize("model", ["wav2vec2", "yamnet"])
def test_a_model_that_is_not_there_is_never_replaced(sound, tmp_path, model):
    first = recorded(tmp_path, "m", sound[:48000])
    with pytest.raises(BadInput, match=f"the AI model {model} is not available") as error:
        compared(first, first, model, places())
    assert error.value.code == "model_unavailable"
