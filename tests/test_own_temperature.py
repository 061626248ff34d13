"""Each task finds the temperature of its probabilities, by held-out texts of its own."""

from dataclasses import replace

import pytest
import torch
from tiny import NO_STEPS, tiny_episodes, tiny_model, without_names
from torch.nn.functional import cross_entropy, normalize
from torch.testing import assert_close

from metawarp import Init, WarpClassifier
from metawarp.adaptation import cross_fit as cross_fit_module, own_temperature
from metawarp.adaptation.adapt import adapt
from metawarp.adaptation.cross_fit import FOLDS, CrossFit, folds
from metawarp.adaptation.own_temperature import at_best_temperatures, own_temperatures
from metawarp.adaptation.start import ExampleFeatures, class_embeddings_of, logits_of, read_examples, shared_parameters
from metawarp.adaptation.temperature import Temperature
from metawarp.config import InnerLoop
from metawarp.texts.task_batch import LabelledTexts, TaskBatch

TEMPERATURE = Temperature(base=0.3, by_shots=0.2, by_ways=0.1, shots=(0.0, 10.0), ways=(2.0, 10.0))


def regression_model(backbone, **settings):
    return tiny_model(backbone, NO_STEPS, **{"verbalizer": "regression", **settings})


def task_of(labels, n_way, n_tasks=1):
    """Tasks of named classes without tokens: all that is needed if the features of the texts are known."""
    label, task = labels.repeat(n_tasks), torch.arange(n_tasks).repeat_interleave(len(labels))
    shots = torch.zeros(n_tasks, n_way).index_put((task, label), torch.ones(len(label)), accumulate=True)
    none = label[:0]
    names = LabelledTexts(None, torch.arange(n_tasks).repeat_interleave(n_way), torch.arange(n_way).repeat(n_tasks))
    rest = LabelledTexts(None, none, none)
    size = torch.full((n_tasks,), n_way), shots, torch.full((n_tasks, n_way), -1)
    return TaskBatch(names, LabelledTexts(None, task, label), rest, rest, *size)


def clusters(k_shot, noise, *, n_way=4, width=16, shuffled=False):
    """A task with k texts per class that are spread around the names by a noise, and the features of its examples."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n_way).repeat(k_shot)
    names = torch.eye(n_way, width, dtype=torch.float64)
    spread = noise * torch.randn(len(labels), width, generator=generator, dtype=names.dtype)
    features = normalize(names[labels] + spread, dim=-1)
    if shuffled:
        labels = labels[torch.randperm(len(labels), generator=generator)]
    return task_of(labels, n_way), ExampleFeatures(names, features)


def parts_of(tasks, has_examples=True):
    has_examples = torch.full((len(tasks),), has_examples)
    return list(folds(tasks, has_examples))


# Folds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k_shot", "n_parts"), [(1, 1), (2, 2), (5, FOLDS), (12, FOLDS)])
def test_each_text_is_held_out_once_and_what_is_left_is_balanced(k_shot, n_parts):
    parts = parts_of(task_of(torch.arange(3).repeat(k_shot), 3, n_tasks=2))
    assert len(parts) == n_parts
    assert torch.stack([part.held_out for part in parts]).sum(0).tolist() == [1] * 6 * k_shot
    for part in parts:
        assert len(part.tasks.query) + len(part.tasks.support) == 6 * k_shot
        assert (part.tasks.shots == part.tasks.shots[0, 0]).all()
        assert torch.equal(part.tasks.shots.sum(1), torch.bincount(part.tasks.support.task, minlength=2).float())


def test_the_only_text_of_a_class_is_held_out_with_all_others_or_not_at_all():
    uneven = task_of(torch.tensor([0, 0, 0, 1, 1, 1, 2]), 3)
    assert torch.stack([part.held_out for part in parts_of(uneven)]).sum(0).tolist() == [1, 1, 1, 1, 1, 1, 0]
    single = task_of(torch.tensor([0, 1, 2, 2]), 3)
    (all_of_them,) = parts_of(single)
    assert all_of_them.held_out.all()
    assert parts_of(single, has_examples=False) == []


def test_no_more_texts_are_held_out_than_are_needed(monkeypatch):
    monkeypatch.setattr(cross_fit_module, "ENOUGH", 10)
    small, large = torch.arange(2).repeat(5), torch.arange(2).repeat(20)
    assert len(parts_of(task_of(small, 2))) == FOLDS  # two texts each
    assert len(parts_of(task_of(large, 2))) == 2  # eight texts each


# The temperature ------------------------------------------------------------------------------------------------


def test_the_temperature_is_that_of_the_factor_between_logits_and_calibrated_ones():
    """A single text moves the temperature little, and no text moves it without trust."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 3, generator=generator, dtype=torch.float64) * 2
    label = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    task = torch.zeros(4000, dtype=torch.long)
    both = torch.stack([logits, 4 * logits, 1.3 * logits])
    temperatures, losses = at_best_temperatures(both, label, task, torch.ones(1))
    assert_close(temperatures[:, 0], torch.tensor([1, 4, 1.3], dtype=torch.float64), rtol=0.05, atol=0)
    assert_close(losses[0], losses[1])
    assert_close(losses[0, 0], cross_entropy(logits, label, reduction="sum"))
    wrong = (logits[:1].argmax(1) + 1) % 3
    alone, _ = at_best_temperatures(logits[None, :1] * 10, wrong, task[:1], torch.ones(1))
    assert 1 < float(alone[0, 0]) < 8
    untrusted, _ = at_best_temperatures(logits[None, :1] * 10, wrong, task[:1], torch.zeros(1))
    assert_close(untrusted, torch.ones_like(untrusted))


