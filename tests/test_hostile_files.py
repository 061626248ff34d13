"""Files that somebody made on purpose, with checksums that are right: what they hold is checked all the same."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from classifiers import LABELS, TEXTS, tiny_classifier
from running import refused
from safetensors.torch import load_file, save_file
from tiny import tiny_episodes, tiny_folder
from trainings import killed, trainer_of

from metawarp import Backbone, Init, Task, WarpConfig
from metawarp.inits import storage
from metawarp.inits.model_card import markdown_cell, read_results
from metawarp.inits.peft_adapter import load_adapter
from metawarp.training import run_folder


def change(folder, **entries):
    """Replace entries of a config.json, "a.b" being entry b of a, and its checksum."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for name, value in entries.items():
        *groups, key = name.split("__")
        inside = config
        for group in groups:
            inside = inside[group]
        inside[key] = value
    config[storage.CHECKSUM] = storage.checksum(config)
    file.write_text(json.dumps(config), encoding="utf-8")


BAD_INITS = {
    "class names that are a number": ({"training__class_names": 5}, ["class_names in training"]),
    "class names that are a list": ({"training__class_names": []}, ["class_names in training"]),
    "class names of another type": ({"training__class_names": {"train": [1]}}, ["train.0 must be a valid string"]),
    "learning rates": ({"training__inner_lr": {"adaptre": 1.0}}, ["'adaptre' is unknown"]),
    "no range of shots": ({"temperature__shots": []}, ["temperature.shots"]),
    "three ends of a range": ({"temperature__ways": [1.0, 2.0, 3.0]}, ["temperature.ways", "a list of 2"]),
    "a range that ends before it begins": ({"temperature__ways": [3.0, 2.0]}, ["ways=(3.0, 2.0)", "range"]),
    "no temperature at all": ({"temperature__base": -1000.0}, ["base=-1000.0", "from -20 to 20"]),
    "soft tokens": ({"model__template": "{prompt:1000000} {text}"}, ["1000000 soft tokens", "at most 1000"]),
    "more soft tokens": ({"model__template": f"{{prompt:{'9' * 5000}}} {{text}}"}, ["soft tokens", "at most 1000"]),
    "many prompts": ({"model__adapter": "prompt_pool", "model__adapter_size": 10**12}, ["from 1 to 1000"]),
}


@pytest.mark.parametrize("name", BAD_INITS)
def test_an_init_with_impossible_settings_is_refused(tiny, tmp_path, name):
    entries, facts = BAD_INITS[name]
    tiny_classifier(tiny).fit(TEXTS, LABELS).task_.init.save(tmp_path)
    change(tmp_path, **entries)
    with refused(*facts):
        Init.load(tmp_path).bind(tiny)


