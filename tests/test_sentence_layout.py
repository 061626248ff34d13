"""Sentence encoders in the layout of sentence-transformers: embeddings are those of `SentenceTransformer.encode`."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import refused
from safetensors.torch import load_file, save_file
from sentence_encoders import PROMPTS, assert_same_embeddings, change, ours, saved
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from tiny import tiny_folder
from torch import nn

from metawarp import Backbone
from metawarp.backbones.pooling import POOLING_MODES

MPNET = os.environ.get("METAWARP_MPNET", "")


@pytest.mark.parametrize("mode", [*POOLING_MODES, ("cls", "mean"), ("max", "weightedmean", "lasttoken")], ids=str)
def test_every_pooling_mode_gives_the_embeddings_of_sentence_transformers(tmp_path, mode):
    model, folder = saved(tmp_path, Pooling(32, mode))
    backbone = Backbone.load(folder)
    assert backbone.layout.pooling.modes == ((mode,) if isinstance(mode, str) else mode)
    assert_same_embeddings(model, backbone)


@pytest.mark.parametrize("model_type", ["roberta", "mpnet", "distilbert", "modernbert", "xlm-roberta", "albert"])
def test_other_types_are_read_as_they_were_saved(tmp_path, model_type):
    model, folder = saved(tmp_path, Pooling(32, ("cls", "mean")), Normalize(), model_type=model_type)
    assert_same_embeddings(model, Backbone.load(folder))


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Identity(), nn.GELU()], ids=lambda module: type(module).__name__)
def test_dense_and_normalize_modules_follow_the_pooling(tmp_path, activation):
    dense = Dense(32, 12, activation_function=activation)
    model, folder = saved(tmp_path, Pooling(32, "cls"), dense, Dense(12, 12, use_residual=True), Normalize())
    backbone = Backbone.load(folder)
    assert backbone.sentence_size == 12
    assert_same_embeddings(model, backbone)


def test_dense_modules_with_another_activation_are_another_backbone(tmp_path):
    _, folder = saved(tmp_path, Pooling(32), Dense(32, 12, activation_function=nn.Tanh()))
    tanh = Backbone.load(folder)
    change(DENSE, activation_function="torch.nn.modules.linear.Identity")(folder)
    assert Backbone.load(folder).fingerprint != tanh.fingerprint


def test_configs_of_earlier_releases_name_each_mode_in_an_entry_of_its_own(tmp_path):
    model, folder = saved(tmp_path, Pooling(32, "lasttoken"))
    entries = {"word_embedding_dimension": 32, "pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(entries), encoding="utf-8")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    for module in modules:
        module["type"] = "sentence_transformers.models." + module["type"].rpartition(".")[2]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    assert_same_embeddings(model, Backbone.load(folder))


def test_texts_are_lower_cased_where_the_layout_says_so(tmp_path):
    _, folder = saved(tmp_path, Pooling(32), model_type="roberta")
    cased = Backbone.load(folder)
    change("sentence_bert_config.json", do_lower_case=True)(folder)
    backbone = Backbone.load(folder)
    assert_same_embeddings(SentenceTransformer(str(folder), device="cpu"), backbone)
    assert np.abs(ours(cased, ["Set The ALARM"]) - ours(backbone, ["Set The ALARM"])).max() > 1e-3
    assert backbone.fingerprint != cased.fingerprint


def test_without_a_layout_the_mean_is_the_sentence_embedding(tmp_path):
    model, folder = saved(tmp_path, Pooling(32), max_length=None)
    plain = Backbone.load(tmp_path / "plain")
    assert plain.fingerprint == Backbone.load(folder).fingerprint
    assert_same_embeddings(model, plain)


@pytest.mark.parametrize("has_layout", [True, False])
def test_a_repository_of_the_hub_is_read_like_a_folder(tmp_path, monkeypatch, has_layout):
    model, folder = saved(tmp_path, Pooling(32, "cls"), Dense(32, 12), prompts=PROMPTS)
    cached = tmp_path / "cache" / "models--me--encoder"
    shutil.copytree(folder if has_layout else tmp_path / "plain", cached / "snapshots" / "1")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    backbone = Backbone.load("me/encoder", prompt="query" if has_layout else None)
    if has_layout:
        assert_same_embeddings(model, backbone, prompt_name="query")
    else:
        assert backbone.fingerprint == Backbone.load(tmp_path / "plain").fingerprint
        assert backbone.sentence_size == 32


def test_minilm_has_the_embeddings_of_sentence_transformers(minilm):
    model = SentenceTransformer(minilm.source, device="cpu")
    assert_same_embeddings(model, minilm)


@pytest.mark.slow
@pytest.mark.skipif(not MPNET, reason="METAWARP_MPNET does not name a folder with all-mpnet-base-v2")
def test_mpnet_has_the_embeddings_of_sentence_transformers():
    assert_same_embeddings(SentenceTransformer(MPNET, device="cpu"), Backbone.load(MPNET))


# What cannot be read --------------------------------------------------------------------------------------------


def change_modules(number: int, **changes: str) -> Callable[[Path], None]:
    """A function that changes the entry of one module in modules.json."""

    def apply(folder: Path) -> None:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        modules[number] |= changes
        (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")

    return apply


def drop_pooling(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    (folder / "modules.json").write_text(json.dumps([modules[0], *modules[2:]]), encoding="utf-8")


REMOTE = ["code", "trust_remote_code", "never"]
POOLING, DENSE = "1_Pooling/config.json", "2_Dense/config.json"
FAULTS: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "modules.json is no JSON": (lambda folder: (folder / "modules.json").write_text("["), ["modules.json is damaged"]),
    "modules.json is a mapping": (lambda folder: (folder / "modules.json").write_text("{}"), ["modules.json", "dict"]),
    "no type": (lambda folder: (folder / "modules.json").write_text('[{"path": ""}]'), ["modules.json", "type"]),
    "no pooling": (drop_pooling, ["Transformer, Dense", "a Transformer, then a Pooling"]),
    "own module": (change_modules(2, type="my_code.Head"), ["my_code.Head", "Transformer, Pooling, Dense, Normalize"]),
    "another module": (change_modules(2, type="sentence_transformers.models.LSTM"), ["LSTM", "Dense, Normalize"]),
    "path outside": (change_modules(1, path="../1_Pooling"), ["../1_Pooling", "outside"]),
    "no pooling folder": (lambda folder: shutil.rmtree(folder / "1_Pooling"), ["1_Pooling/config.json is missing"]),
    "unknown pooling": (change(POOLING, pooling_mode="median"), ["median", "cls, max, mean"]),
    "unknown old pooling": (change(POOLING, pooling_mode_median=True), ["pooling_mode_median", "cls, max, mean"]),
    "contradiction": (change(POOLING, embedding_dimension=64), ["width 64", "model has 32"]),
    "pooling is a list": (lambda folder: (folder / POOLING).write_text("[]"), ["config.json", "list"]),
    "dense of another width": (change(DENSE, in_features=64), ["2_Dense", "do not fit"]),
    "activation": (change(DENSE, activation_function="os.system"), ["2_Dense", "os.system", "torch.nn"]),
    "module as activation": (change(DENSE, activation_function="torch.nn.Linear"), ["torch.nn.Linear"]),
    "token embeddings": (change(DENSE, module_input_name="token_embeddings"), ["2_Dense", "token_embeddings"]),
    "no dense weights": (lambda folder: (folder / "2_Dense/model.safetensors").unlink(), ["2_Dense/model.safetensors"]),
    "no length": (change("sentence_bert_config.json", max_seq_length=-1), ["max_seq_length=-1"]),
    "prompts": (change("config_sentence_transformers.json", prompts=["query: "]), ["prompts"]),
    "default prompt": (change("config_sentence_transformers.json", default_prompt_name="no"), ["no prompt 'no'"]),
    "a list": (change("config_sentence_transformers.json", default_prompt_name=["a"]), ["default_prompt_name=['a']"]),
    "remote code": (change("config.json", auto_map={"AutoModel": "code.Model"}), REMOTE),
    "remote type": (change("config.json", model_type="own", auto_map={"AutoConfig": "code.Config"}), REMOTE),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_layout_that_cannot_be_read_is_refused_in_one_sentence(tmp_path, fault):
    spoil, facts = FAULTS[fault]
    _, folder = saved(tmp_path, Pooling(32), Dense(32, 12), Normalize())
    spoil(folder)
    with refused(repr(str(folder)), *facts):
        Backbone.load(folder)


def test_code_of_a_repository_is_never_run_whatever_standard_input_says(tmp_path, monkeypatch):
    _, folder = saved(tmp_path, Pooling(32))
    change("config.json", model_type="own", auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})(folder)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')", encoding="utf-8")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with refused(repr(str(folder)), "trust_remote_code", "never"):
        Backbone.load(folder)
    assert not (tmp_path / "run").exists()


def test_layers_under_other_names_are_refused_and_the_message_names_both(tmp_path):
    folder = tiny_folder(tmp_path)
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("encoder.layer.", "blocks."): weight for name, weight in weights.items()}
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    with refused(repr(str(folder)), "incomplete", "encoder.layer.0", "blocks.0"):
        Backbone.load(folder)
