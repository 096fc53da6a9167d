"""Taggers: what is asked, how failures are met, and how an answer is checked and joined."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from millrace.engine.context import StageContext
from millrace.workloads.images import analysis, pipeline
from millrace.workloads.images.settings import ClipSettings, ImagesSettings, VisionSettings
from millrace.workloads.images.taggers import TaggerFailed, merged, open_tagger
from millrace.workloads.images.taggers.clip import ClipTagger
from millrace.workloads.images.taggers.spending import Spending
from millrace.workloads.images.taggers.vision import VisionTagger
from millrace.workloads.images.tags import Tags
from tests.unit.images import odd_files
from tests.unit.local_http import LocalServer

PATH = "/v1/chat/completions"
GOOD = {
    "title": "A tram at dawn",
    "description": "A red tram turns. It is early.",
    "keywords": ["tram", "dawn"],
}


@pytest.fixture
def picture():
    return analysis.analyse(
        odd_files.jpeg(odd_files.gradient((400, 300))), "IMG_1.jpg", max_pixels=10**8, read_text="never"
    )


@pytest.fixture
def endpoint():
    """The fake: a vision endpoint whose answers a test writes; no model can run here."""
    server = LocalServer()
    yield server
    server.close()


def reply(content, *, usage=(900, 60), finish="stop") -> bytes:
    text = content if isinstance(content, str) else json.dumps(content)
    return json.dumps(
        {
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
            "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]},
        }
    ).encode()


def answers(endpoint: LocalServer, *bodies: tuple[int, bytes]) -> None:
    """Answer one request after another; the last answer again and again."""
    left = list(bodies)

    def answer(handler):
        status, body = left.pop(0) if len(left) > 1 else left[0]
        handler.send_response(status)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    endpoint.does(PATH, answer)


def tagger(endpoint: LocalServer, tmp_path, **changed) -> tuple[VisionTagger, list[float]]:
    settings = VisionSettings(base_url=endpoint.url("/v1"), model="test-model", **changed)
    waits: list[float] = []
    return VisionTagger(settings, Spending(tmp_path / "spent.json", settings), sleep=waits.append), waits


def asked(endpoint: LocalServer, index: int = -1) -> dict:
    return json.loads(endpoint.requests[index][3])


def test_the_picture_the_prompt_and_the_form_of_the_answer_are_sent(endpoint, tmp_path, picture):
    answers(endpoint, (200, reply({"en": GOOD})))
    engine, _ = tagger(endpoint, tmp_path, api_key="k", prompt="Say it short.", side=128)
    answer = engine.tag(picture)
    assert answer.tags == Tags("A tram at dawn", "A red tram turns. It is early.", ("tram", "dawn"))
    assert answer.account == {"model": "test-model", "tokens": {"input": 900, "output": 60}}
    method, path, headers, _ = endpoint.requests[0]
    assert (method, path, headers["authorization"]) == ("POST", PATH, "Bearer k")
    request = asked(endpoint)
    assert request["model"] == "test-model"
    assert request["messages"][0]["content"].startswith("Say it short.")
    schema = request["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["en"]
    url = request["messages"][1]["content"][1]["image_url"]["url"]
    with Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,")))) as sent:
        assert max(sent.size) == 128


def test_several_languages_become_translations_and_their_keywords_are_joined(endpoint, tmp_path, picture):
    german = {"title": "Straßenbahn", "description": "Eine rote Bahn.", "keywords": ["Bahn", "tram"]}
    answers(endpoint, (200, reply({"en": GOOD, "de": german})))
    engine, _ = tagger(endpoint, tmp_path, languages=("en", "de"))
    tags = engine.tag(picture).tags
    assert tags.keywords == ("tram", "dawn", "Bahn")
    assert dict(tags.translations) == {"de": ("Straßenbahn", "Eine rote Bahn.")}


@pytest.mark.parametrize(
    "content",
    [
        "```json\n" + json.dumps({"en": GOOD}) + "\n```",
        "Here you are: " + json.dumps({"en": GOOD}) + " Enjoy!",
        json.dumps(GOOD),
        json.dumps({"en": {**GOOD, "keywords": "tram, dawn"}}),
    ],
)
def test_answers_of_models_that_chat_are_understood(endpoint, tmp_path, picture, content):
    answers(endpoint, (200, reply(content)))
    assert tagger(endpoint, tmp_path)[0].tag(picture).tags.keywords == ("tram", "dawn")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_after_growing_waits(endpoint, tmp_path, picture, status):
    answers(endpoint, (status, b"{}"), (status, b"{}"), (200, reply({"en": GOOD})))
    engine, waits = tagger(endpoint, tmp_path)
    assert engine.tag(picture).tags.title == "A tram at dawn"
    assert len(waits) == 2
    assert waits[1] > waits[0] > 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (reply("I cannot help with that."), "no JSON object"),
        (reply({"en": {"title": "x"}}), "description"),
        (reply({"en": {**GOOD, "title": ""}}), "title"),
        (reply({"en": {**GOOD, "keywords": [1]}}), "keywords"),
        (reply({"fr": GOOD}), "nothing in 'en'"),
        (reply({"en": GOOD}, finish="length"), "cut off"),
        (b"<html>", "not JSON"),
        (b'{"choices": []}', "no message"),
    ],
)
def test_an_unusable_answer_is_asked_for_again_and_then_given_up(endpoint, tmp_path, picture, body, reason):
    answers(endpoint, (200, body))
    engine, waits = tagger(endpoint, tmp_path)
    with pytest.raises(TaggerFailed, match=reason):
        engine.tag(picture)
    assert len(endpoint.requests) == 3
    assert len(waits) == 2


def test_a_refusal_is_not_repeated(endpoint, tmp_path, picture):
    answers(endpoint, (401, b'{"error": "bad key"}'))
    with pytest.raises(TaggerFailed, match=r"401.*bad key"):
        tagger(endpoint, tmp_path)[0].tag(picture)
    assert len(endpoint.requests) == 1


def test_a_server_without_structured_output_is_asked_in_a_simpler_form(endpoint, tmp_path, picture):
    answers(endpoint, (400, b"{}"), (422, b"{}"), (200, reply({"en": GOOD})))
    engine, _ = tagger(endpoint, tmp_path)
    engine.tag(picture)
    engine.tag(picture)
    forms = [json.loads(body).get("response_format", {}).get("type") for *_, body in endpoint.requests]
    assert forms == ["json_schema", "json_object", None, None]


def test_silence_is_waited_for_no_longer_than_the_timeout(endpoint, tmp_path, picture):
    endpoint.does(PATH, lambda handler: endpoint.stop.wait(20))
    engine, _ = tagger(endpoint, tmp_path, timeout=0.2, attempts=2)
    with pytest.raises(TaggerFailed, match=r"no answer came within 0\.2 s"):
        engine.tag(picture)


def test_a_server_that_is_not_there_is_said_not_to_be(endpoint, tmp_path, picture):
    engine, _ = tagger(endpoint, tmp_path, attempts=1)
    endpoint.close()
    with pytest.raises(TaggerFailed, match="cannot be reached"):
        engine.tag(picture)


def test_the_budget_of_a_day_stops_the_asking(endpoint, tmp_path, picture):
    answers(endpoint, (200, reply({"en": GOOD}, usage=(4000, 500))))
    prices = {"price_input": 100.0, "price_output": 200.0, "daily_budget": 1.0, "attempts": 1}
    engine, _ = tagger(endpoint, tmp_path, **prices)
    assert engine.tag(picture).account["cost"] == 0.5
    assert json.loads((tmp_path / "spent.json").read_text())["spent"] == pytest.approx(0.5)
    with pytest.raises(TaggerFailed, match="budget"):
        engine.tag(picture)  # the most it can cost no longer fits
    assert len(endpoint.requests) == 1


def test_the_budget_is_shared_and_new_every_day(tmp_path):
    settings = VisionSettings(price_input=1.0, daily_budget=1.0)
    one, two = (Spending(tmp_path / "s.json", settings) for _ in range(2))
    one.reserve(0.7)
    with pytest.raises(TaggerFailed):
        two.reserve(0.7)
    one.settle(0.7, 0.1)
    two.reserve(0.7)
    (tmp_path / "s.json").write_text('{"day": "2001-01-01", "spent": 99}')
    two.reserve(0.9)


def test_a_tagger_s_words_come_first_and_stay_within_the_limits():
    made = Tags("Picture", "Measured facts.", ("blue", "tram"))
    joined = merged(made, Tags("T" * 900, "Seen.", ("Tram", "x" * 300)))
    assert len(joined.title) == 500
    assert joined.description == "Seen. Measured facts."
    assert joined.keywords[0] == "Tram"
    assert len(joined.keywords[1]) == 100
    assert merged(made, Tags(keywords=("cat",))).title == "Picture"


def context(tmp_path, vision: VisionSettings) -> StageContext:
    settings = ImagesSettings(tagger="vision", vision=vision, read_text="never")
    source = tmp_path / "media" / "a.jpg"
    source.parent.mkdir()
    source.write_bytes(odd_files.jpeg())
    return StageContext(
        job="j", idx=0, name="a.jpg", stage="analyse", uid="u",
        input={"kind": "path", "path": str(source)},
        workdir=tmp_path / "work",
        settings=json.loads(settings.model_dump_json()),
        site={"media_roots": [str(source.parent)], "data_dir": str(tmp_path)},
    )  # fmt: skip


def test_a_failing_tagger_leaves_the_words_of_the_analysis_and_says_so(endpoint, tmp_path):
    answers(endpoint, (404, b"no such model"))
    vision = VisionSettings(base_url=endpoint.url("/v1"), model="m")
    result = pipeline.analyse(context(tmp_path, vision))
    assert result["tags"]["title"] == "Landscape picture in blue and grey"
    assert result["tagger"]["engine"] == "none"
    assert result["tagger"]["failed"] == "vision"
    assert "404" in result["notes"][0]


def test_a_working_tagger_is_named_with_what_it_took(endpoint, tmp_path):
    answers(endpoint, (200, reply({"en": GOOD})))
    vision = VisionSettings(base_url=endpoint.url("/v1"), model="m")
    result = pipeline.analyse(context(tmp_path, vision))
    assert result["tags"]["title"] == "A tram at dawn"
    assert result["tagger"]["engine"] == "vision"
    assert result["tagger"]["tokens"] == {"input": 900, "output": 60}
    assert result["notes"] == []


# -- CLIP -------------------------------------------------------------------------------------

WORDS = ["red", "green", "blue"]


def tiny_clip(folder, model_type="clip"):
    """A real ONNX export in miniature: the picture's mean colour against one-hot words."""
    onnx = pytest.importorskip("onnx")
    tokenizers = pytest.importorskip("tokenizers")
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    vocab = {
        "[UNK]": 0,
        "a": 1,
        "photo": 2,
        "of": 3,
        "red": 4,
        "green": 5,
        "blue": 6,
        "</s>": 7,
    }
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.zeros((8, 3), np.float32)
    table[4:7] = np.eye(3)

    def save(name, nodes, inputs, outputs, initial=()):
        graph = helper.make_graph(
            nodes, name, inputs, outputs, [numpy_helper.from_array(v, k) for k, v in initial]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, str(folder / f"{name}.onnx"))

    info = helper.make_tensor_value_info
    save(
        "vision_model",
        [helper.make_node("ReduceMean", ["pixel_values"], ["image_embeds"], axes=[2, 3], keepdims=0)],
        [info("pixel_values", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [info("image_embeds", TensorProto.FLOAT, ["n", 3])],
    )
    save(
        "text_model",
        [
            helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
            helper.make_node("ReduceMax", ["vectors"], ["text_embeds"], axes=[1], keepdims=0),
        ],
        [info("input_ids", TensorProto.INT64, ["n", "t"])],
        [info("text_embeds", TensorProto.FLOAT, ["n", 3])],
        [("table", table)],
    )
    (folder / "config.json").write_text(
        json.dumps(
            {"model_type": model_type, "text_config": {"max_position_embeddings": 8, "pad_token_id": 7}}
        )
    )
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}})
    )
    return folder


