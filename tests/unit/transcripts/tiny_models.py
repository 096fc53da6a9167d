"""Speech models of the real architecture with random weights, small enough to be made by a test.

What they say means nothing: only that they load and run through the real path is shown with them.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

LANGUAGES = ("en", "zh", "de")


def whisper(folder: Path, width: int = 16, layers: int = 1) -> Path:
    """A Whisper in CTranslate2's format with its tokenizer."""
    from ctranslate2.specs.whisper_spec import WhisperSpec

    tokens, specials = _whisper_tokens(folder)
    vocabulary = tokens + specials
    spec = WhisperSpec(layers, 2, layers, 2)
    random = np.random.default_rng(3)

    def weights(*shape):
        return random.normal(0, 0.2, shape).astype(np.float32)

    def linear(layer, out, inner):
        layer.weight, layer.bias = weights(out, inner), weights(out)

    def norm(layer):
        layer.gamma, layer.beta = np.ones(width, np.float32), np.zeros(width, np.float32)

    def block(layer, *, cross):
        attentions = [(layer.self_attention, (3, 1))] + ([(layer.attention, (1, 2, 1))] if cross else [])
        for attention, sizes in attentions:
            norm(attention.layer_norm)
            for part, size in zip(attention.linear, sizes, strict=True):
                linear(part, size * width, width)
        norm(layer.ffn.layer_norm)
        linear(layer.ffn.linear_0, 4 * width, width)
        linear(layer.ffn.linear_1, width, 4 * width)

    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = weights(width, 80, 3), weights(width)
    encoder.conv2.weight, encoder.conv2.bias = weights(width, width, 3), weights(width)
    encoder.position_encodings.encodings = weights(1500, width)
    decoder.position_encodings.encodings = weights(448, width)
    decoder.embeddings.weight = weights(len(vocabulary), width)
    decoder.projection.weight = weights(len(vocabulary), width)
    for part in (encoder, decoder):
        norm(part.layer_norm)
        for layer in part.layer:
            block(layer, cross=part is decoder)
    spec.register_vocabulary(vocabulary)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.lang_ids = [vocabulary.index(f"<|{code}|>") for code in LANGUAGES]
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.optimize(quantization=None)
    spec.save(str(folder))
    return folder


def _whisper_tokens(folder: Path) -> tuple[list[str], list[str]]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in LANGUAGES),
        *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"),
        "<|notimestamps|>",
        *(f"<|{n * 0.02:.2f}|>" for n in range(1501)),
    ]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80, "sampling_rate": 16000}))
    return alphabet, specials


def sense_voice(folder: Path, *, leave_out: tuple[str, ...] = ()) -> Path:
    """A SenseVoice as ONNX for sherpa-onnx: one linear layer over the features of each frame."""
    from onnx import TensorProto, helper, numpy_helper, save

    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["<unk>", "<s>", "▁hello", "▁world", "lo", "你", "好", "<|en|>", "<|zh|>"]
    size, width = len(tokens), 560
    kernel = np.random.default_rng(5).normal(0, 0.3, (width, size)).astype(np.float32)
    kernel -= kernel.mean(axis=0)
    kernel[:, [0, 1, 7, 8]] = 0  # random frames then read as words, never as blanks or languages
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "T", width]),
        helper.make_tensor_value_info("x_length", TensorProto.INT32, ["N"]),
        helper.make_tensor_value_info("language", TensorProto.INT32, ["N"]),
        helper.make_tensor_value_info("text_norm", TensorProto.INT32, ["N"]),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", "T4", size])
    front = numpy_helper.from_array(np.zeros((1, 4, width), np.float32), "front")
    nodes = [
        helper.make_node("Concat", ["front", "x"], ["longer"], axis=1),
        helper.make_node("MatMul", ["longer", "kernel"], ["logits"]),
    ]
    weights = [numpy_helper.from_array(kernel, "kernel"), front]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    facts = {
        "vocab_size": str(size),
        "lfr_window_size": "7",
        "lfr_window_shift": "6",
        "normalize_samples": "0",
        "with_itn": "14",
        "without_itn": "15",
        **{f"lang_{code}": str(n) for n, code in enumerate(("auto", "zh", "en", "yue", "ja", "ko"))},
        "neg_mean": ",".join(["-8.0"] * width),
        "inv_stddev": ",".join(["0.2"] * width),
    }
    helper.set_model_props(model, {key: value for key, value in facts.items() if key not in leave_out})
    save(model, str(folder / "model.onnx"))
    (folder / "tokens.txt").write_text("".join(f"{token} {n}\n" for n, token in enumerate(tokens)))
    return folder


_FUNASR = """
import sys, torch, yaml, funasr
from funasr.register import tables
with open(sys.argv[1] + "/config.yaml") as file:
    conf = yaml.safe_load(file)
parts = ("encoder", "encoder_conf", "ctc_conf", "input_size", "vocab_size")
make = tables.model_classes[conf["model"]]
model = make(**{key: conf[key] for key in parts}, **conf["model_conf"])
torch.save(model.state_dict(), sys.argv[1] + "/model.pt")
"""


def funasr(folder: Path) -> Path:
    """A SenseVoice for FunASR, its tokens single letters; made in a process of its own."""
    folder.mkdir(parents=True)
    tokens = ["<blank>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz", "<unk>"]
    (folder / "tokens.json").write_text(json.dumps(tokens))
    config = {
        "model": "SenseVoiceSmall",
        "model_conf": {"length_normalized_loss": True, "sos": 1, "eos": 2, "ignore_id": -1},
        "encoder": "SenseVoiceEncoderSmall",
        "encoder_conf": {
            "output_size": 16,
            "attention_heads": 2,
            "linear_units": 32,
            "num_blocks": 1,
            "tp_blocks": 1,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "kernel_size": 11,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"token_list": str(folder / "tokens.json"), "unk_symbol": "<unk>"},
        "frontend": "WavFrontend",
        "frontend_conf": {"fs": 16000, "window": "hamming", "n_mels": 80, "lfr_m": 7, "lfr_n": 6},
        "ctc_conf": {"ignore_nan_grad": True},
        "input_size": 560,
        "vocab_size": len(tokens),
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    subprocess.run([sys.executable, "-c", _FUNASR, str(folder)], check=True, capture_output=True)
    return folder
