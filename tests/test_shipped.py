"""The inits that are shipped with the package: small, complete, and the default start of a classifier."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from running import refused

from metawarp import Init, WarpClassifier, WarpConfig
from metawarp.adapters.adapter import split
from metawarp.cli import main
from metawarp.inits.defaults import adaptive, general, untrained
from metawarp.inits.model_card import model_card
from metawarp.inits.shipped import ADAPTIVE, GENERAL, shipped_inits
from metawarp.parameters import tensors_of
from metawarp.training.config import RECIPE

FEW = ["where is my parcel", "it never came", "i want my money back", "please refund me"]
LABELS = ["delivery", "delivery", "refund", "refund"]


LARGEST = {ADAPTIVE: (30_000, 150_000), "adaptive-mpnet": (100_000, 450_000)}
"""Number of parameters and of bytes of the inits with low-rank updates."""


@pytest.mark.parametrize("name", shipped_inits())
def test_each_init_is_small_complete_and_described_by_its_card(name, minilm):
    folder, init = shipped_inits()[name], Init.from_pretrained(name)
    if name in (ADAPTIVE, GENERAL):
        init.bind(minilm)
    most_numbers, most_bytes = LARGEST.get(name, (20_000, 50_000))
    assert init.n_numbers < most_numbers
    files = list(folder.iterdir())
    assert {file.name for file in files} == {"README.md", "config.json", "init.safetensors"}
    assert sum(file.stat().st_size for file in files) <= most_bytes
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (folder / "README.md").read_text(encoding="utf-8") == model_card(config, init.n_numbers)


@pytest.mark.parametrize("name", [ADAPTIVE, GENERAL])
def test_an_init_has_the_settings_of_its_recipe(name):
    recipe = yaml.safe_load((Path(__file__).parent.parent / "benchmarks" / f"{name}.yaml").read_text())
    init = Init.from_pretrained(name)
    expected = {**recipe, **recipe["training"]}
    for setting in ("n_way", "k_shot", "n_query", "within_domains", "seed", *recipe["training"]):
        assert init.training[setting] == expected[setting], setting
    assert init.method == recipe["method"] and init.training["corpus"].count(" + ") == len(recipe["corpus"]) - 1
    assert init.config == WarpConfig(**recipe["model"])
    assert init.training["recipe"] == RECIPE, f"train it again: metawarp train --config benchmarks/{name}.yaml"


def test_a_classifier_starts_from_the_adaptive_init(minilm):
    model = WarpClassifier(backbone=minilm).fit(FEW, LABELS)
    assert model.task_.init.fingerprint == Init.from_pretrained(ADAPTIVE).fingerprint
    assert model.predict(["has the courier been yet?", "give me back what I paid"]).tolist() == ["delivery", "refund"]


@pytest.mark.parametrize("name", [None, ADAPTIVE, GENERAL])
def test_another_backbone_has_the_learned_numbers_with_a_fresh_adapter(tiny, minilm, name):
    learned = Init.from_pretrained(name or ADAPTIVE)
    own = {"adapter", "log_adapter_lr"}
    for backbone in (tiny, replace(minilm, fingerprint="0" * 16), minilm.with_prompt("query: ")):
        init = WarpClassifier(name, backbone, adapt="none").fit(FEW, LABELS).task_.init
        assert (init.method, init.temperature) == ("none", learned.temperature)
        numbers = tensors_of(learned.parameters).items()
        assert all(torch.equal(value, getattr(init.parameters, key)) for key, value in numbers if key not in own)
        if name == GENERAL:
            words = backbone.tokenizer("topic :", add_special_tokens=False)["input_ids"]
            assert init.config == learned.config
            assert torch.equal(init.parameters.adapter, backbone.word_embeddings[words].float())


def test_on_another_backbone_the_adaptive_init_changes_nothing_before_the_first_step(tiny, minilm):
    other, learned = replace(minilm, fingerprint="0" * 16), Init.from_pretrained(ADAPTIVE)
    init = adaptive(other)
    assert (init.inner, init.config) == (learned.inner, learned.config)
    assert init.parameters.log_adapter_lr is not None and learned.parameters.log_adapter_lr is not None
    torch.testing.assert_close(init.parameters.log_adapter_lr.mean(1), learned.parameters.log_adapter_lr.mean(1))
    parts = split(init.bind(other).adapter, init.parameters.adapter[None])
    assert all(not part.any() for part_name, part in parts.items() if part_name.endswith(".B"))
    none, three = (
        WarpClassifier(init, other, adapt=adapt).fit(FEW, LABELS).predict_proba(FEW) for adapt in ("none", 3)
    )
    assert not np.allclose(none, three, atol=1e-3)
    assert adaptive(tiny).config.adapter_layer == 0, "the read-out reads the lower one of two layers"


def test_a_folder_named_like_a_shipped_init_is_ambiguous_only_if_it_holds_an_init(tiny, tmp_path, monkeypatch):
    (tmp_path / GENERAL).mkdir()
    monkeypatch.chdir(tmp_path)
    assert Init.from_pretrained(GENERAL).method == "prototypical"
    untrained(tiny).save(tmp_path / GENERAL)
    with refused("'general'", "is a folder here", "'./general'"):
        Init.from_pretrained(GENERAL)
    assert Init.from_pretrained(f"./{GENERAL}").method == "none"
    assert WarpClassifier(backbone=tiny).fit(FEW, LABELS).task_.init.method == "none"


def test_the_command_inits_lists_the_shipped_inits(capsys):
    main(["inits"])
    out = capsys.readouterr().out
    assert out.startswith(f"{ADAPTIVE}\n  backbone: minilm\n")
    assert "README.md" in out and f"\n{GENERAL}\n" in out


def test_the_command_fit_starts_from_the_adaptive_init_by_default(tmp_path):
    (tmp_path / "few.csv").write_text("text,label\n" + "\n".join(map(",".join, zip(FEW, LABELS, strict=True))))
    main(["fit", f"--data={tmp_path}/few.csv", f"--output={tmp_path}/task"])
    assert WarpClassifier.load(tmp_path / "task").task_.init.fingerprint == Init.from_pretrained(ADAPTIVE).fingerprint


def test_the_shipped_init_of_a_backbone_is_found_by_its_fingerprint_and_prompt(minilm):
    kinds = {GENERAL: general, ADAPTIVE: adaptive}
    for kind, ending in product(kinds, ("", "-mpnet")):
        name, of_backbone = f"{kind}{ending}", kinds[kind]
        init = Init.from_pretrained(name)
        backbone = replace(minilm, fingerprint=init.backbone.fingerprint)
        assert of_backbone(backbone).fingerprint == init.fingerprint, name
        assert of_backbone(backbone.with_prompt("query: ")).method == "none", name