BAD_TASKS = {
    "shortened labels": ({"label_type": "U1"}, ["'U1'"]),
    "labels of another type": ({"label_type": "bool"}, ["'bool'"]),
    "labels that fill the memory": ({"label_type": "U100000000"}, ["'U100000000'"]),
    "labels twice": ({"classes": ["music", "music"]}, ["different"]),
    "mixed labels of an earlier release": ({"classes": ["music", 1], "label_type": None}, ["None"]),
    "negative steps": ({"adapt": -5}, ["adapt=-5"]),
    "an empty name": ({"class_names": ["", "rain"]}, ["class without a name"]),
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_a_task_with_impossible_settings_is_refused(tiny, tmp_path, name):
    entries, facts = BAD_TASKS[name]
    tiny_classifier(tiny).fit(TEXTS, LABELS).save(tmp_path)
    change(tmp_path, **entries)
    with refused(*facts):
        Task.load(tmp_path, tiny)


def test_a_task_of_an_earlier_release_keeps_its_unsorted_labels(tiny, tmp_path):
    model = tiny_classifier(tiny).fit(TEXTS, LABELS)
    model.save(tmp_path)
    tensors = load_file(tmp_path / "task.safetensors")
    tensors["class_embeddings"] = tensors["class_embeddings"].flip(1).contiguous()
    _, config = storage.load(tmp_path, "task")
    kept = {name: value for name, value in config.items() if name not in ("sha256", "label_type", "metawarp_version")}
    for name in ("classes", "class_names"):
        kept[name] = kept[name][::-1]
    storage.save(tmp_path, "task", tensors, {k: v for k, v in kept.items() if not k.startswith("format")})
    old = Task.load(tmp_path, tiny)
    assert old.classes.tolist() == model.classes_.tolist()[::-1]
    assert old.predict(TEXTS).tolist() == model.predict(TEXTS).tolist()


def test_deep_settings_are_refused(tiny, tmp_path):
    tiny_classifier(tiny).fit(TEXTS, LABELS).save(tmp_path)
    for depth in (900, 980, 5000, 10**5):
        (tmp_path / "config.json").write_text('{"format": "metawarp-task", "a": ' + "[" * depth + "]" * depth + "}")
        with refused(tmp_path / "config.json"):
            Task.load(tmp_path, tiny)


@pytest.mark.parametrize("damage", ["a tensor less", "another shape", "a name without a group", "no step", "no JSON"])
def test_a_checkpoint_of_another_training_is_refused(tiny, tmp_path, damage):
    killed(trainer_of(tiny, tmp_path, killed_before=3))
    file = tmp_path / run_folder.CHECKPOINT
    tensors = load_file(file)
    groups, progress = run_folder.RunFolder(tmp_path).load(torch.device("cpu"))
    name = next(key for key in tensors if key.startswith("best/"))
    if damage == "a tensor less":
        del tensors[name]
    elif damage == "another shape":
        tensors[name] = torch.zeros(7, 7, 7)
    elif damage == "a name without a group":
        tensors["x"] = torch.zeros(1)
    elif damage == "no step":
        del progress["step"]
    text = json.dumps(progress) if damage != "no JSON" else "{"
    assert groups
    save_file(tensors, file, metadata={"progress": text, "sha256": run_folder._checksum(tensors, text)})
    with refused("checkpoint.safetensors"):
        trainer_of(tiny, tmp_path).run(resume=True)


@pytest.mark.parametrize(
    "prompt", [torch.tensor(1.0), torch.full((2, 16), torch.nan), torch.zeros(2, 16, dtype=torch.complex64)]
)
def test_a_prompt_that_is_no_matrix_of_numbers_is_refused(tiny, tmp_path, prompt):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "PROMPT_TUNING"}')
    save_file({"prompt_embeddings": prompt}, tmp_path / "adapter_model.safetensors")
    with refused("prompt_embeddings", "matrix"):
        load_adapter(tmp_path, tiny)
    (tmp_path / "adapter_config.json").write_text("[" * 10**5)
    with refused("complete PEFT adapter"):
        load_adapter(tmp_path, tiny)


@pytest.mark.parametrize(
    "content",
    ['{"protocol": {}, "methods": {"a": 1}}', '{"protocol": [], "methods": {}}', "[" * 10**5,
     '{"protocol": {}, "methods": {"a": {"accuracy": "high", "ci95": 0}}}'],
)  # fmt: skip
def test_results_that_no_evaluation_wrote_are_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with refused(tmp_path / "results.json"):
        read_results(tmp_path / "results.json")


def test_a_card_shows_markdown_and_does_not_obey_it():
    assert markdown_cell("![x](http://a/t.png) [a](javascript:b) | *c* `d` <e>") == (
        r"!\[x\](http://a/t.png) \[a\](javascript:b) \| \*c\* &#96;d&#96; &lt;e&gt;"
    )


class Runs:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.filterwarnings("ignore:.pin_memory.")
def test_setfit_does_not_unpickle_what_lies_beside_a_backbone(tmp_path):
    pytest.importorskip("setfit")
    from metawarp.evaluation.setfit import fitted_setfit

    folder = tiny_folder(tmp_path / "backbone")
    (folder / "model_head.pkl").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    fitted_setfit(Backbone.load(folder), 0, tiny_episodes()[0])
    assert not (tmp_path / "ran").exists()


def test_a_template_may_have_a_thousand_soft_tokens():
    assert WarpConfig(template="{prompt:1000} {text}", read_out="pooled").template
