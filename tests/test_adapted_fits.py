"""What a fit tells of its adaptation, and fits of unusual tasks."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_backbone, tiny_model
from torch.testing import assert_close
from tqdm import tqdm

from metawarp import Init, WarpClassifier
from metawarp.adaptation import start
from metawarp.adaptation.leave_one_out_steps import LeaveOneOutSteps
from metawarp.config import InnerLearningRates, InnerLoop
from metawarp.parameters import tensors_of
from metawarp.tasks.examples import Examples
from metawarp.texts.task_batch import TaskBatch

INNER = InnerLoop(2, ("adapter",), "class_means")
LORA = {"adapter": "lora", "adapter_size": 2, "verbalizer": "regression", "rates": InnerLearningRates(0.01)}
TEXTS = ["where is my parcel", "it never came", "i want my money back", "please refund me"]
LABELS = ["delivery", "delivery", "refund", "refund"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A function that fits a task of an init with steps to labelled texts, and the folder of its backbone."""
    folder = tmp_path_factory.mktemp("backbone")
    backbone = tiny_backbone(folder, dtype="float32")
    warp, parameters = tiny_model(backbone, INNER, **LORA)
    init = replace(Init.start(warp, INNER, rates=LORA["rates"]), parameters=parameters)

    def fit(texts, labels, names=None, pool=None, **how):
        return WarpClassifier(init, backbone, **how).fit(texts, labels, names, pool)

    return fit


@pytest.mark.parametrize(
    ("adapt", "steps", "reason"),
    [
        ("none", 0, "The encoder was not adapted, as requested."),
        (2, 2, "The encoder was adapted with 2 gradient steps, as requested."),
        (
            "auto",
            None,
            r"The encoder was adapted with 2 gradient steps, and [0-9]+% of the change was kept\. "
            r"In cross-validation on 4 examples, this (lowered|raised) the mean loss by [0-9.]+(; .*)?\.",
        ),
    ],
)
def test_the_classifier_records_its_adaptation(fitted, tmp_path, adapt, steps, reason):
    classifier = fitted(TEXTS, LABELS, adapt=adapt)
    record = classifier.adaptation_
    assert steps is None or record.steps == len(record.losses) == steps
    assert record.extent == bool(record.steps) or adapt == "auto"
    assert re.fullmatch(reason, record.reason) and record.seconds > 0
    classifier.save(tmp_path / "task")
    again = WarpClassifier.load(tmp_path / "task", classifier.task_.warp.backbone)
    assert again.adaptation_ == record
    assert_close(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS), rtol=0, atol=1e-6)


def test_a_task_without_labelled_texts_records_that_there_was_nothing_to_do(fitted):
    record = fitted([], [], ["delivery", "refund"]).adaptation_
    assert (record.steps, record.losses) == (0, ()) and record.reason.startswith("The encoder was not adapted: ")


def test_unlabelled_texts_are_read_once_under_the_adapted_encoder(fitted, monkeypatch):
    monkeypatch.setattr(start, "TEXTS_AT_ONCE", 2)
    ticks, pool = [], ["my parcel", "my money", "is it late", "no refund", "the courier"]
    with monkeypatch.context() as patched:
        patched.setattr(tqdm, "update", lambda bar, number=1: ticks.append((bar.total, number)))
        task = fitted(TEXTS, LABELS, pool=pool).task_
    assert ticks == [(7, 1)] * 7, "2 steps of the halves, 2 steps, and 3 parts of the pool"
    without = fitted(TEXTS, LABELS).task_
    assert torch.equal(task.parameters.adapter, without.parameters.adapter)
    episode = Examples.of(TEXTS, LABELS, None, pool).episode
    tasks, init = TaskBatch.encode([episode], task.warp.encoder), task.init.on(task.warp.backbone)
    init = task.warp.verbalizer.weighing_names(init, task.adaptation.name_factor)
    with torch.no_grad():
        examples = [
            start.read_examples(task.warp, one, tasks) for one in (task.parameters, start.shared_parameters(init))
        ]
        adapted, at_start = (start.class_embeddings_of(task.warp, init, tasks, features) for features in examples)
    found = task.parameters.class_embeddings
    assert_close(found, adapted)
    assert not torch.allclose(found, at_start, atol=1e-3)
    assert not torch.allclose(found, without.parameters.class_embeddings, atol=1e-3)


def test_the_record_is_drawn(fitted, tmp_path):
    file = fitted(TEXTS, LABELS, adapt=2).adaptation_.draw(tmp_path / "losses.png")
    assert file.read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_fit_leaves_the_estimator_as_it_was(fitted, monkeypatch):
    classifier = fitted(TEXTS, LABELS, adapt=1)
    before = dict(vars(classifier))
    classifier.adapt = 2

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(LeaveOneOutSteps, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(TEXTS, LABELS)
    assert vars(classifier) == before | {"adapt": 2}


@pytest.mark.parametrize(
    ("texts", "labels", "steps"),
    [
        (["one text", "one text", "one text", "one text"], ["a", "a", "b", "b"], 2),  # identical, under two labels
        (["late parcel", "no parcel", "money back"], ["delivery", "delivery", "refund"], 2),  # a class with one text
        (["late parcel", "money back"], ["delivery", "refund"], 2),  # one text per class
        (["late parcel", "money back"], [0, 1], 0),  # one text per class without names
        (["late parcel", "money back"], ["delivery", "LABEL_3"], 2),  # one of them without a name
    ],
)
def test_unusual_tasks_are_adapted(fitted, texts, labels, steps):
    classifier = fitted(texts, labels)
    assert len(classifier.adaptation_.losses) == steps
    assert np.isfinite(classifier.predict_proba(["where is it"])).all()


def test_the_same_texts_give_the_same_bits(fitted):
    one, two = (fitted(TEXTS, LABELS).predict_proba(["where is it"]) for _ in range(2))
    assert np.array_equal(one, two)


def test_the_parameters_of_a_task_on_a_bfloat16_backbone_are_float32(tmp_path):
    folder = tmp_path / "backbone"
    exact, rounded = (tiny_backbone(folder, dtype=dtype) for dtype in ("float32", "bfloat16"))
    warp, parameters = tiny_model(exact, INNER, **LORA)
    init = replace(Init.start(warp, INNER, rates=LORA["rates"]), parameters=parameters)
    tasks = [WarpClassifier(init, one, adapt=2).fit(TEXTS, LABELS).task_ for one in (exact, rounded)]
    for task in tasks:
        assert {value.dtype for value in tensors_of(task.parameters).values()} == {torch.float32}
    assert not torch.equal(tasks[1].parameters.adapter[0], parameters.adapter)
    probabilities = [task.predict_proba(TEXTS) for task in tasks]
    assert_close(probabilities[1], probabilities[0], rtol=0, atol=0.1)


def test_a_class_without_texts_is_known_by_its_name(fitted):
    one, two = (
        fitted(TEXTS, LABELS, ["delivery", name, "refund"]).predict_proba(["are you open on sunday"])
        for name in ("opening hours", "music")
    )
    assert np.isfinite(one).all() and np.isfinite(two).all() and not np.allclose(one, two)
