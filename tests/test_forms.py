"""Forms of a prompt: their numbers, how each enters the forward pass, and that all methods learn all of them."""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from running import SMALL, log_of, refused
from tiny import (
    MODELS,
    central_differences,
    query_logits,
    tiny_backbone,
    tiny_corpus,
    tiny_episodes,
    tiny_model,
    weights_of,
)

from metawarp import Init, Warp, WarpClassifier, WarpConfig, train
from metawarp.adaptation.adapt import trajectory
from metawarp.adaptation.inner_loop import InnerLoop, InnerRates
from metawarp.adaptation.tasks import TaskBatch
from metawarp.backbones.architectures import ARCHITECTURES
from metawarp.cli import main
from metawarp.forms import forms
from metawarp.forms.forms import FORMS
from metawarp.meta_learning.meta_gradients import METHODS
from metawarp.meta_learning.second_order import recompute, unroll
from metawarp.texts.text_features import TextFeatures
from metawarp.training.config import TrainingConfig

ROOT = Path(__file__).parent.parent
EACH = ["input", "deep", "prefix", "pool:3", "lora:2", "weights"]
BOTH = InnerLoop(2, ("prompt", "rows"))
RATES = InnerRates(prompt=0.05, rows=0.2)
TEXTS = ["set the alarm", "what is the weather today in the market, and where?", "pay my bill please"]


def model(backbone, form, inner=BOTH, *, apart=0.05, learn=False, **config):
    """A model and a state whose prompt is somewhere near its start, where nothing is zero."""
    warp, state = tiny_model(backbone, inner, rates=RATES, form=form, **config)
    noise = torch.randn(state["prompt"].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    state["prompt"] = state["prompt"] + apart * noise
    return warp, {name: tensor.requires_grad_(learn) for name, tensor in state.items()}


def features(warp, state, texts, prompts=None):
    prompts = state["prompt"][None] if prompts is None else prompts
    task = torch.arange(len(texts)) % len(prompts)
    return warp.features(prompts, weights_of(state), warp.encoder(texts), task)


def test_every_form_is_tested_here():
    assert {form.partition(":")[0] for form in EACH} == set(FORMS)


# What a form is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", EACH)
def test_its_parts_and_its_prompt_are_the_same_numbers(tiny, form):
    warp, state = model(tiny, form)
    bound = warp.form
    assert state["prompt"].shape == bound.shape and state["prompt"].numel() == bound.size
    parts = bound.parted(state["prompt"][None])
    assert {name: tuple(part.shape[1:]) for name, part in parts.items()} == bound.shapes
    again = bound.joined({name: part[0] for name, part in parts.items()})
    assert torch.equal(again, state["prompt"])


SIZES = {  # 3 layers of width 32 (feed-forward 64) and 3 soft tokens; biases and norms are weights too
    "input": 3 * 32,
    "deep": 3 * 3 * 32,
    "prefix": 3 * 2 * 3 * 32,
    "pool:3": 3 * (3 * 32 + 32),
    "lora:2": 3 * 32 + 3 * 2 * (2 * 32 + 32 * 2),
    "weights": 3 * 32 + 3 * (4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 4 * 32),
}


@pytest.mark.parametrize("form", EACH)
def test_its_size_is_known(tiny, form):
    assert model(tiny, form)[0].form.size == SIZES[form]


@pytest.mark.parametrize(("form", "less"), [("deep", 3 * 32), ("prefix", 6 * 32), ("lora:2", 256), ("input", 0)])
def test_from_a_later_layer_on_it_is_smaller(tiny, form, less):
    assert model(tiny, form, prompt_layer=1)[0].form.size == SIZES[form] - less


# How it enters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["lora:2", "weights"])
@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_weights_start_where_they_change_nothing(tmp_path, model_type, form):
    backbone = tiny_backbone(tmp_path, model_type, head=True)
    (plain, state), (warp, own) = model(backbone, "input", apart=0), model(backbone, form, apart=0)
    assert torch.allclose(features(warp, own, TEXTS), features(plain, state, TEXTS), rtol=0, atol=1e-6)  # fp32 once


def test_deep_prompts_start_where_an_empty_text_would_have_those_of_the_input(tiny):
    (plain, state), (warp, own) = model(tiny, "input", apart=0), model(tiny, "deep", apart=0)
    task = torch.zeros(1, dtype=torch.long)
    for one in (warp, plain):
        one.prompted.sizes = {"mask": 32}
    found = warp.prompted(own["prompt"][None], warp.encoder([""]), task)["mask"]
    assert torch.allclose(found, plain.prompted(state["prompt"][None], plain.encoder([""]), task)["mask"], atol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "distilbert", "albert"])
