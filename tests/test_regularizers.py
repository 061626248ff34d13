"""Regularizers: their equations, perturbations of the given length that raise the loss, and their part in training."""

from dataclasses import replace

import pytest
import torch
from running import refused
from tiny import NO_STEPS, tiny_corpus, tiny_episodes, tiny_model
from torch.nn.functional import normalize

from episodes import EpisodeSampler
from metawarp import Init, Warp, WarpConfig
from metawarp.adaptation.start import losses_of, read_texts, start
from metawarp.meta_learning import scal as scal_module
from metawarp.meta_learning import sift as sift_module
from metawarp.meta_learning.adversarial import perturbed
from metawarp.meta_learning.regularizer import REGULARIZERS
from metawarp.meta_learning.scal import TEMPERATURE, contrastive_loss, scal
from metawarp.meta_learning.sift import sift
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import mapped
from metawarp.texts.task_batch import TaskBatch
from metawarp.training.config import TrainingConfig
from metawarp.training.outer_loop import Trainer
from metawarp.training.run_folder import read_log

ADAPTERS = [
    ("prompt", None),
    ("deep_prompt", None),
    ("prefix", None),
    ("prompt_pool", 2),
    ("lora", 2),
    ("weights", None),
]


def setting(tiny, adapter="prompt", size=None, **config):
    warp, init = tiny_model(tiny, learn=True, adapter=adapter, adapter_size=size, **config)
    return warp, init, TaskBatch.encode(tiny_episodes(2), warp.encoder)


def perturbed_queries(warp, init, tasks, epsilon):
    return perturbed(warp, start(warp, init, tasks)[0], tasks, tasks.query, epsilon)


def lengths(texts):
    """Lengths of the perturbations of tokens of the text, and of all other tokens."""
    length, batch = texts.batch.perturbation.norm(dim=-1), texts.batch
    is_text = batch.text_mask & batch.attention_mask
    return length[is_text], length[~is_text]


def value_of(loss):
    return float(loss.detach())


# The perturbation


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(("adapter", "size"), ADAPTERS)
def test_a_perturbation_raises_the_loss_and_has_the_given_length(tiny, adapter, size, layer):
    warp, init, tasks = setting(tiny, adapter, size, adapter_layer=layer)
    current, _ = start(warp, init, tasks)
    moved = perturbed_queries(warp, init, tasks, 0.01)
    back = replace(moved, batch=replace(moved.batch, perturbation=-moved.batch.perturbation))
    of_text, of_others = lengths(moved)
    assert torch.allclose(of_text, torch.tensor(0.01, dtype=torch.float64))
    assert not of_others.any()
    before, plain, after = (
        value_of(losses_of(warp, current, read_texts(warp, current, texts), texts, tasks).sum())
        for texts in (back, tasks.query, moved)
    )
    assert before < plain < after


def test_a_perturbation_of_zero_changes_nothing(tiny):
    warp, init, tasks = setting(tiny)
    current, _ = start(warp, init, tasks)
    zero = torch.zeros(*tasks.query.batch.input_ids.shape, 32, dtype=torch.float64)
    found = read_texts(warp, current, replace(tasks.query, batch=replace(tasks.query.batch, perturbation=zero)))
    assert torch.allclose(found, read_texts(warp, current, tasks.query), rtol=0, atol=1e-12)


def test_a_perturbation_stays_with_its_tokens_in_passes_of_one_text(tiny):
    warp, init, tasks = setting(tiny, "prefix", max_length=8, stride=2, template="{prompt:2} {text} {mask}")
    moved = perturbed_queries(warp, init, tasks, 0.05)
    current, _ = start(warp, init, tasks)
    together = read_texts(warp, current, moved)
    one_by_one = Warp(replace(tiny, max_tokens=1), warp.config)
    assert torch.allclose(read_texts(one_by_one, current, moved), together, rtol=0, atol=1e-10)
    assert not torch.allclose(read_texts(warp, current, tasks.query), together, atol=1e-3)