def test_an_overconfident_task_has_a_higher_temperature_and_an_underconfident_one_a_lower(tiny):
    warp, init = regression_model(tiny)
    random_labels, separate = clusters(10, 0.3, shuffled=True), clusters(10, 0.05)
    assert float(own_temperatures(warp, init, *random_labels, Temperature())) > 1.5
    assert float(own_temperatures(warp, init, *separate, Temperature(base=1.5))) < 0.8


def test_few_texts_move_the_temperature_less(tiny):
    warp, init = regression_model(tiny)
    found = [own_temperatures(warp, init, *clusters(k, 0.05), Temperature(base=0.5)) for k in (1, 3, 10)]
    assert 1 > float(found[0]) > float(found[1]) > float(found[2])


def test_without_texts_that_can_be_held_out_the_temperature_is_that_of_the_init(tiny):
    warp, init = regression_model(tiny)
    for episodes in (without_names(tiny_episodes(2, k_shot=1)), tiny_episodes(2, k_shot=0)):
        tasks = TaskBatch.encode(episodes, warp.encoder)
        adapted = adapt(warp, init, tasks, NO_STEPS, TEMPERATURE, chooses=True)
        assert_close(adapted.choice.temperatures, torch.ones_like(adapted.choice.temperatures))
        assert_close(adapted.parameters.scale, init.log_scale.exp() / TEMPERATURE.of(*tasks.size).to(init.log_scale))


@pytest.mark.parametrize("verbalizer", ["regression", "mix", "names"])
@pytest.mark.parametrize("k_shot", [1, 3])
def test_held_out_texts_are_classified_by_what_is_fitted_to_the_others(tiny, verbalizer, k_shot):
    warp, init = regression_model(tiny, verbalizer=verbalizer)
    tasks = TaskBatch.encode(tiny_episodes(2, k_shot=k_shot), warp.encoder)
    examples, shared = read_examples(warp, shared_parameters(init), tasks), shared_parameters(init)
    assert examples.support is not None
    for part in parts_of(tasks):
        logits = part.logits(warp, init, examples)
        left, query = examples.support[~part.held_out], examples.support[part.held_out]
        kept = replace(examples, support=left if len(left) else None)
        parameters = replace(shared, class_embeddings=class_embeddings_of(warp, init, part.tasks, kept))
        assert_close(logits, logits_of(warp, parameters, query, part.tasks.query, part.tasks), rtol=0, atol=1e-9)


# Fitted tasks ---------------------------------------------------------------------------------------------------


def test_no_text_is_read_and_no_prediction_changes(tiny, monkeypatch):
    """The temperature divides the logits of a task; the encoder runs as often as without it."""
    warp, init = regression_model(tiny)
    tasks, calls = TaskBatch.encode(tiny_episodes(3, k_shot=4), warp.encoder), []
    forward = type(warp).read
    monkeypatch.setattr(type(warp), "read", lambda *arguments: calls.append(1) or forward(*arguments))
    plain = adapt(warp, init, tasks, NO_STEPS, TEMPERATURE)
    before = len(calls)
    own = adapt(warp, init, tasks, NO_STEPS, TEMPERATURE, chooses=True)
    assert len(calls) == 2 * before > 0
    assert torch.equal(own.parameters.class_embeddings, plain.parameters.class_embeddings)
    assert not torch.equal(own.parameters.scale, plain.parameters.scale)
    assert_close(own.parameters.scale * own.choice.temperatures, plain.parameters.scale)


