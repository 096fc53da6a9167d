"""The zero-shot model: its real loading path with a tiny model, and that it can only ask for a review."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.engine.context import StageContext
from millrace.errors import StageError
from millrace.workloads.documents import zeroshot
from millrace.workloads.documents.pipeline import judge
from millrace.workloads.documents.policy import load
from tests.unit.documents.samples import document

onnx = pytest.importorskip("onnx")
tokenizers = pytest.importorskip("tokenizers")
np = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag-of-words model in the shape of MiniLM: each known word is its own direction."""
    home = tmp_path_factory.mktemp("zeroshot")
    texts = [text for group in zeroshot.DESCRIPTIONS.values() for text in group] + list(zeroshot.PLAIN)
    words = sorted({word for text in texts for word in text.lower().replace(",", " ").split()})
    vocabulary = {"[UNK]": 0, "[PAD]": 1, **{word: n for n, word in enumerate(words, 2)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(home / "tokenizer.json"))
    table = np.eye(len(vocabulary), dtype=np.float32)
    table[0] = 0.01
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "bag",
        [
            helper.make_tensor_value_info(name, kinds.INT64, ["b", "t"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("last_hidden_state", kinds.FLOAT, ["b", "t", len(vocabulary)])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, str(home / "model.onnx"))
    return home


def context(model: Path, tmp_path: Path, margin: float = 0.1) -> StageContext:
    return StageContext(
        job="j",
        idx=0,
        name="a",
        stage="classify",
        input={},
        workdir=tmp_path,
        settings={"zeroshot": str(model), "zeroshot_margin": margin},
    )


def test_it_may_ask_for_a_review_and_nothing_else(model: Path, tmp_path: Path) -> None:
    text = "medical record of a patient with diagnosis and treatment"
    decision, _, hint = judge(context(model, tmp_path), document("a plain page", text), [], load())
    assert hint is not None
    assert (hint["category"], hint["page"]) == ("Highly Sensitive", 2)
    assert decision.category == "Public"
    assert decision.requires_review
    assert "zero-shot" in decision.review_reasons[-1]


def test_plain_text_raises_nothing(model: Path, tmp_path: Path) -> None:
    text = "general information news and instructions for everyday use"
    decision, _, hint = judge(context(model, tmp_path), document(text), [], load())
    assert hint is None
    assert not decision.requires_review


def test_a_directory_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"model\.onnx"):
        judge(context(tmp_path / "none", tmp_path), document("a"), [], load())
