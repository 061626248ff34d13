"""Fitted classifiers that are saved and loaded: equal probabilities, and what is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from running import refused
from sklearn.base import clone
from tiny import tiny_backbone, tiny_corpus

from metawarp import Init, Warp, WarpClassifier, WarpConfig
from metawarp.config import InnerLoop
from metawarp.parameters import mapped

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


def plus_one(init):
    """The same init with other numbers."""
    return replace(init, parameters=mapped(init.parameters, lambda tensor: tensor + 1))


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
    init = Init.start(Warp(minilm, WarpConfig()), InnerLoop(1, ("adapter", "class_embeddings")), method="maml")
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
    with refused(tiny.name, tiny.fingerprint, other.name, other.fingerprint, "any_backbone=True"):
        WarpClassifier.load(tmp_path, other)
    assert WarpClassifier.load(tmp_path, other, any_backbone=True).predict(["a"]).shape == (1,)


def test_a_loaded_task_is_fitted_anew_from_its_init(tiny, init, labelled, tmp_path):
    texts, labels = labelled
    model = WarpClassifier(init, tiny, inner_steps=2).fit(texts, labels)
    expected = model.predict_proba(texts)
    model.save(tmp_path)
    loaded = WarpClassifier.load(tmp_path, tiny)
    assert loaded.inner_steps == 2
    refitted = clone(loaded).fit(texts, labels)
    assert np.array_equal(refitted.predict_proba(texts), expected)
    untrained = WarpClassifier(backbone=tiny).fit(texts, labels)
    assert not np.allclose(untrained.predict_proba(texts), expected)


def test_a_task_and_an_init_of_two_saves_are_refused(tiny, init, labelled, tmp_path):
    for name, start in (("one", init), ("other", plus_one(init))):
        WarpClassifier(start, tiny).fit(*labelled).save(tmp_path / name)
    shutil.rmtree(tmp_path / "one" / "fitted_from")
    shutil.copytree(tmp_path / "other" / "fitted_from", tmp_path / "one" / "fitted_from")
    with refused(str(tmp_path / "one"), "does not belong"):
        WarpClassifier.load(tmp_path / "one", tiny)


def test_a_task_fitted_on_another_backbone_belongs_to_that_one(tiny, init, labelled, tmp_path):
    texts, labels = labelled
    other = tiny_backbone(tmp_path / "other", seed=1)
    model = WarpClassifier(init, other, any_backbone=True).fit(texts, labels)
    model.save(tmp_path / "task")
    with refused(other.name, other.fingerprint, tiny.name, tiny.fingerprint, "any_backbone=True"):
        WarpClassifier.load(tmp_path / "task", tiny)
    for backbone in (other, None):  # found by its name
        loaded = WarpClassifier.load(tmp_path / "task", backbone)
        assert loaded.task_.warp.backbone.fingerprint == other.fingerprint
        assert (loaded.predict(texts) == model.predict(texts)).all()
        assert (clone(loaded).fit(texts, labels).predict(texts) == model.predict(texts)).all()


def test_saving_a_task_keeps_an_init_that_lies_there(tiny, init, model, labelled, tmp_path):
    digest = init.save(tmp_path / "init")
    other = plus_one(init)
    WarpClassifier(other, tiny).fit(*labelled).save(tmp_path)
    assert Init.load(tmp_path / "init").fingerprint == digest


def test_an_init_is_no_task_and_a_task_no_init(tiny, init, model, labelled, tmp_path):
    init.save(tmp_path / "init")
    model.fit(*labelled).save(tmp_path / "task")
    with refused(str(tmp_path / "init"), "task.safetensors"):
        WarpClassifier.load(tmp_path / "init", tiny)
    with refused(str(tmp_path / "task"), "init.safetensors"):
        WarpClassifier(tmp_path / "task", tiny).fit(*labelled)


def test_a_config_that_describes_no_task_is_refused(tiny, model, labelled, tmp_path):
    model.fit(*labelled).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["classes"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused(str(tmp_path), "'classes'"):
        WarpClassifier.load(tmp_path, tiny)


def test_an_init_comes_from_its_folder(tiny, init, model, labelled, tmp_path):
    texts, labels = labelled
    digest = init.save(tmp_path)
    found = WarpClassifier(str(tmp_path), tiny).fit(texts, labels)
    assert np.array_equal(found.predict_proba(texts), model.fit(texts, labels).predict_proba(texts))
    found.save(tmp_path / "task")
    assert json.loads((tmp_path / "task" / "config.json").read_text())["init_sha256"] == digest