def test_the_bare_text_is_never_perturbed(tiny):
    warp, init, tasks = setting(tiny, read_out="text+mean")
    current, _ = start(warp, init, tasks)
    texts = tasks.query, perturbed_queries(warp, init, tasks, 0.05)
    plain, found = (read_texts(warp, current, one) for one in texts)
    assert torch.equal(plain[:, :32], found[:, :32])
    assert not torch.allclose(plain[:, 32:], found[:, 32:])


# The losses


def test_sift_is_the_divergence_to_the_perturbed_texts(tiny):
    warp, init, tasks = setting(tiny)
    found = [value_of(sift(warp, init, tasks, epsilon)) for epsilon in (1e-6, 0.02, 0.1)]
    assert 0 <= found[0] < 1e-9 < found[1] < found[2]


def test_sift_omits_classes_that_a_task_lacks(tiny):
    warp, init = tiny_model(tiny, learn=True)
    episodes = [tiny_episodes(1, n_way=n_way)[0] for n_way in (2, 5)]
    batches = [TaskBatch.encode(some, warp.encoder) for some in (episodes, episodes[:1], episodes[1:])]
    both, *alone = (value_of(sift(warp, init, batch, 0.05)) for batch in batches)
    assert both == pytest.approx(sum(alone) / 2, rel=1e-9)


