"""The scikit-learn face: any labels, any number of classes, and messages about what cannot be fitted."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from running import refused
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny import WORDS, tiny_backbone, tiny_corpus

from metawarp import Init, Warp, WarpClassifier, WarpConfig
from metawarp.adaptation.adapt import read
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.adaptation.tasks import TaskBatch

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
    return Init.start(warp, InnerLoop(2, ("prompt", "rows")), method="maml")


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
        WarpClassifier(init, tiny, steps=steps).fit(texts, labels).predict_proba(texts) for steps in (0, 2, None)
    )
    assert np.array_equal(default, two)
    assert not np.allclose(none, two)


def test_it_predicts_what_an_episode_of_the_same_texts_would(tiny, init, labelled):
    from episodes import Episode
    from metawarp.adaptation.adapt import task_logits, trajectory

    texts, labels = labelled
    classes = sorted(set(labels))
    numbers = [classes.index(label) for label in labels]
    warp = init.bind(tiny)
    episode = Episode.from_texts(classes, texts[::2], numbers[::2], texts[1::2], numbers[1::2])
    tasks = TaskBatch.encode([episode], warp.encoder)
    state = trajectory(warp, init.to(tiny), tasks, init.inner)[-1]
    with torch.no_grad():
        expected = task_logits(warp, state, read(warp, state, tasks.query), tasks.query, tasks).softmax(-1).numpy()
    model = WarpClassifier(init, tiny).fit(texts[::2], labels[::2])
    assert model.predict_proba(texts[1::2]) == pytest.approx(expected, abs=1e-9)


# scikit-learn ---------------------------------------------------------------------------------------------


def test_parameters_are_got_set_and_cloned(tiny, init):
    model = WarpClassifier(init, tiny, steps=3, any_backbone=True)
    parameters = model.get_params()
    assert parameters == {
        "init": init,
        "backbone": tiny,
        "steps": 3,
        "average": False,
        "any_backbone": True,
        "device": "cpu",
        "dtype": "float32",
    }
    copy = clone(model)
    assert copy.backbone is tiny  # frozen and large: shared
    assert copy.get_params()["steps"] == 3
    assert copy.set_params(steps=1).steps == 1
    assert model.steps == 3
    assert repr(WarpClassifier(steps=4)) == "WarpClassifier(steps=4)"


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
    search = GridSearchCV(model, {"steps": [0, 3]}, cv=2).fit(texts, labels)
    assert search.best_params_["steps"] in (0, 3)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.steps == search.best_params_["steps"]
    assert search.predict(texts[:2]).shape == (2,)
    assert cross_val_score(model, np.array(texts), np.arange(24) // 8, cv=2).shape == (2,)


def test_fitting_leaves_parameters_and_init_alone_and_can_be_done_again(tiny, init, labelled):
    texts, labels = labelled
    before = {name: tensor.clone() for name, tensor in init.tensors.items()}
    model = WarpClassifier(init, tiny)
    first = model.fit(texts, labels).predict_proba(texts)
    model.fit(["play music", "cold rain"], [0, 1])
    assert model.classes_.tolist() == [0, 1]
    assert np.array_equal(model.fit(texts, labels).predict_proba(texts), first)
    assert model.init is init
    assert all(init.tensors[name].equal(tensor) for name, tensor in before.items())


# Save and load --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["strings", "integers"])
def test_a_loaded_task_gives_equal_probabilities(tiny, model, labelled, tmp_path, kind):
    texts, labels = labelled
    labels = labels if kind == "strings" else [len(label) for label in labels]
    model.fit(texts, labels)
    model.save(tmp_path / "task")
    loaded = WarpClassifier.load(tmp_path / "task", tiny)
    assert np.array_equal(loaded.predict_proba(texts), model.predict_proba(texts))
    assert np.array_equal(loaded.predict(texts), model.predict(texts))
    assert loaded.classes_.dtype.kind == model.classes_.dtype.kind
    assert loaded.task_.class_names == model.task_.class_names


def test_a_saved_task_is_kilobytes_and_finds_its_backbone_by_name(minilm, tmp_path):
    init = Init.start(Warp(minilm, WarpConfig()), InnerLoop(1, ("prompt", "rows")), method="maml")
    model = WarpClassifier(init, minilm).fit(TEXTS, LABELS)
    model.save(tmp_path)
    files = {str(file.relative_to(tmp_path)): file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()}
    of_the_init = {"fitted_from/config.json", "fitted_from/init.safetensors", "fitted_from/README.md"}
    assert files.keys() == {"config.json", "task.safetensors", *of_the_init}
    assert sum(files.values()) < 100_000
    loaded = WarpClassifier.load(tmp_path)  # "minilm"
    assert loaded.task_.warp.backbone.fingerprint == minilm.fingerprint
    assert loaded.predict_proba(FRESH) == pytest.approx(model.predict_proba(FRESH), abs=1e-6)


def test_a_task_of_another_backbone_is_refused(tiny, model, labelled, tmp_path):
    model.fit(*labelled).save(tmp_path)
    other = tiny_backbone(tmp_path / "other", seed=1)
    with refused(
        f"this init was trained on backbone {tiny.name!r} ({tiny.fingerprint}), not on {other.name!r} "
        f"({other.fingerprint}); load that one, or allow another with --any-backbone (any_backbone=True)."
    ):
        WarpClassifier.load(tmp_path, other)
    assert WarpClassifier.load(tmp_path, other, any_backbone=True).predict(["a"]).shape == (1,)


def test_a_loaded_task_is_fitted_anew_from_its_init(tiny, init, labelled, tmp_path):
    texts, labels = labelled
    model = WarpClassifier(init, tiny, steps=2).fit(texts, labels)
    expected = model.predict_proba(texts)
    model.save(tmp_path)
    loaded = WarpClassifier.load(tmp_path, tiny)
    assert loaded.steps == 2
    refitted = clone(loaded).fit(texts, labels)
    assert np.array_equal(refitted.predict_proba(texts), expected)
    untrained = WarpClassifier(backbone=tiny).fit(texts, labels)
    assert not np.allclose(untrained.predict_proba(texts), expected)


def test_a_task_and_an_init_of_two_saves_are_refused(tiny, init, labelled, tmp_path):
    for name, start in (("one", init), ("other", replace(init, tensors={k: t + 1 for k, t in init.tensors.items()}))):
        WarpClassifier(start, tiny).fit(*labelled).save(tmp_path / name)
    shutil.rmtree(tmp_path / "one" / "fitted_from")
    shutil.copytree(tmp_path / "other" / "fitted_from", tmp_path / "one" / "fitted_from")
    with refused(f"the task in {str(tmp_path / 'one')!r} was not made from the init in it; fit it anew."):
        WarpClassifier.load(tmp_path / "one", tiny)


def test_a_task_fitted_on_another_backbone_belongs_to_that_one(tiny, init, labelled, tmp_path):
    texts, labels = labelled
    other = tiny_backbone(tmp_path / "other", seed=1)
    model = WarpClassifier(init, other, any_backbone=True).fit(texts, labels)
    model.save(tmp_path / "task")
    with refused(
        f"this init was trained on backbone {other.name!r} ({other.fingerprint}), not on {tiny.name!r} "
        f"({tiny.fingerprint}); load that one, or allow another with --any-backbone (any_backbone=True)."
    ):
        WarpClassifier.load(tmp_path / "task", tiny)
    for backbone in (other, None):  # found by its name
        loaded = WarpClassifier.load(tmp_path / "task", backbone)
        assert loaded.task_.warp.backbone.fingerprint == other.fingerprint
        assert (loaded.predict(texts) == model.predict(texts)).all()
        assert (clone(loaded).fit(texts, labels).predict(texts) == model.predict(texts)).all()


@pytest.mark.parametrize("rows", ["names", "mix"])
@pytest.mark.parametrize("labels", [[0, 1], ["0", "1"], ["-1", "+1"]], ids=str)
def test_labels_that_are_numbers_have_no_names(tiny, rows, labels):
    init = Init.start(Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}", rows=rows)), InnerLoop(0, ()))
    texts = ["play the music", "the rain today"]
    found = WarpClassifier(init, tiny).fit(texts, labels)
    by_support = replace(init, warp=replace(init.warp, rows="support"))
    by_support = replace(by_support, tensors={k: t for k, t in init.tensors.items() if k != "name_weight"})
    order = [sorted(labels).index(label) for label in labels]
    expected = WarpClassifier(by_support, tiny).fit(texts, ["music", "rain"]).predict_proba(["music"])
    assert found.predict_proba(["music"])[:, order] == pytest.approx(expected, abs=1e-12)


def test_steps_of_an_init_without_inner_loop_are_refused(tiny):
    with refused("steps is 2, but an init learned by 'none' has no inner loop; leave it out."):
        WarpClassifier(backbone=tiny, steps=2).fit(["a", "b"], ["x", "y"])


def test_saving_a_task_keeps_an_init_that_lies_there(tiny, init, model, labelled, tmp_path):
    digest = init.save(tmp_path / "init")
    other = replace(init, tensors={name: tensor + 1 for name, tensor in init.tensors.items()})
    WarpClassifier(other, tiny).fit(*labelled).save(tmp_path)
    assert Init.load(tmp_path / "init").fingerprint == digest


def test_an_init_is_no_task_and_a_task_no_init(tiny, init, model, labelled, tmp_path):
    init.save(tmp_path / "init")
    model.fit(*labelled).save(tmp_path / "task")
    with refused(
        f"'{tmp_path / 'init'}' holds no task.safetensors; "
        "a saved task is a folder with config.json and task.safetensors."
    ):
        WarpClassifier.load(tmp_path / "init", tiny)
    with refused(
        f"'{tmp_path / 'task'}' holds no init.safetensors; "
        "a saved init is a folder with config.json and init.safetensors."
    ):
        WarpClassifier(tmp_path / "task", tiny).fit(*labelled)


def test_a_config_that_describes_no_task_is_refused(tiny, model, labelled, tmp_path):
    model.fit(*labelled).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["classes"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused(f"{str(tmp_path)!r} does not hold a whole task ('classes')."):
        WarpClassifier.load(tmp_path, tiny)


def test_an_init_comes_from_its_folder(tiny, init, model, labelled, tmp_path):
    texts, labels = labelled
    digest = init.save(tmp_path)
    found = WarpClassifier(str(tmp_path), tiny).fit(texts, labels)
    assert np.array_equal(found.predict_proba(texts), model.fit(texts, labels).predict_proba(texts))
    found.save(tmp_path / "task")
    assert json.loads((tmp_path / "task" / "config.json").read_text())["init_sha256"] == digest


# Bad input ------------------------------------------------------------------------------------------------

TEXT_ROWS = "the list of texts: texts must be strings that are not empty, but {}; fill in or remove these rows."

BAD_FITS = {
    "one string": (("a text", ["a"]), "one text came where a list of texts is needed: ['a text']."),
    "no texts": ((None, ["a"]), "a NoneType came where a list of texts is needed."),
    "no labels": ((["a text"], None), "a NoneType came where a list of labels is needed, one for each text."),
    "one label": ((["a text"], "a"), "a str came where a list of labels is needed, one for each text."),
    "lengths": (
        (["a text", "another"], ["a"]),
        "fit got 2 texts and 1 labels; it needs one label for each text.",
    ),
    "one class": (
        (["a text", "another"], ["a", "a"]),
        "a classifier needs 2 classes at least; this task has 1: ['a'].",
    ),
    "a data frame": (
        (pandas.DataFrame({"text": ["a text", "another"]}), ["a", "b"]),
        'a DataFrame came where a list of texts is needed; give one column, such as table["text"].',
    ),
    "a mapping": (
        ({"text": ["a text"], "label": ["a"]}, ["a", "b"]),
        'a dict came where a list of texts is needed; give one column, such as table["text"].',
    ),
    "nothing": (([], []), "a classifier needs 2 classes at least; this task has 0: []."),
    "empty texts": (
        (["a text", "", " \n"], ["a", "b", "b"]),
        TEXT_ROWS.format("row 2 is empty, row 3 is empty"),
    ),
    "missing texts": (
        (["a text", None, math.nan, 5], ["a", "b", "b", "a"]),
        TEXT_ROWS.format("row 2 is missing, row 3 is missing, row 4 is of type int"),
    ),
    "missing texts in a series": (
        (pandas.Series(["a text", None, "b"]), ["a", "b", "b"]),
        TEXT_ROWS.format("row 2 is missing"),
    ),
    "mixed labels": (
        (["a text", "another"], ["a", 1]),
        "labels must be all strings or all integers; these are of type int, str.",
    ),
    "missing labels": (
        (["a text", "another"], ["a", None]),
        "labels must be all strings or all integers; these are of type NoneType, str.",
    ),
    "labels that are not a number": (
        (["a text", "another"], ["a", math.nan]),
        "labels must be all strings or all integers; these are of type float, str.",
    ),
    "floats": (
        (["a text", "another"], np.array([0.0, 1.0])),
        "labels must be all strings or all integers; these are of type float.",
    ),
    "booleans": (
        (["a text", "another"], [True, False]),
        "labels must be all strings or all integers; these are of type bool.",
    ),
    "unknown strings": (
        (["a text", "another"], ["a", "c"], ["a", "b"]),
        "labels ['c'] are not among the class names given: ['a', 'b'].",
    ),
    "unknown integers": (
        (["a text", "another"], [0, 2], ["a", "b"]),
        "labels [2] are not among the class names given: [0, 1].",
    ),
    "not in the mapping": (
        (["a text", "another"], [0, 1], {0: "a", 5: "b"}),
        "labels [1] are not among the class names given: [0, 5].",
    ),
    "one string for names": (
        ([], [], "ab"),
        "one class name came where a list of names is needed: ['ab'].",
    ),
    "a mapping of mixed labels": (
        ([], [], {0: "a", "x": "b"}),
        "labels must be all strings or all integers; these are of type int, str.",
    ),
    "names twice": (([], [], ["a", "b", "a"]), "The task: these class names stand twice: 'a'."),
    "an empty name": (([], [], ["a", " "]), "The task: the class names with these indices are empty: 1."),
    "a name that is none": (([], [], {0: "a", 1: None}), "The task: the class names with these indices are empty: 1."),
}


@pytest.mark.parametrize("name", BAD_FITS)
def test_what_cannot_be_fitted_is_refused(model, name):
    arguments, message = BAD_FITS[name]
    with refused(message):
        model.fit(*arguments)


def test_what_cannot_be_predicted_is_refused(model, labelled):
    model.fit(*labelled)
    with refused("one text came where a list of texts is needed: ['rain']."):
        model.predict("rain")
    with refused(TEXT_ROWS.format("row 2 is empty, row 3 is missing")):
        model.predict_proba(["a", "", None])


def test_negative_steps_are_refused(tiny, init, labelled):
    with refused("inner steps are -1; they cannot be negative."):
        WarpClassifier(init, tiny, steps=-1).fit(*labelled)


UNUSUAL = [
    "👩‍👩‍👧‍👦 🇺🇳 😀",
    "مرحبا بالعالم",
    "\u202bשלום\u202c עולם",
    "bell \x07 nul \x00 escape \x1b[31m",
    "\u200b",
    "[MASK] [SEP] {text} {mask}",
    "word " * 100_000,
]


@pytest.mark.parametrize("text", UNUSUAL, ids=range(len(UNUSUAL)))
def test_unusual_texts_and_names_work(minilm, text):
    model = WarpClassifier(backbone=minilm).fit([text, "cold rain"], ["odd", "weather"])
    probabilities = model.predict_proba([text, "it rains", "a"])
    assert np.isfinite(probabilities).all()
    assert probabilities[0].argmax() == 0
    named = WarpClassifier(backbone=minilm).fit(["some text", "cold rain"], [f"odd {text}", "weather"])
    assert named.predict(["it rains all day, what a weather"]).tolist() == ["weather"]
    assert np.isfinite(named.predict_proba([text])).all()


def test_names_that_the_tokenizer_does_not_know_are_refused(minilm):
    model = WarpClassifier(backbone=minilm)
    message = (
        "the backbone's tokenizer knows no part of these class names: {}; name the classes in words that it knows."
    )
    with refused(message.format(r"'🌧', '\u200b'")):
        model.fit(["cold rain"], ["weather"], ["🌧", "weather", "\u200b"])
    with refused(message.format("'🌧'")):
        model.fit(["play music", "cold rain"], ["music", "🌧"])
    model.fit(["play music", "cold rain"], ["music", "🌧"], {"music": "music", "🌧": "weather 🌧"})
    assert model.predict(["it rains"]).tolist() == ["🌧"]


def test_a_warning_says_how_many_texts_lose_their_end(tiny, caplog):
    texts = ["rain " * 200, "bank card", "sun " * 300]
    WarpClassifier("untrained", tiny).fit(texts, ["weather", "money", "weather"])
    room = 128 - 2
    assert caplog.messages == [
        f"2 of 3 texts are longer than {room} tokens and lose their end (max_length is 128, template included); "
        "with a stride they are read in windows"
    ]