def test_a_prefix_made_of_soft_tokens_is_what_tokens_see_of_them(tmp_path, model_type):
    # One layer: what other tokens see of soft ones are keys and values of what enters it. BERT adds positions and a
    # norm on the way in, so the pairs are taken from there.
    backbone = tiny_backbone(tmp_path, model_type)
    plain, state = model(backbone, "input", prompt_layer=2, apart=0, template="{text} {mask} {prompt:3}")
    warp, own = model(backbone, "prefix", prompt_layer=2, apart=0, template="{text} {mask} {prompt:3}")
    pairs = backbone.content_attention(2).keys_values(state["prompt"])[None]
    assert own["prompt"].shape == pairs.shape
    found = features(warp, {**own, "prompt": pairs}, TEXTS)
    assert torch.allclose(found, features(plain, state, TEXTS), rtol=0, atol=1e-10)


def test_a_pool_is_the_mixture_that_its_keys_say(tiny):
    warp, state = model(tiny, "pool:3")
    plain, _ = model(tiny, "input")
    parts = warp.form.parted(state["prompt"][None])
    query = warp.form.sentence(warp.encoder(TEXTS))[:, 0]
    query = query / query.norm(dim=1, keepdim=True) * 32**0.5
    weights = (query @ parts["keys"][0].T / 32**0.5).softmax(1)
    assert weights.std(1).min() > 0.01
    soft = torch.einsum("bm,mkd->bkd", weights, parts["prompts"][0])
    one_each = plain.features(soft, weights_of(state), plain.encoder(TEXTS), torch.arange(3))
    assert torch.allclose(features(warp, state, TEXTS), one_each, rtol=0, atol=1e-10)


def test_the_query_of_a_text_is_computed_once(tiny, monkeypatch):
    warp, state = model(tiny, "pool:3", read_out="mean")
    read, real = [], TextFeatures.means
    monkeypatch.setattr(TextFeatures, "means", lambda self, batch: read.append(len(batch)) or real(self, batch))
    episodes = tiny_episodes()
    for _ in range(2):  # inner steps read each text again, under a prompt that has moved
        query_logits(warp, state, episodes, BOTH)
    assert sum(read) == len({t for e in episodes for t in (*e.support_texts, *e.query_texts, *e.class_names)})


COMBINED = [
    pytest.param(model_type, form, layer, marks=() if model_type in ("albert", "electra") else pytest.mark.slow)
    for model_type in sorted(MODELS)
    for form in EACH
    for layer in (0, 1)
    if form != "prefix" or ARCHITECTURES[model_type].family.content_attention
]
"""Every form at every type, those whose embeddings are narrower than their hidden states always."""