def clip_settings(tmp_path, **changed) -> ClipSettings:
    (tmp_path / "words.txt").write_text(
        "\ufeff# colours\nred\ngreen  # as grass\n\nblue\nred\n", encoding="utf-8"
    )
    return ClipSettings(directory=str(tmp_path / "model"), vocabulary=str(tmp_path / "words.txt"), **changed)


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
@pytest.mark.parametrize("folder", ["model", "model/onnx"])
def test_a_model_from_a_directory_chooses_among_the_user_s_words(tmp_path, model_type, folder):
    model = tiny_clip(tmp_path / folder, model_type)
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        if folder != "model":
            (model / name).rename(tmp_path / "model" / name)
    engine = ClipTagger.open(clip_settings(tmp_path, threshold=0.5))
    for word, colour in zip(WORDS, ("#ff2020", "#20ff20", "#2020ff"), strict=True):
        data = odd_files.png(Image.new("RGB", (40, 30), colour))
        answer = engine.tag(analysis.analyse(data, "x.png", max_pixels=10**6, read_text="never"))
        assert answer.tags == Tags(keywords=(word,))
        assert answer.account["scores"][word] > 0.5


def test_what_is_missing_in_a_model_directory_is_named(tmp_path):
    pytest.importorskip("tokenizers", reason="the clip extra is not installed")
    with pytest.raises(TaggerFailed, match=r"words\.txt cannot be read"):
        ClipTagger.open(ClipSettings(directory=str(tmp_path), vocabulary=str(tmp_path / "words.txt")))
    (tmp_path / "model").mkdir()
    with pytest.raises(TaggerFailed, match=r"holds no config\.json"):
        open_tagger(ImagesSettings(tagger="clip", clip=clip_settings(tmp_path)), tmp_path)
    tiny_clip(tmp_path / "model")
    (tmp_path / "model" / "vision_model.onnx").write_bytes(b"broken")
    with pytest.raises(TaggerFailed, match="cannot be loaded"):
        ClipTagger.open(clip_settings(tmp_path))


@pytest.mark.parametrize(
    "section",
    [
        {"tagger": "vision"},
        {"tagger": "clip"},
        {"vision": {"daily_budget": 1.0}},
        {"vision": {"languages": []}},
        {"vision": {"languages": ["not a tag"]}},
        {"unknown": 1},
    ],
)
def test_settings_that_cannot_work_are_refused(section):
    with pytest.raises(ValueError, match=r"."):
        ImagesSettings.model_validate(section)
