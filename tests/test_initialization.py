"""Inits: the values of a fresh one, its folder, and the backbones that it accepts."""

import json
import math
from dataclasses import replace

import pytest
import torch
from running import refused
from tiny import tiny_backbone
from trainings import equal, tensors

from metawarp import Init, Warp, WarpConfig
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.inits import storage
from metawarp.inits.defaults import untrained
from metawarp.parameters import tensors_of

INNER = InnerLoop(3, GROUPS)
CONFIG = WarpConfig(template="{prompt:2} {text} {prompt:'the topic is'} {mask}", read_out="mean+mask", verbalizer="mix")


@pytest.fixture
def init(tiny):
    rates = InnerLearningRates(adapter=0.2, class_embeddings=0.03)
    fresh = Init.start(Warp(tiny, CONFIG), INNER, method="maml", rates=rates)
    return replace(fresh, training={"steps_run": 7, "corpus": "tiny"})


@pytest.fixture
def saved(init, tmp_path):
    init.save(tmp_path)
    return tmp_path


def shapes(init):
    return {name: tuple(tensor.shape) for name, tensor in tensors(init).items()}


def change_tensors(folder, **changes):
    """Write a folder with other tensors, without those that are None, and with the hash of what it holds."""
    tensors, config = storage.load(folder, "init")
    header = ("format", "format_version", "metawarp_version", "sha256")
    kept = {k: v for k, v in config.items() if k not in header}
    changed = {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}
    storage.save(folder, "init", changed, kept)


def change_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    config.pop(storage.CHECKSUM, None)  # as in an earlier release; with it, the change alone would be refused
    (folder / "config.json").write_text(json.dumps(config))


def test_a_fresh_init_holds_what_its_model_learns(init):
    assert shapes(init) == {
        "adapter": (5, 32),
        "log_scale": (),
        "name_weight": (),
        "read_out_logits": (2,),
        "log_adapter_lr": (3,),
        "log_class_embedding_lr": (3,),
    }
    assert init.parameters.log_adapter_lr.exp() == pytest.approx([0.2] * 3)
    assert init.parameters.log_class_embedding_lr.exp() == pytest.approx([0.03] * 3)


def test_an_init_holds_nothing_that_its_model_does_not_learn(tiny):
    config = WarpConfig(template="{text} {mask}", read_out="mask", verbalizer="support")
    init = Init.start(Warp(tiny, config), InnerLoop())
    assert shapes(init) == {"adapter": (0, 32), "log_scale": ()}


def test_soft_tokens_start_from_mask_or_from_their_words(tiny, init):
    mask, words = tiny.tokenizer.mask_token_id, tiny.tokenizer.convert_tokens_to_ids(["the", "topic", "is"])
    expected = tiny.word_embeddings[[mask, mask, *words]].float()
    assert init.parameters.adapter.equal(expected)


@pytest.mark.parametrize("start", ["vocabulary", "normal"])
def test_random_starts_are_a_function_of_the_seed(tiny, start):
    warp = Warp(tiny, replace(CONFIG, prompt_start=start))
    one, same, other = (Init.start(warp, INNER, seed=seed).parameters.adapter for seed in (0, 0, 1))
    assert one.equal(same)
    assert not one[:2].equal(other[:2])
    assert one[2:].equal(other[2:])  # words stay words
    if start == "vocabulary":
        vocabulary = tiny.word_embeddings.float()
        assert all(bool((vocabulary == row).all(1).any()) for row in one)
    else:
        config = WarpConfig(template="{prompt:100} {text}", read_out="mean", prompt_start=start)
        noise = Init.start(Warp(tiny, config), INNER).parameters.adapter
        assert float(noise.std()) == pytest.approx(float(tiny.word_embeddings.std()), rel=0.05)


@pytest.mark.parametrize("rate", [0.0, -0.1, math.nan, math.inf])
def test_inner_learning_rates_must_be_positive(rate):
    with refused(f"inner_lr.class_embeddings={rate}", "positive"):
        InnerLearningRates(class_embeddings=rate)


def test_save_and_load_are_bit_equal(init, saved):
    loaded = Init.load(saved)
    assert equal(tensors(loaded), tensors(init))
    for name in ("config", "inner", "method", "backbone", "training"):
        assert getattr(loaded, name) == getattr(init, name)
    assert loaded.fingerprint == json.loads((saved / "config.json").read_text())["sha256"]


def test_a_saved_init_has_a_model_card_and_no_backbone(init, saved):
    assert sorted(file.name for file in saved.iterdir()) == [".lock", "README.md", "config.json", "init.safetensors"]
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert "by the method `maml`" in card
    assert f"`{init.backbone.name}` ({init.backbone.fingerprint})" in card
    assert "| steps_run | 7 |" in card
    assert f"{init.n_numbers:,} parameters" in card
    assert (saved / "init.safetensors").stat().st_size < 4 * init.n_numbers + 1000


