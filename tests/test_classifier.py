"""The scikit-learn classifier: labels of any kind, any number of classes, probabilities and parameters."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
from classifiers import LABELS, NEW_TEXTS, REAL_LABELS, REAL_TEXTS, TEXTS, tiny_classifier
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny import query_logits
from tiny_tokenizers import WORDS

from episodes import Episode
from metawarp import Init, Warp, WarpClassifier, WarpConfig
from metawarp.config import InnerLoop
from metawarp.parameters import mapped, tensors_of

CLASSES = ["bank", "music", "order"]
NOT_FITTED = "^This WarpClassifier instance is not fitted yet"


@pytest.fixture
def model(tiny) -> WarpClassifier:
    """A classifier that is not fitted, from an init with two inner steps."""
    return tiny_classifier(tiny)


def test_two_texts_per_class_are_enough_for_real_classes(minilm):
    model = WarpClassifier(backbone=minilm).fit(REAL_TEXTS, REAL_LABELS)
    assert model.predict(NEW_TEXTS).tolist() == ["delivery", "refund", "bug"]
    assert tuple(model.classes_) == model.task_.class_names == ("bug", "delivery", "refund")
    assert model.score(NEW_TEXTS, ["delivery", "refund", "refund"]) == pytest.approx(2 / 3)


# Labels and names -----------------------------------------------------------------------------------------


def test_integers_without_names_are_labels_whose_digits_mean_nothing(tiny):
    one, two = (
        tiny_classifier(tiny).fit(TEXTS, [numbers[label] for label in LABELS])
        for numbers in ({"bank": -1, "music": 7, "order": 30}, {"bank": 100, "music": 2, "order": 5})
    )
    assert one.classes_.tolist() == [-1, 7, 30]
    assert one.predict(TEXTS).dtype.kind == "i"
    assert one.predict_proba(TEXTS) == pytest.approx(two.predict_proba(TEXTS)[:, [2, 0, 1]], abs=1e-9)


ORDER = ["order", "music", "bank"]
NAMED = {
    "strings and a list": (LABELS, ORDER, CLASSES),
    "integers and a list": ([ORDER.index(label) for label in LABELS], ORDER, [0, 1, 2]),
    "integers and a mapping": (
        [10 * ORDER.index(label) for label in LABELS],
        {20: "bank", 0: "order", 10: "music"},
        [0, 10, 20],
    ),
    "strings and a mapping": (
        ["zyx"[ORDER.index(label)] for label in LABELS],
        {"x": "bank", "z": "order", "y": "music"},
        ["x", "y", "z"],
    ),
}


@pytest.mark.parametrize("kind", NAMED)
def test_named_labels_are_as_good_as_the_names_themselves(tiny, model, kind):
    labels, names, classes = NAMED[kind]
    model.fit(TEXTS, labels, names)
    assert model.classes_.tolist() == classes
    assert list(model.task_.class_names) == (CLASSES if isinstance(classes[0], str) else ORDER)
    columns = [CLASSES.index(name) for name in model.task_.class_names]
    expected = tiny_classifier(tiny).fit(TEXTS, LABELS).predict_proba(TEXTS)[:, columns]
    assert model.predict_proba(TEXTS) == pytest.approx(expected, abs=1e-9)


def test_the_order_of_the_texts_changes_nothing(tiny, model):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = tiny_classifier(tiny).fit([TEXTS[i] for i in order], [LABELS[i] for i in order])
    expected = model.fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert shuffled.predict_proba(TEXTS) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n_with_texts", [0, 2])
def test_classes_without_texts_are_recognized_by_their_names(minilm, n_with_texts):
    names = ["delivery of a parcel", "refund of money", "bug in the software"]
    texts, labels = REAL_TEXTS[: 2 * n_with_texts], [0, 0, 1, 1][: 2 * n_with_texts]
    by_name = WarpClassifier(backbone=minilm).fit(texts, [names[label] for label in labels], names)
    assert by_name.predict(NEW_TEXTS).tolist() == names
    numbers = WarpClassifier(backbone=minilm).fit(texts, labels, {1: names[1], 0: names[0], -1: names[2]})
    assert numbers.predict(NEW_TEXTS).tolist() == [0, 1, -1]


def test_thirty_classes_and_unequal_shots_can_be_fitted(model):
    names = [word for word in WORDS if len(word) > 3][:30]
    labels = [name for i, name in enumerate(names) for _ in range(1 + i % 4)]
    texts = [f"{name} {WORDS[(names.index(name) + j) % 60]} {WORDS[j % 4]}" for j, name in enumerate(labels)]
    model.fit(texts, labels)
    assert model.predict_proba(texts).shape == (len(texts), 30)
    assert np.mean(model.predict(texts) == labels) > 0.2  # chance is 0.03


FRAME = pandas.DataFrame({"text": TEXTS, "label": LABELS}, index=range(100, 100 + len(TEXTS)))
NUMBERS = np.unique(LABELS, return_inverse=True)[1]


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (tuple(TEXTS), tuple(LABELS)),
        (np.array(TEXTS), np.array(LABELS)),
        (np.array(TEXTS, dtype=object), np.array(LABELS, dtype=object)),
        (FRAME["text"], FRAME["label"]),
        (FRAME["text"], FRAME["label"].astype("category")),
    ],
    ids=["tuples", "arrays", "arrays of objects", "series", "categories"],
)
def test_texts_and_labels_may_be_any_sequence(tiny, model, texts, labels):
    expected = tiny_classifier(tiny).fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert np.array_equal(model.fit(texts, labels).predict_proba(texts), expected)
    assert model.classes_.tolist() == CLASSES


@pytest.mark.parametrize("labels", [NUMBERS, NUMBERS.astype(np.int8), list(NUMBERS), pandas.Series(NUMBERS)], ids=type)
def test_integers_may_come_from_numpy_and_pandas(model, labels):
    assert model.fit(TEXTS, labels).classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("verbalizer", ["names", "mix"])
@pytest.mark.parametrize("labels", [[0, 1], ["0", "1"], ["-1", "+1"]], ids=str)
def test_labels_that_are_numbers_have_no_names(tiny, verbalizer, labels):
    config = WarpConfig(template="{prompt:2} {text} {mask}", verbalizer=verbalizer)
    texts = ["play the music", "the rain today"]
    model = WarpClassifier(Init.start(Warp(tiny, config), InnerLoop()), tiny).fit(texts, labels)
    by_support = Init.start(Warp(tiny, replace(config, verbalizer="support")), InnerLoop())
    order = [sorted(labels).index(label) for label in labels]
    expected = WarpClassifier(by_support, tiny).fit(texts, ["music", "rain"]).predict_proba(["music"])
    assert model.predict_proba(["music"])[:, order] == pytest.approx(expected, abs=1e-12)


# Probabilities --------------------------------------------------------------------------------------------


def test_rows_are_probabilities_and_do_not_depend_on_other_texts(model):
    model.fit(TEXTS, LABELS)
    many = [*TEXTS, "rain " * 90, "a", *TEXTS] * 6  # more than one batch, of all lengths
    probabilities = model.predict_proba(many)
    assert len(many) > 256
    assert probabilities.sum(1) == pytest.approx(np.ones(len(many)), abs=1e-12)
    assert (probabilities > 0).all()
    for i in (0, 24, 25, 299):
        assert model.predict_proba([many[i]])[0] == pytest.approx(probabilities[i], abs=1e-12)
    assert model.predict_proba(many[::-1]) == pytest.approx(probabilities[::-1], abs=1e-12)
    assert np.array_equal(model.predict(many), model.classes_[probabilities.argmax(1)])


def test_no_texts_have_no_predictions(model):
    model.fit(TEXTS, LABELS)
    assert model.predict([]).tolist() == []
    assert model.predict_proba([]).shape == (0, 3)


def test_the_number_of_inner_steps_is_that_of_the_init_or_the_given_one(tiny, model):
    none, two, default = (
        WarpClassifier(model.init, tiny, adapt=steps).fit(TEXTS, LABELS).predict_proba(TEXTS)
        for steps in ("none", 2, "auto")
    )
    assert np.array_equal(default, two)
    assert not np.allclose(none, two)


def test_a_classifier_predicts_what_an_episode_of_the_same_texts_would(tiny, model):
    init, labels = model.init, [CLASSES.index(label) for label in LABELS]
    assert isinstance(init, Init)
    episode = Episode.from_texts(CLASSES, TEXTS[::2], labels[::2], TEXTS[1::2], labels[1::2])
    (logits,) = query_logits(init.bind(tiny), init.on(tiny), [episode], init.inner)
    found = model.fit(TEXTS[::2], LABELS[::2]).predict_proba(TEXTS[1::2])
    assert found == pytest.approx(logits.softmax(-1).numpy(), abs=1e-9)


# scikit-learn ---------------------------------------------------------------------------------------------


def test_parameters_are_read_set_and_cloned(tiny, model):
    model = WarpClassifier(model.init, tiny, adapt=3, any_backbone=True)
    options = {"adapt": 3, "any_backbone": True, "device": "cpu", "dtype": "float32", "prompt": None}
    options |= {"reject": None, "unknown": "unknown"}
    assert model.get_params() == {"init": model.init, "backbone": tiny, **options}
    copy = clone(model)
    assert isinstance(copy, WarpClassifier)
    assert copy.backbone is tiny  # frozen and large: shared
    assert (copy.adapt, copy.set_params(adapt=1).adapt, model.adapt) == (3, 1, 3)
    assert repr(WarpClassifier(adapt=4)) == "WarpClassifier(adapt=4)"


@pytest.mark.parametrize("call", [lambda m: m.predict(["a"]), lambda m: m.predict_proba(["a"]), lambda m: m.save("a")])
def test_a_classifier_must_be_fitted_before_it_predicts_or_is_saved(model, call):
    for unfitted in (WarpClassifier(), clone(model.fit(TEXTS, LABELS))):
        with pytest.raises(NotFittedError, match=NOT_FITTED):
            call(unfitted)


def test_it_works_in_a_pipeline_a_cross_validation_and_a_search(model):
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("model", model)])
    assert np.mean(pipeline.fit(TEXTS, LABELS).predict([text.upper() for text in TEXTS]) == LABELS) > 0.5
    for labels in (LABELS, NUMBERS):
        scores = cross_val_score(pipeline, TEXTS, labels, cv=2)
        assert scores.shape == (2,) and np.isfinite(scores).all()
    search = GridSearchCV(model, {"adapt": [0, 3]}, cv=2).fit(TEXTS, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.adapt == search.best_params_["adapt"] in (0, 3)
    assert search.predict(TEXTS[:2]).shape == (2,)


def test_fitting_again_starts_from_the_unchanged_init(model):
    init = model.init
    assert isinstance(init, Init)
    before = tensors_of(mapped(init.parameters, lambda tensor: tensor.clone()))
    first = model.fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert model.fit(["play music", "cold rain"], [0, 1]).classes_.tolist() == [0, 1]
    assert np.array_equal(model.fit(TEXTS, LABELS).predict_proba(TEXTS), first)
    assert model.init is init
    assert all(before[name].equal(tensor) for name, tensor in tensors_of(init.parameters).items())
