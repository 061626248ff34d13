"""Tasks as ONNX graphs: onnxruntime computes the probabilities of the classifier for any number and length of texts."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from marks import slow, slow_except
from running import refused
from tiny import MODELS, NO_STEPS, WITH_HEAD, tiny_backbone

from metawarp import Init, Warp, WarpClassifier, WarpConfig
from metawarp.cli import main
from metawarp.read_outs.concatenation import Concatenation
from metawarp.tasks import onnx_export

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")

REPOSITORY = Path(__file__).parent.parent
FEW = ["play some music", "rain and cold weather", "set the alarm", "music please"]
LABELS = ["music", "weather", "alarm", "music"]
MANY = ["play", "what is the weather in the market today, and where do you play the news when it is cold", "rain now"]


def fitted(backbone, **config):
    settings: dict[str, Any] = {"template": "{prompt:2} so: {text} {prompt:1} {mask}", **config}
    init = Init.start(Warp(backbone, WarpConfig(**{"read_out": "text+text-1+mean+mask", **settings})), NO_STEPS, seed=1)
    return WarpClassifier(init, backbone).fit(FEW, LABELS)


def by_graph(file, tokenizer, texts, output="probabilities"):
    """An output of the graph by onnxruntime, and its metadata."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    options = {"padding": True, "padding_side": "right", "truncation": True, "return_tensors": "np"}
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    texts = [facts["text_prefix"] + text if text else "" for text in texts]  # without content: without tokens
    encoded = tokenizer(texts, add_special_tokens=False, max_length=int(facts["max_tokens"]), **options)
    inputs = {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    return session.run([output], inputs)[0], facts


def assert_same(model, file):
    """Export a model, and check what is in the file and what onnxruntime computes with it."""
    model.save_onnx(file)
    backbone = model.task_.warp.backbone
    for texts in (FEW, MANY, MANY[:1], MANY * 5, [*FEW, ""]):
        found, facts = by_graph(file, backbone.tokenizer, texts)
        assert found == pytest.approx(model.predict_proba(texts), abs=1e-4)
        assert np.allclose(found.sum(1), 1, atol=1e-5)
        assert json.loads(facts["classes"]) == model.classes_.tolist()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for shape in ((0, 3), (0, 0), (2, 0)):
        nothing = np.ones(shape, dtype=np.int64)
        (found,) = session.run(["probabilities"], {"input_ids": nothing, "attention_mask": nothing})
        assert found == pytest.approx(model.predict_proba([""] * shape[0]))
    shapes = [list(weight.dims) for weight in onnx.load(file).graph.initializer]
    assert shapes.count(list(backbone.word_embeddings.shape)) == 1, "word embeddings are in the file once"
    assert b".py" not in file.read_bytes(), "the file says nothing of the machine that wrote it"
    assert model.predict_proba(FEW).std(0).min() > 1e-2, "the comparison means something"


@pytest.mark.parametrize("model_type", [slow(model_type) for model_type in MODELS])
def test_every_type_of_backbone_is_exported(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type, head=model_type in WITH_HEAD, dtype="float32", layers=2)
    assert_same(fitted(backbone), tmp_path / "task.onnx")


MODEL_KINDS: list[dict[str, Any]] = [
    {"read_out": "text+text-1+mean+debiased_mask"},
    {"read_out": "text"},
    {"read_out": "pooled+pooled-1/3+pooled-1"},
    {"adapter": "deep_prompt"},
    {"adapter": "prefix"},
    {"adapter": "prefix", "read_out": "debiased_mask+text"},
    {"adapter": "lora", "adapter_size": 2, "template": "{text} {mask}"},
    {"adapter": "lora", "adapter_size": 2, "adapter_layer": 1},
    {"adapter": "prompt_pool", "adapter_size": 2},
    {"adapter": "prompt_pool", "adapter_size": 2, "adapter_layer": 1},
    {"adapter": "biases"},
    {"adapter": "weights"},
    {"adapter_layer": 1},
    {"adapter": "deep_prompt", "adapter_layer": 1, "template": "{prompt:2} {text} {mask}"},
    {"template": "{mask} {prompt:2} {text}"},
    {"verbalizer": "mix"},
]


@pytest.mark.parametrize("config", slow_except(MODEL_KINDS[0], MODEL_KINDS), ids=str)
def test_every_kind_of_model_is_exported(tmp_path, config):
    backbone = tiny_backbone(tmp_path, "roberta", head=True, dtype="float32", layers=2)
    assert_same(fitted(backbone, **config), tmp_path / "task.onnx")


def test_a_graph_also_says_how_likely_a_text_is_known(tmp_path):
    backbone = tiny_backbone(tmp_path, "roberta", head=True, dtype="float32", layers=2)
    model = WarpClassifier("general", backbone).fit([*FEW, "where is my order"], [*LABELS, "unknown"])
    assert_same(model, tmp_path / "task.onnx")
    found, _ = by_graph(tmp_path / "task.onnx", backbone.tokenizer, [*MANY, ""], "known")
    assert found == pytest.approx(model.known_proba([*MANY, ""]), abs=1e-4)


@pytest.mark.slow
def test_the_command_line_exports_a_task_that_the_code_of_the_documentation_runs(minilm, tmp_path, capsys):
    model = WarpClassifier(backbone=minilm).fit(FEW, LABELS)
    model.save(tmp_path / "task")
    main(["export", f"--task={tmp_path}/task", f"--output={tmp_path}/task.onnx"])
    assert capsys.readouterr().out == f"{tmp_path}/task.onnx: probabilities of alarm, music, weather\n"
    found, facts = by_graph(tmp_path / "task.onnx", minilm.tokenizer, MANY)
    assert found == pytest.approx(model.predict_proba(MANY), abs=1e-4)
    assert facts["backbone"] == "minilm"
    weights = sum(weight.nbytes for weight in minilm.model.state_dict().values())
    assert (tmp_path / "task.onnx").stat().st_size < 1.02 * weights, "weights are in it twice"
    docs = "".join(page.read_text(encoding="utf-8") for page in (REPOSITORY / "docs" / "pages").rglob("*.md"))
    (code,) = re.findall(r"```python\n((?:(?!```).)*import onnxruntime.+?)```", docs, re.DOTALL)
    code = code.replace("orders.onnx", f"{tmp_path}/task.onnx")
    minilm.tokenizer.save_pretrained(tmp_path / "tokenizer")
    code = code.replace("orders-tokenizer", f"{tmp_path}/tokenizer")
    known: dict[str, Any] = {}
    exec(code, known)
    assert known["probabilities"] == pytest.approx(model.predict_proba(["has the courier been yet?"]), abs=1e-4)
    with pytest.raises(SystemExit):
        main(["export", f"--task={tmp_path}/task", f"--output={tmp_path}/task.onnx"])
    assert re.search(r"exists.*\(flags: --output, --overwrite\)$", capsys.readouterr().err.strip())


def test_a_task_that_cannot_be_exported_is_refused(tmp_path, monkeypatch):
    backbone = tiny_backbone(tmp_path, dtype="float32")
    with refused("one window", "stride=4", "stride=0"):
        fitted(backbone, stride=4, read_out="text").save_onnx(tmp_path / "task.onnx")
    model = fitted(backbone, read_out="mask")
    with monkeypatch.context() as elsewhere, refused("CPU", "cuda:0"):
        elsewhere.setattr(type(backbone), "device", torch.device("cuda:0"))
        model.save_onnx(tmp_path / "task.onnx")
    with refused("bfloat16", "float32"):
        fitted(tiny_backbone(tmp_path, dtype="bfloat16"), read_out="mask").save_onnx(tmp_path / "task.onnx")
    with monkeypatch.context() as smaller, refused(backbone.name, "less than 0 GiB"):
        smaller.setattr(onnx_export, "MAX_GRAPH_BYTES", 1000)
        model.save_onnx(tmp_path / "task.onnx")
    combined = Concatenation.concatenated

    def by_value(read_out, found, weights):  # torch's exporter cannot follow what depends on a value
        return combined(read_out, found, weights) if float(found["mask"].sum()) > 0 else found["mask"]

    monkeypatch.setattr(Concatenation, "concatenated", by_value)
    with refused("adapter='prompt'", "cannot be exported"):
        model.save_onnx(tmp_path / "task.onnx")
    assert not (tmp_path / "task.onnx").exists()


def test_without_onnx_the_extra_is_named(tmp_path, monkeypatch):
    model = fitted(tiny_backbone(tmp_path, dtype="float32"))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with refused('pip install "metawarp[onnx]"', error=ImportError):
        model.save_onnx(tmp_path / "task.onnx")


def test_a_graph_in_int8_is_smaller_and_predicts_nearly_the_same(tmp_path, minilm):
    model = WarpClassifier(backbone=minilm).fit(FEW, LABELS)
    model.save_onnx(tmp_path / "task.onnx")
    model.save_onnx(tmp_path / "int8.onnx", quantize="int8")
    assert (tmp_path / "int8.onnx").stat().st_size < 30e6 < (tmp_path / "task.onnx").stat().st_size
    found, facts = by_graph(tmp_path / "int8.onnx", minilm.tokenizer, MANY)
    assert json.loads(facts["classes"]) == model.classes_.tolist()
    assert found == pytest.approx(model.predict_proba(MANY), abs=0.1)
    assert np.abs(found - model.predict_proba(MANY)).max() > 1e-6, "the weights were quantized"
    with refused("quantize='fp16'", "'int8'"):
        model.save_onnx(tmp_path / "fp16.onnx", quantize="fp16")  # pyright: ignore[reportArgumentType]