@pytest.mark.parametrize("missing", ["method", "backbone", "model", "inner", "training", "temperature"])
def test_a_config_that_describes_no_init_is_refused(saved, missing):
    change_config(saved, lambda config: config.pop(missing))
    with refused("config.json", str(saved), repr(missing)):
        Init.load(saved)


def test_settings_that_no_model_has_are_refused(saved):
    change_config(saved, lambda config: config["model"].update(read_out="max"))
    with refused("read_out='max'", "mask", "mean", "text", "replaced_token"):
        Init.load(saved)


NAMES = ["adapter", "log_adapter_lr", "log_class_embedding_lr", "log_scale", "name_weight", "read_out_logits"]


@pytest.mark.parametrize(
    ("name", "tensor", "names"),
    [
        ("name_weight", None, [name for name in NAMES if name != "name_weight"]),
        ("more", torch.ones(1), sorted([*NAMES, "more"])),
    ],
    ids=["missing", "unknown"],
)
def test_missing_and_unknown_tensors_are_refused(saved, name, tensor, names):
    change_tensors(saved, **{name: tensor})
    with refused("init.safetensors", str(saved), names, NAMES):
        Init.load(saved)


@pytest.mark.parametrize(
    ("name", "shape", "needed"),
    [
        ("log_scale", (3,), "()"),
        ("read_out_logits", (3,), "(2,)"),
        ("name_weight", (2,), "()"),
        ("log_class_embedding_lr", (0,), "(3,)"),
    ],
)
def test_tensors_of_another_shape_are_refused(saved, name, shape, needed):
    change_tensors(saved, **{name: torch.zeros(shape)})
    with refused(name, str(saved), shape, needed):
        Init.load(saved)


@pytest.mark.parametrize("shape", [(4, 32), (5, 48), (5,)])
def test_an_adapter_of_another_shape_than_its_config_needs_is_refused(saved, tiny, shape):
    change_tensors(saved, adapter=torch.zeros(shape))
    with refused(shape, "adapter='prompt'", "template=", (5, 32)):
        Init.load(saved).bind(tiny)


def test_learning_rates_for_another_number_of_parts_are_refused(tiny, tmp_path):
    inner, lora = InnerLoop(1, ("adapter",), "class_means"), WarpConfig(adapter="lora", adapter_size=2)
    fresh = Init.start(Warp(tiny, lora), inner)
    fresh.save(tmp_path)
    n_parts = tensors(fresh)["log_adapter_lr"].shape[1]
    change_tensors(tmp_path, log_adapter_lr=torch.zeros(1, n_parts + 1))
    with refused(f"for {n_parts + 1} parts", f"'lora' has {n_parts}"):
        Init.load(tmp_path).bind(tiny)


def test_the_same_weights_in_another_folder_are_the_same_backbone(init, tiny, tmp_path):
    again = tiny_backbone(tmp_path)
    assert again.source != tiny.source
    assert init.bind(again).config == init.bind(tiny).config == CONFIG


def test_a_backbone_of_another_width_is_refused_whatever_is_allowed(init, tmp_path):
    wide = tiny_backbone(tmp_path, hidden=48)
    for allowed in (False, True):
        with refused("embedding_size 32", repr(wide.name), "48", repr(init.backbone.name)):
            init.bind(wide, any_backbone=allowed)


def test_another_backbone_of_the_same_width_is_allowed_on_request_only(init, tmp_path):
    other = tiny_backbone(tmp_path, seed=1)
    own = init.backbone
    with refused(own.name, own.fingerprint, other.name, other.fingerprint, "any_backbone=True"):
        init.bind(other)
    assert init.bind(other, any_backbone=True).backbone is other


def test_parameters_have_the_precision_of_the_backbone_or_better(init, tiny, minilm):
    for backbone, dtype in ((tiny, torch.float64), (minilm, torch.float32)):
        assert {tensor.dtype for tensor in tensors_of(init.on(backbone)).values()} == {dtype}


def test_the_untrained_init_has_no_soft_tokens_and_no_inner_loop(tiny):
    init = untrained(tiny)
    assert init.parameters.adapter.shape == (0, 32)
    assert (init.config.read_out, init.config.verbalizer, init.inner.inner_steps) == ("text", "mix", 0)
    # 1 / (1 + K·e^m): the weights of a name that were best untrained, 0.77 at one shot and 0.40 at five.
    assert init.parameters.name_weight is not None
    weights = [1 / (1 + shots * math.exp(float(init.parameters.name_weight))) for shots in (0, 1, 5)]
    assert weights == pytest.approx([1.0, 0.77, 0.40], abs=0.005)


def test_an_init_is_not_saved_beside_the_checkpoint_of_another(init, tmp_path):
    (tmp_path / "checkpoint.safetensors").touch()
    with refused(str(tmp_path), "folder of a training", "another one"):
        init.save(tmp_path)