@pytest.mark.parametrize(("model_type", "form", "layer"), COMBINED)
def test_of_every_type_texts_are_read_alone_as_together_and_gradients_are_slopes(
    tmp_path, model_type, form, layer, exact
):
    backbone = tiny_backbone(tmp_path, model_type, head=True)
    warp, state = model(backbone, form, learn=True, prompt_layer=layer, debias=True)
    together = features(warp, state, TEXTS)
    alone = torch.cat([features(warp, state, [text]) for text in TEXTS])
    assert torch.allclose(together, alone, rtol=0, atol=1e-9)
    generator = torch.Generator().manual_seed(4)
    weights = torch.randn(together.shape, generator=generator, dtype=torch.float64)
    along = torch.randn(state["prompt"].shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * together).sum(), state["prompt"])
    with torch.no_grad():
        ends = [
            float((weights * features(warp, {**state, "prompt": state["prompt"] + by * along}, TEXTS)).sum())
            for by in (1e-6, -1e-6)
        ]
    assert float((gradient * along).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_low_rank_weights_are_added_to_the_frozen_ones(tiny):
    warp, state = model(tiny, "lora:2")
    merged, own = model(tiny, "weights", apart=0)
    low = {name: part[0] for name, part in warp.form.parted(state["prompt"][None]).items()}
    full = {name: part[0].clone() for name, part in merged.form.parted(own["prompt"][None]).items()}
    full["prompt"] = low["prompt"]
    for name in low:
        if ".lora_A." in name:
            whole = name.replace(".lora_A.default", "")
            full[whole] = full[whole] + low[name.replace("lora_A", "lora_B")] @ low[name]
    found = features(merged, {**own, "prompt": merged.form.joined(full)}, TEXTS)
    assert torch.allclose(features(warp, state, TEXTS), found, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["lora:2", "weights"])
def test_the_backbone_is_left_as_it_was_and_shared(tiny, form):
    before = {name: weight.clone() for name, weight in tiny.model.state_dict().items()}
    warp, state = model(tiny, form, learn=True)
    features(warp, state, TEXTS).sum().backward()
    after = tiny.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(weight.grad is None for weight in tiny.model.parameters())
    theirs = {id(weight) for weight in tiny.model.parameters()}
    assert all(id(w) in theirs for name, w in warp.form.encoder.named_parameters() if "lora" not in name)


@pytest.mark.parametrize("prompt_layer", [0, 1])
@pytest.mark.parametrize("read_out", ["mask", "mean+mask"])
@pytest.mark.parametrize("form", EACH)
def test_tasks_side_by_side_are_one_by_one(tiny_mlm, form, read_out, prompt_layer):
    warp, state = model(tiny_mlm, form, read_out=read_out, prompt_layer=prompt_layer)
    prompts = torch.stack([state["prompt"], state["prompt"] * 1.1, state["prompt"] * 0.8])
    together = features(warp, state, TEXTS, prompts)
    for text, prompt, found in zip(TEXTS, prompts, together, strict=True):
        assert torch.allclose(features(warp, state, [text], prompt[None])[0], found, rtol=0, atol=1e-9)
    assert not torch.allclose(together[1], features(warp, state, [TEXTS[1]])[0], atol=1e-4)


# Learned by every method -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", EACH)
def test_second_order_is_the_slope_of_the_query_loss(tiny, form):
    warp, state = model(tiny, form, learn=True)
    tasks = TaskBatch.encode(tiny_episodes(2), warp.encoder)
    unrolled, recomputed = unroll(warp, state, tasks, BOTH), recompute(warp, state, tasks, BOTH)
    for name in ("prompt", "log_inner_lr.prompt"):
        entries, slopes = central_differences(warp, state, tasks, BOTH, name, entries=12)
        for found in (unrolled, recomputed):
            gradient = found.gradients[name].reshape(-1)[torch.from_numpy(entries)]
            assert torch.allclose(gradient, slopes, rtol=1e-5, atol=1e-9), name
        assert slopes.abs().max() > 1e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", EACH)
def test_every_method_moves_every_part_of_every_form(tiny, form, method):
    inner = METHODS[method].inner
    warp, state = model(tiny, form, inner, learn=True)
    if METHODS[method].class_rows:
        rows = torch.randn(6, warp.row_size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        state["class_rows"] = rows.requires_grad_()
    episodes = tiny_episodes(2)
    tasks = TaskBatch.encode(episodes, warp.encoder, classes=episodes[0].corpus.class_names)
    found = METHODS[method].gradient(warp, state, tasks, inner)
    assert torch.isfinite(found.losses).all()
    for name, slope in warp.form.parted(found.gradients["prompt"][None]).items():
        keys_of_attention_shift_alike = name.endswith("key.bias")  # softmax does not see what all keys have in common
        assert slope.abs().max() > 0 or keys_of_attention_shift_alike, name


@pytest.mark.parametrize("form", EACH)
def test_the_inner_loop_gives_each_task_its_own(tiny, form):
    warp, state = model(tiny, form)
    episodes = tiny_episodes(2)
    moved = trajectory(warp, state, TaskBatch.encode(episodes, warp.encoder), BOTH)[-1]["prompt"]
    assert moved.shape == (2, *warp.form.shape)
    assert not torch.allclose(moved[0], moved[1])


@pytest.mark.parametrize("form", EACH)
def test_threads_that_read_at_the_same_time_do_not_meet(tmp_path, form):
    backbone = tiny_backbone(tmp_path, dtype="float32")
    weights = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    (warp, state), (beside, other) = (model(backbone, one) for one in (form, "input"))
    batch, task = warp.encoder(TEXTS), torch.zeros(len(TEXTS), dtype=torch.long)
    prompts = [(1 + 0.5 * i) * state["prompt"].float()[None] for i in range(3)]
    prompts.append(other["prompt"].float()[None])

    def read(i):
        reader = beside if i % 4 == 3 else warp
        parts = reader.form.parted(prompts[i % 4])
        with torch.no_grad():
            return reader.form.hidden(parts, reader.form.shown(batch), task)

    alone = [read(i) for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for i, found in enumerate(threads.map(read, range(120))):
            assert torch.allclose(found, alone[i % 4], atol=1e-5), i
    assert all(torch.equal(weight, weights[name]) for name, weight in backbone.model.state_dict().items())


@pytest.mark.parametrize("form", EACH)
def test_it_is_saved_and_loaded(tiny, tmp_path, form):
    warp, _ = model(tiny, form)
    init = Init.start(warp, BOTH)
    init.save(tmp_path)
    loaded = Init.load(tmp_path)
    assert loaded.warp.form == form
    once, again = (query_logits(one.bind(tiny), one.to(tiny), tiny_episodes(), BOTH) for one in (init, loaded))
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))


def test_starts_from_chance_are_those_of_the_seed(tiny):
    for form in ("pool:3", "lora:2"):
        one, two, other = (Init.start(model(tiny, form)[0], BOTH, seed=seed).tensors["prompt"] for seed in (0, 0, 1))
        assert torch.equal(one, two) and not torch.equal(one, other)


def test_a_form_that_contributing_shows_is_learned_like_the_others(tiny, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.setattr(forms, "FORMS", dict(FORMS))
    exec(code, {"__name__": "a_form"})
    init = train(
        tiny_corpus(),
        tmp_path,
        backbone=tiny,
        method="maml",
        n_way=2,
        k_shot=2,
        n_query=3,
        warp=WarpConfig(template="{text} {mask}", read_out="mean+mask", form="shift"),
        training=TrainingConfig(steps=30, meta_batch=2, lr=0.03, validate_every=30, validation_episodes=2),
    )
    assert init.tensors["prompt"].shape == (32,) and init.tensors["prompt"].any()
    losses = [entry["loss"] for entry in log_of(tmp_path)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert "shift" not in FORMS


@pytest.mark.parametrize("form", EACH)
def test_from_the_command_line_to_a_prediction(made, tmp_path, capsys, form):
    data = [f"--corpus={made}/tiny.jsonl", f"--backbone={made}/backbone"]
    main(["train", *data, *SMALL, "--method=fomaml", f"--warp.form={form}", f"--output={tmp_path}/init"])
    main(
        ["evaluate", *data, f"--init={tmp_path}/init", f"--splits={tmp_path}/init/splits.json", "--n-way=2"]
        + ["--n-query=2", "--episodes=2", "--baselines=none"]
    )
    (tmp_path / "few.csv").write_text("text,label\nplay some music,music\nrain today,weather\n")
    main(["fit", f"--init={tmp_path}/init", f"--data={tmp_path}/few.csv", f"--output={tmp_path}/task", data[1]])
    capsys.readouterr()
    main(["predict", f"--task={tmp_path}/task", "--text=music please", data[1]])
    found = json.loads(capsys.readouterr().out)["probabilities"]
    model = WarpClassifier(tmp_path / "init", f"{made}/backbone")
    model.fit(["play some music", "rain today"], ["music", "weather"])
    assert list(found.values()) == pytest.approx(model.predict_proba(["music please"])[0], abs=1e-5)


def test_low_rank_weights_without_peft_name_the_extra(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r'^low-rank forms and adapters are PEFT\'s: pip install "metawarp\[peft\]"$'):
        model(tiny, "lora:2")


# What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("soft", "form is 'soft'; it can be input, deep, prefix, pool:8, lora:8, weights."),
        ("pool:0", "form is 'pool:0'; it can be input, deep, prefix, pool:8, lora:8, weights."),
        ("pool", "form 'pool' needs its number of prompts behind it, such as pool:8."),
        ("lora", "form 'lora' needs its number of ranks behind it, such as lora:8."),
        ("deep:4", "form 'deep:4' has no number behind it; write deep."),
    ],
)
def test_what_is_no_form_is_refused(form, message):
    with refused(message):
        WarpConfig(form=form)


@pytest.mark.parametrize("model_type", ["deberta", "modernbert", "mpnet"])
def test_a_prefix_is_refused_where_it_is_not_known(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type)
    with refused(
        f"form prefix is not known for backbones of type {backbone.family.name}; use form deep, or a backbone of type "
        "ALBERT, BERT, RoBERTa, DistilBERT, ELECTRA."
    ):
        Warp(backbone, WarpConfig(form="prefix"))


@pytest.mark.parametrize("form", ["deep", "prefix", "pool:2"])
def test_forms_that_are_made_of_soft_tokens_are_refused_without(tiny, form):
    with refused("this form is made of the template's soft tokens, and there are none; add {prompt:8}."):
        Warp(tiny, WarpConfig(form=form, template="{text} {mask}"))


def test_ranks_that_save_nothing_are_refused(tiny):
    with refused(
        f"form lora has rank 32; weights of backbone {tiny.name!r} are 32 wide: give a lower rank, such as lora:2, or "
        "take form weights."
    ):
        Warp(tiny, WarpConfig(form="lora:32"))


@pytest.mark.parametrize("config", [{"read_out": "text"}, {"read_out": "text+mean", "template": "{text}"}], ids=str)
def test_an_inner_loop_that_moves_what_nobody_reads_is_refused(tiny, tmp_path, config):
    config = WarpConfig(**{"template": "{prompt:2} {text} {mask}"} | config)
    message = (
        f"the inner loop moves the prompt of each task, and nothing that read-out {config.read_out!r} reads with "
        f"template {config.template!r} depends on one; add soft tokens, and mean or mask to the read-out, or take a "
        "method that moves rows alone, such as anil."
    )
    with refused(message):
        train(tiny_corpus(), tmp_path, backbone=tiny, method="maml", n_way=2, k_shot=2, n_query=3, warp=config)
    init = Init.start(Warp(tiny, config), BOTH)
    with refused(message):
        WarpClassifier(init, tiny).fit(["play music", "rain today"], ["music", "rain"])


def test_an_init_of_another_form_is_refused(tiny, tmp_path):
    init = Init.start(model(tiny, "deep")[0], BOTH)
    other = tiny_backbone(tmp_path, layers=4, seed=0)
    with refused(
        "this init's prompt has the shape (288,); with form 'deep' and template '{prompt:2} {text} {prompt:1} {mask}' "
        "it is (384,) on this backbone."
    ):
        init.bind(other, any_backbone=True)