def test_the_contrastive_loss_is_that_of_its_equation():
    generator = torch.Generator().manual_seed(0)
    z = normalize(torch.randn(6, 4, generator=generator, dtype=torch.float64), dim=1)
    task, label = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 0, 0])
    each = []
    for i in range(6):
        others = [a for a in range(6) if a != i and task[a] == task[i]]
        positives = [a for a in others if label[a] == label[i]]
        total = torch.stack([z[i] @ z[a] / TEMPERATURE for a in others]).logsumexp(0)
        each.append(-sum(float(z[i] @ z[p] / TEMPERATURE - total) for p in positives) / len(positives))
    expected = (sum(each[:4]) / 4 + sum(each[4:]) / 2) / 2
    assert float(contrastive_loss(3 * z, task, label, 2)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k_shot", [1, 2])
def test_scal_separates_classes_together_with_their_perturbed_texts(tiny, k_shot):
    warp, init = tiny_model(tiny, learn=True)
    tasks = TaskBatch.encode(tiny_episodes(2, k_shot=k_shot), warp.encoder)
    assert value_of(scal(warp, init, tasks, 0.1)) > value_of(scal(warp, init, tasks, 1e-6)) > 0


def test_scal_uses_queries_if_there_are_no_support_texts(tiny):
    warp, init = tiny_model(tiny, learn=True)
    assert value_of(scal(warp, init, TaskBatch.encode(tiny_episodes(2, k_shot=0), warp.encoder), 0.1)) > 0


@pytest.mark.parametrize(("adapter", "size"), ADAPTERS)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_its_gradient_is_its_slope_while_the_perturbation_is_held(tiny, name, adapter, size, monkeypatch):
    warp, init, tasks = setting(tiny, adapter, size)
    held = {}

    def once(*given):
        return held.setdefault("texts", perturbed(*given))

    monkeypatch.setattr({"scal": scal_module, "sift": sift_module}[name], "perturbed", once)
    (slope,) = torch.autograd.grad(REGULARIZERS[name](warp, init, tasks, 0.05), init.adapter)
    entry = int(slope.abs().argmax())
    ends = []
    for by in (1e-5, -1e-5):
        moved = mapped(init, lambda tensor: tensor.detach().clone())
        moved.adapter.view(-1)[entry] += by
        ends.append(value_of(REGULARIZERS[name](warp, moved, tasks, 0.05)))
    assert float(slope.view(-1)[entry]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


# In training


def trained(tiny, folder, method="prototypical", **settings):
    """A finished training and its samplers."""
    folder.mkdir()
    warp = Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}", read_out="mean+mask"))
    samplers = [EpisodeSampler(tiny_corpus(), 3, 2, 3, seed) for seed in (0, 1)]
    sizes = {"meta_batch_size": 2, "lr": 0.03, "validate_every": 20, "validation_episodes": 2}
    config = TrainingConfig(**{**sizes, **settings})
    trainer = Trainer(Init.start(warp, METHODS[method].inner), method, warp, *samplers, config, folder)
    trainer.run()
    return trainer


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize(
    "method", ["prototypical", *(pytest.param(name, marks=pytest.mark.slow) for name in ("maml", "reptile"))]
)
def test_training_lowers_it_if_its_weight_is_large(tiny, tmp_path, method, name):
    found = []
    for weight in (3.0, 1e-6):
        run = trained(
            tiny, tmp_path / str(weight), method, steps=20, regularizer=name, regularizer_weight=weight,
            regularizer_epsilon=0.1,
        )  # fmt: skip
        tasks = TaskBatch.encode([run.validation[i] for i in range(4)], run.warp.encoder)
        found.append(value_of(REGULARIZERS[name](run.warp, replace_all(run.init.on(tiny), run), tasks, 0.1)))
    assert found[0] < found[1]


def replace_all(init, run):
    """The parameters of a training after its last step."""
    return replace(init, **run.optimizer.tensors())


def test_the_log_of_a_regularized_run_has_the_loss_of_the_tasks(tiny, tmp_path):
    for name in ("none", "sift"):
        trained(tiny, tmp_path / name, steps=1, regularizer=name)
    assert read_log(tmp_path / "none")[0]["loss"] == read_log(tmp_path / "sift")[0]["loss"]


def test_impossible_settings_are_refused():
    with refused("regularizer='dropout'", "none", "sift", "scal"):
        TrainingConfig(regularizer="dropout")
    with refused("regularizer_epsilon=0", "positive"):
        TrainingConfig(regularizer="sift", regularizer_epsilon=0)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_read_out_without_the_prompt_has_nothing_to_regularize(tiny, tmp_path, name):
    warp = Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}", read_out="text"))
    sampler, config = EpisodeSampler(tiny_corpus(), 3, 2, 3), TrainingConfig(regularizer=name)
    with refused(f"regularizer={name!r}", "read_out='text'", "mean or mask"):
        Trainer(Init.start(warp, NO_STEPS), "prototypical", warp, sampler, sampler, config, tmp_path)


# Debiased templates


@pytest.mark.parametrize(("adapter", "size"), ADAPTERS)
def test_a_debiased_feature_is_without_that_of_the_template_alone(tiny_mlm, adapter, size):
    (plain, init, tasks), (warp, _, _) = (
        setting(tiny_mlm, adapter, size, read_out=read_out) for read_out in ("mask", "debiased_mask")
    )
    current = mapped(start(plain, init, tasks)[0], torch.Tensor.detach)
    current = replace(current, adapter=torch.cat([current.adapter, 1.2 * current.adapter]))
    texts, task = ["set the alarm", "", "pay my bill please"], torch.tensor([0, 1, 1])
    features = plain.read_out.prompted(current.adapter, plain.encoder(texts), task)["mask"]
    bias = plain.read_out.prompted(current.adapter, plain.encoder(["", ""]), torch.arange(2))["mask"]
    found, expected = warp.read(current, warp.encoder(texts), task), normalize(features - bias[task], dim=-1)
    assert torch.allclose(found[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-10)
    assert found[1].norm() < 0.1  # nothing but rounding is left of an empty text


def test_a_debiased_feature_needs_a_mask():
    with refused("read_out='text+debiased_mask'", "{mask}"):
        WarpConfig(template="{prompt:2} {text}", read_out="text+debiased_mask")
