"""Checkpoints that bring code or formats of their own are refused, and nothing of them runs."""

import json
import os
import pickle

import pytest
import torch
from running import process, refused
from safetensors.torch import load_file
from tiny import tiny_folder

from metawarp import Backbone

SETTINGS = {
    "quantized weights": (
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        ["quantized", "quantization_config"],
    ),
    "code": ({"auto_map": {"AutoModel": "own.Model"}}, ["trust_remote_code", "never"]),
    "attention from the Hub": (
        {"attn_implementation": "somebody/attention"},
        ["attention code", "attn_implementation"],
    ),
}


def change(file, entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_that_ask_for_more_than_numbers_are_refused(tmp_path, kind):
    entries, facts = SETTINGS[kind]
    change(tiny_folder(tmp_path) / "config.json", entries)
    with refused(str(tmp_path), *facts):
        Backbone.load(tmp_path)


def test_an_adapter_is_no_checkpoint(tmp_path):
    entry = {"peft_type": "LORA", "base_model_name_or_path": "somebody/model"}
    (tiny_folder(tmp_path) / "adapter_config.json").write_text(json.dumps(entry))
    with refused(str(tmp_path), "PEFT adapter"):
        Backbone.load(tmp_path)


class Harmful:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_code_does_not_run(tmp_path):
    folder = tiny_folder(tmp_path / "backbone")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights | {"more": Harmful(tmp_path / "harm")}, folder / "pytorch_model.bin")
    with refused(str(folder), "pickled weights", "model.safetensors"):
        Backbone.load(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))
    with refused(str(folder), "pickled weights"):
        Backbone.load(folder)
    assert not (tmp_path / "harm").exists()


def test_nobody_is_asked_whether_code_may_run(tmp_path):
    """The answer "y" on standard input changes nothing."""
    folder = tiny_folder(tmp_path / "backbone")
    change(folder / "config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}})
    (folder / "own.py").write_text(f"import os; os.mkdir({str(tmp_path / 'harm')!r})")
    code = "from metawarp import Backbone; import sys; Backbone.load(sys.argv[1])"
    ended = process(str(folder), code=code, stdin="y\ny\n")
    assert "trust_remote_code" in ended.stderr and not (tmp_path / "harm").exists()
