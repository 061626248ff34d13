"""Adapters: their sizes, how each changes the forward pass, and that every method learns every adapter."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from marks import slow, slow_except
from running import refused
from tiny import (
    ADAPTER_SIZES,
    MODELS,
    TEXTS,
    WITH_HEAD,
    assert_second_order_is_exact,
    features,
    query_logits,
    tiny_backbone,
    tiny_corpus,
    tiny_episodes,
    tiny_model,
)
from torch.testing import assert_close

from metawarp import Init, Warp, WarpClassifier, WarpConfig, train
from metawarp.adaptation.trajectory import trajectory
from metawarp.adapters.adapter import adapter_shape, join, n_values, split
from metawarp.adapters.table import ADAPTERS
from metawarp.backbones.architectures import ARCHITECTURES
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.table import METHODS
from metawarp.texts.task_batch import TaskBatch

EACH = {**ADAPTER_SIZES, "prompt_pool": 3}
BOTH = InnerLoop(2, GROUPS)
RATES = InnerLearningRates(0.05, 0.2)


def model(backbone, adapter, inner=BOTH, *, apart=0.05, learn=False, **config):
    """A model, and an init whose adapter is near its start, where nothing is zero."""
    settings = {"adapter": adapter, "adapter_size": EACH[adapter], **config}
    warp, init = tiny_model(backbone, inner, rates=RATES, learn=learn, **settings)
    noise = torch.randn(init.adapter.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return warp, replace(init, adapter=(init.adapter.detach() + apart * noise).requires_grad_(learn))


def test_every_adapter_is_tested_here():
    assert EACH.keys() == ADAPTERS.keys()


# What an adapter is -------------------------------------------------------------------------------------------


SIZES = {  # 3 layers of width 32 (feed-forward 64) and 3 soft tokens; biases and norms are weights too
    "prompt": 3 * 32,
    "deep_prompt": 3 * 3 * 32,
    "prefix": 3 * 2 * 3 * 32,
    "prompt_pool": 3 * (3 * 32 + 32),
    "lora": 3 * 32 + 3 * 2 * (2 * 32 + 32 * 2),
    "biases": 3 * 32 + 3 * (4 * 32 + 64 + 32 + 4 * 32),
    "weights": 3 * 32 + 3 * (4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 4 * 32),
}


@pytest.mark.parametrize("adapter", EACH)
def test_an_adapter_has_a_known_size_and_is_divided_into_its_parts(tiny, adapter):
    warp, init = model(tiny, adapter)
    bound = warp.adapter
    assert init.adapter.shape == adapter_shape(bound) and init.adapter.numel() == n_values(bound) == SIZES[adapter]
    parts = split(bound, init.adapter[None])
    assert {name: tuple(part.shape[1:]) for name, part in parts.items()} == bound.shapes
    assert torch.equal(join(bound, {name: part[0] for name, part in parts.items()}), init.adapter)


@pytest.mark.parametrize(("adapter", "less"), [("deep_prompt", 96), ("prefix", 192), ("lora", 256), ("prompt", 0)])
def test_an_adapter_from_a_later_layer_on_is_smaller(tiny, adapter, less):
    assert n_values(model(tiny, adapter, adapter_layer=1)[0].adapter) == SIZES[adapter] - less


# How an adapter changes the forward pass ---------------------------------------------------------------------


@pytest.mark.parametrize("adapter", ["lora", "biases", "weights"])
@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_weight_adapters_start_where_they_change_nothing(tmp_path, model_type, adapter):
    backbone = tiny_backbone(tmp_path, model_type, head=model_type in WITH_HEAD)
    (plain, init), (warp, own) = model(backbone, "prompt", apart=0), model(backbone, adapter, apart=0)
    assert_close(features(warp, own, TEXTS), features(plain, init, TEXTS), rtol=0, atol=1e-6)  # fp32 once


def test_deep_prompts_start_with_the_states_that_the_input_prompt_has_beside_an_empty_text(tiny):
    plain, deep = (model(tiny, adapter, apart=0, read_out="mask") for adapter in ("prompt", "deep_prompt"))
    assert_close(features(*deep, [""]), features(*plain, [""]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "distilbert", "albert"])
def test_a_prefix_from_soft_tokens_has_the_effect_of_the_soft_tokens(tmp_path, model_type):
    # One layer: other tokens see keys and values of the soft tokens that enter it. BERT adds positions and a
    # norm on the way in, so the pairs are taken from there.
    backbone = tiny_backbone(tmp_path, model_type)
    (plain, init), (warp, own) = (
        model(backbone, adapter, adapter_layer=2, apart=0, template="{text} {mask} {prompt:3}")
        for adapter in ("prompt", "prefix")
    )
    attention = backbone.content_attention(2)
    assert attention is not None
    pairs = attention.keys_values(init.adapter)[None]
    assert own.adapter.shape == pairs.shape
    found = features(warp, replace(own, adapter=pairs), TEXTS)
    assert_close(found, features(plain, init, TEXTS), rtol=0, atol=1e-10)


def test_a_prompt_pool_mixes_its_prompts_by_the_keys(tiny):
    warp, init = model(tiny, "prompt_pool")
    plain, _ = model(tiny, "prompt")
    parts = split(warp.adapter, init.adapter[None])
    query = torch.nn.functional.normalize(warp.adapter.context.sentence(warp.encoder(TEXTS))[0], dim=1) * 32**0.5
    weights = (query @ parts["keys"][0].T / 32**0.5).softmax(1)
    assert weights.std(1).min() > 0.01
    mixed = torch.einsum("bm,mkd->bkd", weights, parts["prompts"][0])
    assert_close(features(warp, init, TEXTS), features(plain, init, TEXTS, mixed), rtol=0, atol=1e-10)


COMBINED = [
    (model_type, adapter, layer) if model_type in ("albert", "electra") else slow(model_type, adapter, layer)
    for model_type in sorted(MODELS)
    for adapter in EACH
    for layer in (0, 1)
    if adapter != "prefix" or ARCHITECTURES[model_type].family.has_content_attention
]
"""Every adapter of every type; those whose embeddings are narrower than their hidden states are not slow."""


@pytest.mark.parametrize(("model_type", "adapter", "layer"), COMBINED)
def test_padding_changes_nothing_and_gradients_are_exact(tmp_path, model_type, adapter, layer, exact):
    backbone = tiny_backbone(tmp_path, model_type, head=model_type in WITH_HEAD)
    warp, init = model(backbone, adapter, learn=True, adapter_layer=layer, read_out="mean+debiased_mask")
    together = features(warp, init, TEXTS)
    alone = torch.cat([features(warp, init, [text]) for text in TEXTS])
    assert_close(together, alone, rtol=0, atol=1e-9)
    generator = torch.Generator().manual_seed(4)
    weights = torch.randn(together.shape, generator=generator, dtype=torch.float64)
    direction = torch.randn(init.adapter.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * together).sum(), init.adapter)
    with torch.no_grad():
        moved = [replace(init, adapter=init.adapter + by * direction) for by in (1e-6, -1e-6)]
        ends = [float((weights * features(warp, one, TEXTS)).sum()) for one in moved]
    assert float((gradient * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_low_rank_weights_are_added_to_the_frozen_ones(tiny):
    warp, init = model(tiny, "lora")
    merged, own = model(tiny, "weights", apart=0)
    low = {name: part[0] for name, part in split(warp.adapter, init.adapter[None]).items()}
    full = {name: part[0].clone() for name, part in split(merged.adapter, own.adapter[None]).items()}
    full["prompt"] = low["prompt"]
    for name in low:
        if name.endswith(".A"):
            projection = name.removesuffix(".A")
            full[f"{projection}.weight"] = full[f"{projection}.weight"] + low[f"{projection}.B"] @ low[name]
    found = features(merged, replace(own, adapter=join(merged.adapter, full)), TEXTS)
    assert_close(features(warp, init, TEXTS), found, rtol=0, atol=1e-6)


@pytest.mark.parametrize("model_type", slow_except("bert", MODELS))
def test_low_rank_updates_of_several_tasks_or_added_to_the_weights_give_the_same(tmp_path, model_type):
    warp, init = model(tiny_backbone(tmp_path, model_type), "lora", read_out="mean")
    of_tasks = torch.stack([init.adapter, init.adapter * 1.1, init.adapter * 0.8])
    together = features(warp, init, TEXTS, of_tasks)
    for text, values, found in zip(TEXTS, of_tasks, together, strict=True):
        merged = features(warp, init, [text], values[None])[0]
        apart = features(warp, init, [text], values[None].requires_grad_())[0]
        assert_close(merged, found, rtol=0, atol=1e-9)
        assert_close(apart, found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("adapter", ["lora", "biases", "weights"])
def test_the_weights_of_the_backbone_stay_as_they_are(tiny, adapter):
    before = {name: weight.clone() for name, weight in tiny.model.state_dict().items()}
    warp, init = model(tiny, adapter, learn=True)
    features(warp, init, TEXTS).sum().backward()
    after = tiny.model.state_dict()
    assert_close(dict(after), before, rtol=0, atol=0)
    assert all(weight.grad is None for weight in tiny.model.parameters())


@pytest.mark.parametrize(("read_out", "adapter_layer"), [("mask", 0), ("mean+mask", 1)])
@pytest.mark.parametrize("adapter", EACH)
def test_tasks_do_not_change_each_other(tiny_mlm, adapter, read_out, adapter_layer):
    warp, init = model(tiny_mlm, adapter, read_out=read_out, adapter_layer=adapter_layer)
    prompts = torch.stack([init.adapter, init.adapter * 1.1, init.adapter * 0.8])
    together = features(warp, init, TEXTS, prompts)
    for text, prompt, found in zip(TEXTS, prompts, together, strict=True):
        assert_close(features(warp, init, [text], prompt[None])[0], found, rtol=0, atol=1e-9)
    assert not torch.allclose(together[1], features(warp, init, [TEXTS[1]])[0], atol=1e-4)


# Every method learns every adapter --------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", EACH)
def test_second_order_gradients_are_exact(tiny, adapter):
    warp, init = model(tiny, adapter, learn=True)
    assert_second_order_is_exact(warp, init, BOTH, ["adapter", "log_adapter_lr"], modes=("unroll", "recompute"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("adapter", EACH)
def test_every_method_learns_every_part(tiny, adapter, method):
    inner = METHODS[method].inner.with_steps(min(METHODS[method].inner.inner_steps, 2))
    warp, init = model(tiny, adapter, inner, learn=True)
    if METHODS[method].learns_corpus_classes:
        size = (6, warp.class_embedding_size)
        classes = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        init = replace(init, corpus_class_embeddings=classes.requires_grad_())
    episodes = tiny_episodes(1)
    tasks = TaskBatch.encode(episodes, warp.encoder, corpus_classes=episodes[0].corpus.class_names)
    found = METHODS[method].meta_gradient(init, MetaBatch(warp, tasks, inner, last_step(inner.inner_steps)))
    assert torch.isfinite(found.losses).all()
    for name, gradient in split(warp.adapter, found.gradients.adapter[None]).items():
        # Softmax does not see what all keys have in common.
        assert gradient.any() or name.endswith("key.bias"), name


@pytest.mark.parametrize("adapter", EACH)
def test_the_inner_loop_gives_each_task_its_own_adapter(tiny, adapter):
    warp, init = model(tiny, adapter)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    moved = trajectory(warp, init, tasks, BOTH).states[-1].adapter
    assert moved.shape == (2, *adapter_shape(warp.adapter))
    assert not torch.allclose(moved[0], moved[1])


@pytest.mark.parametrize("adapter", EACH)
def test_threads_that_read_at_the_same_time_do_not_change_each_other(tmp_path, adapter):
    backbone = tiny_backbone(tmp_path, dtype="float32")
    (warp, init), beside = (model(backbone, one) for one in (adapter, "prompt"))
    models = [beside, *((warp, replace(init, adapter=(1 + 0.5 * i) * init.adapter)) for i in range(3))]

    @torch.no_grad()
    def read(i):
        warp, init = models[i % 4]
        return features(warp, init, TEXTS)

    alone = [read(i) for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for i, found in enumerate(threads.map(read, range(60))):
            assert_close(found, alone[i % 4], rtol=0, atol=1e-5)


@pytest.mark.parametrize("adapter", EACH)
def test_a_loaded_init_predicts_what_the_saved_one_does(tiny, tmp_path, adapter):
    init = Init.start(model(tiny, adapter)[0], BOTH)
    init.save(tmp_path)
    loaded = Init.load(tmp_path)
    assert loaded.config == init.config
    once, again = (query_logits(one.bind(tiny), one.on(tiny), tiny_episodes(1), BOTH) for one in (init, loaded))
    assert torch.equal(once[0], again[0])


@pytest.mark.parametrize("adapter", ["prompt_pool", "lora"])
def test_random_starts_are_those_of_the_seed(tiny, adapter):
    warp, _ = model(tiny, adapter)
    one, two, other = (Init.start(warp, BOTH, seed=seed).parameters.adapter for seed in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)


# Impossible adapters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("adapter", "size"), [("deep_prompt", 4), ("lora", 0), ("prompt_pool", -1), ("lora", 32)])
def test_a_size_without_meaning_is_refused(tiny, adapter, size):
    with refused(f"adapter_size={size}"):
        Warp(tiny, WarpConfig(adapter=adapter, adapter_size=size))


@pytest.mark.parametrize("model_type", ["deberta", "modernbert", "mpnet"])
def test_a_prefix_is_refused_where_it_is_not_supported(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type)
    with refused("adapter='prefix'", backbone.family.name, "adapter='deep_prompt'", "BERT"):
        Warp(backbone, WarpConfig(adapter="prefix"))


@pytest.mark.parametrize("adapter", ["deep_prompt", "prefix", "prompt_pool"])
def test_adapters_of_soft_tokens_are_refused_in_a_template_without_them(tiny, adapter):
    with refused("soft tokens", "{prompt:8}"):
        Warp(tiny, WarpConfig(adapter=adapter, template="{text} {mask}"))


@pytest.mark.parametrize("config", [{"read_out": "text"}, {"read_out": "text+mean", "template": "{text}"}], ids=str)
def test_an_inner_loop_over_an_adapter_that_no_feature_depends_on_is_refused(tiny, tmp_path, config):
    config = WarpConfig(**{"template": "{prompt:2} {text} {mask}"} | config)
    facts = ("inner loop", f"read_out={config.read_out!r}", f"template={config.template!r}", "method='anil'")
    with refused(*facts):
        train(tiny_corpus(), str(tmp_path), backbone=tiny, method="maml", n_way=2, k_shot=2, n_query=3, model=config)
    init = Init.start(Warp(tiny, config), BOTH)
    with refused(*facts):
        WarpClassifier(init, tiny).fit(["play music", "rain today"], ["music", "rain"])