def test_tasks_have_the_same_temperature_together_and_again(tiny):
    warp, init = regression_model(tiny)
    episodes = [*tiny_episodes(1, k_shot=5), *tiny_episodes(1, k_shot=1), *tiny_episodes(1, n_way=2, k_shot=3)]
    together = [adapt(warp, init, TaskBatch.encode(episodes, warp.encoder), NO_STEPS, chooses=True) for _ in range(2)]
    assert torch.equal(together[0].choice.temperatures, together[1].choice.temperatures)
    for index, episode in enumerate(episodes):
        alone = adapt(warp, init, TaskBatch.encode([episode], warp.encoder), NO_STEPS, chooses=True)
        assert_close(alone.choice.temperatures[0], together[0].choice.temperatures[index], rtol=1e-6, atol=0)


def test_unlabelled_texts_are_in_every_fit(tiny):
    """A pool changes the temperature of a task, and its held-out texts are classified with it."""
    warp, init = regression_model(tiny)
    (episode,) = tiny_episodes(1, k_shot=4)
    tasks = TaskBatch.encode([episode], warp.encoder)
    pool = LabelledTexts.encode([(list(episode.query_texts), [0] * len(episode.query_texts))], warp.encoder)
    with_pool = replace(tasks, unlabelled=pool)
    found = [adapt(warp, init, batch, NO_STEPS, chooses=True).choice.temperatures for batch in (tasks, with_pool)]
    assert not torch.equal(*found)


def test_large_pools_are_thinned_out(tiny, monkeypatch):
    """Held-out fits have evenly spaced texts of a pool, whose features stay beside them."""
    warp, init = regression_model(tiny)
    tasks = TaskBatch.encode(tiny_episodes(2, k_shot=3), warp.encoder)
    task = torch.tensor([0] * 7 + [1] * 2)
    tasks = replace(tasks, unlabelled=LabelledTexts(None, task, torch.zeros_like(task)))
    examples = read_examples(warp, shared_parameters(init), tasks.without_unlabelled())
    features = torch.arange(9.0, dtype=torch.float64)[:, None].expand(-1, warp.read_out.feature_size)
    seen = []

    def spied(self, warp, init, examples):
        seen.append((self.tasks.unlabelled.task.tolist(), examples.unlabelled[:, 0].tolist()))
        return logits(self, warp, init, examples)

    logits = CrossFit.logits
    monkeypatch.setattr(CrossFit, "logits", spied)
    monkeypatch.setattr(own_temperature, "MAX_POOL", 3)
    own_temperatures(warp, init, tasks, replace(examples, unlabelled=features), TEMPERATURE)
    assert seen and all(one == ([0, 0, 0, 1, 1], [0.0, 3.0, 6.0, 7.0, 8.0]) for one in seen)


def test_a_saved_classifier_keeps_its_temperature(tiny, tmp_path):
    warp, _ = regression_model(tiny)
    init = replace(Init.start(warp, NO_STEPS), temperature=TEMPERATURE)
    (episode,) = tiny_episodes(1, k_shot=3)
    labels = [episode.class_names[label] for label in episode.support_labels]
    classifier = WarpClassifier(init, backbone=tiny).fit(episode.support_texts, labels)
    assert classifier.adaptation_ is not None and classifier.adaptation_.temperature != 1
    classifier.save(tmp_path / "task")
    loaded = WarpClassifier.load(tmp_path / "task", tiny)
    assert loaded.adaptation_ is not None
    assert loaded.adaptation_.temperature == classifier.adaptation_.temperature
    texts = list(episode.query_texts)
    assert_close(torch.tensor(loaded.predict_proba(texts)), torch.tensor(classifier.predict_proba(texts)))


def test_an_init_chooses_unless_its_steps_are_prescribed(tiny):
    without, supervised, left_out = NO_STEPS, InnerLoop(2, ("adapter",)), InnerLoop(2, ("adapter",), "class_means")
    chooses = {}
    for inner in (without, supervised, left_out):
        init = Init.start(tiny_model(tiny, inner)[0], inner)
        chooses[inner] = [init.chooses(adapt) for adapt in ("auto", "none")]
    assert chooses == {without: [True, True], supervised: [False, True], left_out: [True, True]}
