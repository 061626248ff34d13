"""The scikit-learn face: any labels, any number of classes, and messages about what cannot be fitted."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny import WORDS, tiny_corpus

from episodes import Episode
from metawarp import Init, Warp, WarpClassifier, WarpConfig
from metawarp.adaptation.adapt import trajectory
from metawarp.adaptation.start import logits_of, read_texts
from metawarp.config import InnerLoop
from metawarp.parameters import mapped, tensors_of
from metawarp.texts.task_batch import TaskBatch

TEXTS = [
    "where is my parcel",
    "it never came",
    "i want my money back",
    "please refund me",
    "the app crashes when i log in",
    "error 500 on the start page",
]
LABELS = ["delivery", "delivery", "refund", "refund", "bug", "bug"]
FRESH = ["has the courier been yet?", "can i have my money back?", "the program shows an error"]


@pytest.fixture
def init(tiny):
    """An init with an inner loop, for the tiny backbone."""
    warp = Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}"))
    return Init.start(warp, InnerLoop(2, ("adapter", "class_embeddings")), method="maml")


@pytest.fixture
def model(tiny, init):
    return WarpClassifier(init, tiny)


@pytest.fixture(scope="module")
def labelled():
    corpus = tiny_corpus(n_classes=3, n_texts=8)
    return list(corpus.texts), [corpus.class_names[label] for label in corpus.labels]


# What it is for -------------------------------------------------------------------------------------------


def test_it_learns_real_classes_from_two_texts_each(minilm):
    model = WarpClassifier(backbone=minilm).fit(TEXTS, LABELS)
    assert model.predict(FRESH).tolist() == ["delivery", "refund", "bug"]
    assert model.classes_.tolist() == ["bug", "delivery", "refund"]
    assert model.task_.class_names == ("bug", "delivery", "refund")
    assert model.score(FRESH, ["delivery", "refund", "bug"]) == 1.0
    assert model.score(FRESH, ["delivery", "refund", "refund"]) == pytest.approx(2 / 3)


def test_names_alone_make_a_classifier(minilm):
    model = WarpClassifier(backbone=minilm).fit(
        [], [], ["delivery of a parcel", "refund of money", "bug in the software"]
    )
    assert model.predict(FRESH).tolist() == ["delivery of a parcel", "refund of money", "bug in the software"]


# Labels and names -----------------------------------------------------------------------------------------


def test_string_labels_are_their_own_names(model, labelled):
    texts, labels = labelled
    model.fit(texts, labels)
    assert model.classes_.tolist() == sorted(set(labels))
    assert model.task_.class_names == tuple(sorted(set(labels)))
    assert set(model.predict(texts)) <= set(labels)


def test_integer_labels_come_back_as_integers_and_their_digits_mean_nothing(tiny, model, labelled):
    texts, names = labelled
    numbers = [{"music": 7, "bank": -1, "order": 30}[name] for name in names]
    other = [{7: 2, -1: 100, 30: 5}[n] for n in numbers]
    one, two = clone(model).fit(texts, numbers), clone(model).fit(texts, other)
    assert one.classes_.tolist() == [-1, 7, 30]
    assert one.predict(texts).dtype.kind == "i"
    # Columns are sorted by label: -1, 7, 30 here and 2, 5, 100 there.
    assert one.predict_proba(texts) == pytest.approx(two.predict_proba(texts)[:, [2, 0, 1]], abs=1e-9)


def test_integers_with_names_are_as_good_as_the_names(model, labelled):
    texts, names = labelled
    order = ["order", "music", "bank"]
    by_name = clone(model).fit(texts, names, order)
    by_list = clone(model).fit(texts, [order.index(name) for name in names], order)
    by_mapping = clone(model).fit(texts, [10 * order.index(n) for n in names], {20: "bank", 0: "order", 10: "music"})
    assert by_name.classes_.tolist() == order  # the order given, not the sorted one
    assert by_list.classes_.tolist() == [0, 1, 2]
    assert by_mapping.classes_.tolist() == [0, 10, 20]
    assert by_mapping.task_.class_names == tuple(order)
    expected = by_name.predict_proba(texts)
    assert by_list.predict_proba(texts) == pytest.approx(expected, abs=1e-12)
    assert by_mapping.predict_proba(texts) == pytest.approx(expected, abs=1e-12)


def test_strings_can_be_given_names_in_plain_words(model, labelled):
    texts, labels = labelled
    short = [label[:1] for label in labels]
    names = {"m": "music", "b": "bank", "o": "order"}
    found = clone(model).fit(texts, short, names)
    assert found.classes_.tolist() == ["b", "m", "o"]
    assert found.task_.class_names == ("bank", "music", "order")
    expected = clone(model).fit(texts, labels).predict_proba(texts)
    assert found.predict_proba(texts) == pytest.approx(expected, abs=1e-12)


def test_the_order_of_texts_and_of_classes_only_permutes(model, labelled):
    texts, labels = labelled
    expected = clone(model).fit(texts, labels)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = clone(model).fit([texts[i] for i in order], [labels[i] for i in order])
    assert shuffled.predict_proba(texts) == pytest.approx(expected.predict_proba(texts), abs=1e-9)
    reverse = clone(model).fit(texts, labels, sorted(set(labels), reverse=True))
    assert reverse.predict_proba(texts) == pytest.approx(expected.predict_proba(texts)[:, ::-1], abs=1e-9)


def test_classes_without_texts_are_known_by_their_names(minilm):
    names = ["delivery of a parcel", "refund of money", "bug in the software"]
    model = WarpClassifier(backbone=minilm).fit(TEXTS[:4], [names[0]] * 2 + [names[1]] * 2, names)
    assert model.predict(FRESH).tolist() == names
    numbers = WarpClassifier(backbone=minilm).fit(TEXTS[:4], [4, 4, 9, 9], {9: names[1], 4: names[0], 1: names[2]})
    assert numbers.predict(FRESH).tolist() == [4, 9, 1]


def test_thirty_classes_and_unequal_shots(tiny, model):
    names = [word for word in WORDS if len(word) > 3][:30]
    texts, labels = [], []
    for i, name in enumerate(names):
        texts += [f"{name} {WORDS[(i + j) % 60]} {WORDS[j]}" for j in range(1 + i % 4)]
        labels += [name] * (1 + i % 4)
    model.fit(texts, labels)
    probabilities = model.predict_proba(texts)
    assert probabilities.shape == (len(texts), 30)
    assert np.mean(model.predict(texts) == labels) > 0.2  # chance is 0.03


def test_two_classes_are_enough(model):
    assert model.fit(["play music", "cold rain"], ["music", "rain"]).predict_proba(["a"]).shape == (1, 2)


def test_texts_and_labels_come_from_lists_tuples_arrays_and_series(model, labelled):
    texts, labels = labelled
    expected = clone(model).fit(texts, labels).predict_proba(texts)
    frame = pandas.DataFrame({"text": texts, "label": labels}, index=range(100, 100 + len(texts)))
    kinds = [
        (tuple(texts), tuple(labels)),
        (np.array(texts), np.array(labels)),
        (np.array(texts, dtype=object), np.array(labels, dtype=object)),
        (frame["text"], frame["label"]),
        (frame["text"], frame["label"].astype("category")),
    ]
    for some_texts, some_labels in kinds:
        found = clone(model).fit(some_texts, some_labels)
        assert found.classes_.tolist() == sorted(set(labels))
        assert np.array_equal(found.predict_proba(some_texts), expected)


def test_integers_come_from_numpy_and_pandas_too(model, labelled):
    texts, labels = labelled
    numbers = np.unique(labels, return_inverse=True)[1]
    for some in (numbers, numbers.astype(np.int8), numbers.tolist(), list(numbers), pandas.Series(numbers)):
        found = clone(model).fit(texts, some)
        assert found.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("verbalizer", ["names", "mix"])
@pytest.mark.parametrize("labels", [[0, 1], ["0", "1"], ["-1", "+1"]], ids=str)
def test_labels_that_are_numbers_have_no_names(tiny, verbalizer, labels):
    config = WarpConfig(template="{prompt:2} {text} {mask}", verbalizer=verbalizer)
    texts = ["play the music", "the rain today"]
    found = WarpClassifier(Init.start(Warp(tiny, config), InnerLoop()), tiny).fit(texts, labels)
    by_support = Init.start(Warp(tiny, replace(config, verbalizer="support")), InnerLoop())
    order = [sorted(labels).index(label) for label in labels]
    expected = WarpClassifier(by_support, tiny).fit(texts, ["music", "rain"]).predict_proba(["music"])
    assert found.predict_proba(["music"])[:, order] == pytest.approx(expected, abs=1e-12)


# Probabilities --------------------------------------------------------------------------------------------


def test_rows_are_probabilities_and_do_not_depend_on_other_texts(model, labelled):
    texts, labels = labelled
    model.fit(texts, labels)
    many = [*texts, "rain " * 90, "a", *texts] * 6  # more than one batch, of all lengths
    probabilities = model.predict_proba(many)
    assert len(many) > 256
    assert probabilities.sum(1) == pytest.approx(np.ones(len(many)), abs=1e-12)
    assert (probabilities > 0).all()
    for i in (0, 24, 25, 299):
        assert model.predict_proba([many[i]])[0] == pytest.approx(probabilities[i], abs=1e-12)
    assert model.predict_proba(many[::-1]) == pytest.approx(probabilities[::-1], abs=1e-12)
    assert np.array_equal(model.predict(many), model.classes_[probabilities.argmax(1)])


def test_no_texts_have_no_predictions(model, labelled):
    model.fit(*labelled)
    assert model.predict([]).tolist() == []
    assert model.predict_proba([]).shape == (0, 3)


def test_steps_are_those_of_the_init_or_those_given(tiny, init, labelled):
    texts, labels = labelled
    none, two, default = (
        WarpClassifier(init, tiny, inner_steps=steps).fit(texts, labels).predict_proba(texts) for steps in (0, 2, None)
    )
    assert np.array_equal(default, two)
    assert not np.allclose(none, two)


def test_it_predicts_what_an_episode_of_the_same_texts_would(tiny, init, labelled):
    texts, labels = labelled
    classes = sorted(set(labels))
    numbers = [classes.index(label) for label in labels]
    warp = init.bind(tiny)
    episode = Episode.from_texts(classes, texts[::2], numbers[::2], texts[1::2], numbers[1::2])
    tasks = TaskBatch.encode([episode], warp.encoder)
    state = trajectory(warp, init.on(tiny), tasks, init.inner)[-1]
    with torch.no_grad():
        expected = logits_of(warp, state, read_texts(warp, state, tasks.query), tasks.query, tasks).softmax(-1)
    model = WarpClassifier(init, tiny).fit(texts[::2], labels[::2])
    assert model.predict_proba(texts[1::2]) == pytest.approx(expected.numpy(), abs=1e-9)


# scikit-learn ---------------------------------------------------------------------------------------------


def test_parameters_are_got_set_and_cloned(tiny, init):
    model = WarpClassifier(init, tiny, inner_steps=3, any_backbone=True)
    parameters = model.get_params()
    assert parameters == {
        "init": init,
        "backbone": tiny,
        "inner_steps": 3,
        "any_backbone": True,
        "device": "cpu",
        "dtype": "float32",
    }
    copy = clone(model)
    assert copy.backbone is tiny  # frozen and large: shared
    assert copy.get_params()["inner_steps"] == 3
    assert copy.set_params(inner_steps=1).inner_steps == 1
    assert model.inner_steps == 3
    assert repr(WarpClassifier(inner_steps=4)) == "WarpClassifier(inner_steps=4)"


def test_a_clone_of_a_fitted_model_is_not_fitted(model, labelled):
    with pytest.raises(NotFittedError, match=r"^This WarpClassifier instance is not fitted yet"):
        clone(model.fit(*labelled)).predict(["a"])


@pytest.mark.parametrize("call", [lambda m: m.predict(["a"]), lambda m: m.predict_proba(["a"]), lambda m: m.save("a")])
def test_what_is_not_fitted_says_so(call):
    with pytest.raises(NotFittedError, match=r"^This WarpClassifier instance is not fitted yet"):
        call(WarpClassifier())


def test_it_works_in_a_pipeline_a_cross_validation_and_a_search(model, labelled):
    texts, labels = labelled
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("model", model)])
    assert np.mean(pipeline.fit(texts, labels).predict([text.upper() for text in texts]) == labels) > 0.5
    scores = cross_val_score(pipeline, texts, labels, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()
    search = GridSearchCV(model, {"inner_steps": [0, 3]}, cv=2).fit(texts, labels)
    assert search.best_params_["inner_steps"] in (0, 3)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.inner_steps == search.best_params_["inner_steps"]
    assert search.predict(texts[:2]).shape == (2,)
    assert cross_val_score(model, np.array(texts), np.arange(24) // 8, cv=2).shape == (2,)


def test_fitting_leaves_parameters_and_init_alone_and_can_be_done_again(tiny, init, labelled):
    texts, labels = labelled
    before = mapped(init.parameters, torch.clone)
    model = WarpClassifier(init, tiny)
    first = model.fit(texts, labels).predict_proba(texts)
    model.fit(["play music", "cold rain"], [0, 1])
    assert model.classes_.tolist() == [0, 1]
    assert np.array_equal(model.fit(texts, labels).predict_proba(texts), first)
    assert model.init is init
    assert all(tensors_of(init.parameters)[name].equal(tensor) for name, tensor in tensors_of(before).items())
