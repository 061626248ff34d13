"""Fitted classifiers that are saved and loaded: equal probabilities, and the folders that are refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from running import refused
from sklearn.base import clone
from tiny import tiny_backbone, tiny_corpus
from trainings import MODEL

from metawarp import Init, Warp, WarpClassifier, WarpConfig
from metawarp.config import GROUPS, InnerLoop
from metawarp.parameters import mapped

CORPUS = tiny_corpus(n_classes=3, n_texts=8)
TEXTS, LABELS = list(CORPUS.texts), [CORPUS.class_names[label] for label in CORPUS.labels]


@pytest.fixture
def init(tiny):
    """An init with an inner loop, for the tiny backbone."""
    return Init.start(Warp(tiny, MODEL), InnerLoop(2, GROUPS), method="maml")


@pytest.fixture
def fitted(tiny, init):
    return WarpClassifier(init, tiny).fit(TEXTS, LABELS)


@pytest.fixture
def other(tmp_path):
    """Another backbone of the same shape."""
    return tiny_backbone(tmp_path / "backbone", seed=1)


def plus_one(init):
    """The same init with other numbers."""
    return replace(init, parameters=mapped(init.parameters, lambda tensor: tensor + 1))


def refitted(model: WarpClassifier) -> WarpClassifier:
    """A copy with the same settings, fitted again."""
    copy = clone(model)
    assert isinstance(copy, WarpClassifier)
    return copy.fit(TEXTS, LABELS)


@pytest.mark.parametrize("labels", [LABELS, [len(label) for label in LABELS]], ids=["strings", "integers"])
def test_a_loaded_task_gives_equal_probabilities(tiny, init, tmp_path, labels):
    model = WarpClassifier(init, tiny).fit(TEXTS, labels)
    model.save(tmp_path)
    loaded = WarpClassifier.load(tmp_path, tiny)
    assert np.array_equal(loaded.predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert np.array_equal(loaded.predict(TEXTS), model.predict(TEXTS))
    assert loaded.classes_.dtype.kind == model.classes_.dtype.kind
    assert loaded.task_.class_names == model.task_.class_names


def test_a_saved_task_is_small_and_finds_its_backbone_by_name(minilm, tmp_path):
    init = Init.start(Warp(minilm, WarpConfig()), InnerLoop(1, GROUPS), method="maml")
    model = WarpClassifier(init, minilm).fit(TEXTS[::8], LABELS[::8])
    model.save(tmp_path)
    files = {str(file.relative_to(tmp_path)): file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()}
    files_of_init = {"fitted_from/config.json", "fitted_from/init.safetensors", "fitted_from/README.md"}
    assert files.keys() == {".lock", "config.json", "task.safetensors", *files_of_init}
    assert sum(files.values()) < 100_000
    loaded = WarpClassifier.load(tmp_path)
    assert loaded.task_.warp.backbone.fingerprint == minilm.fingerprint
    assert loaded.predict_proba(TEXTS[:3]) == pytest.approx(model.predict_proba(TEXTS[:3]), abs=1e-6)


def test_a_loaded_task_is_fitted_again_from_its_init(tiny, init, tmp_path):
    model = WarpClassifier(init, tiny, adapt=2).fit(TEXTS, LABELS)
    model.save(tmp_path)
    loaded = WarpClassifier.load(tmp_path, tiny)
    assert loaded.adapt == 2
    assert np.array_equal(refitted(loaded).predict_proba(TEXTS), model.predict_proba(TEXTS))
    untrained = WarpClassifier(backbone=tiny).fit(TEXTS, LABELS)
    assert not np.allclose(untrained.predict_proba(TEXTS), model.predict_proba(TEXTS))


def test_an_init_is_loaded_from_its_folder_and_named_in_the_task(tiny, init, fitted, tmp_path):
    digest = init.save(tmp_path)
    model = WarpClassifier(str(tmp_path), tiny).fit(TEXTS, LABELS)
    assert np.array_equal(model.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    model.save(tmp_path / "task")
    assert json.loads((tmp_path / "task" / "config.json").read_text())["init_sha256"] == digest


def test_saving_a_task_keeps_an_init_in_the_same_folder(tiny, init, tmp_path):
    digest = init.save(tmp_path / "init")
    WarpClassifier(plus_one(init), tiny).fit(TEXTS, LABELS).save(tmp_path)
    assert Init.load(tmp_path / "init").fingerprint == digest


# Other backbones ----------------------------------------------------------------------------------------------


def test_a_task_of_another_backbone_is_refused_unless_allowed(tiny, other, fitted, tmp_path):
    fitted.save(tmp_path)
    with refused(tiny.name, tiny.fingerprint, other.name, other.fingerprint, "any_backbone=True"):
        WarpClassifier.load(tmp_path, other)
    assert WarpClassifier.load(tmp_path, other, any_backbone=True).predict(["a"]).shape == (1,)


def test_a_task_that_was_fitted_on_another_backbone_is_loaded_with_that_backbone(tiny, other, init, tmp_path):
    model = WarpClassifier(init, other, any_backbone=True).fit(TEXTS, LABELS)
    model.save(tmp_path / "task")
    with refused(other.name, other.fingerprint, tiny.name, tiny.fingerprint, "any_backbone=True"):
        WarpClassifier.load(tmp_path / "task", tiny)
    for backbone in (other, None):  # None: the backbone is found by its name
        loaded = WarpClassifier.load(tmp_path / "task", backbone)
        assert loaded.task_.warp.backbone.fingerprint == other.fingerprint
        for same in (loaded, refitted(loaded)):
            assert np.array_equal(same.predict(TEXTS), model.predict(TEXTS))


# Unusable folders ---------------------------------------------------------------------------------------------


def test_a_task_with_the_init_of_another_task_is_refused(tiny, init, fitted, tmp_path):
    fitted.save(tmp_path / "one")
    WarpClassifier(plus_one(init), tiny).fit(TEXTS, LABELS).save(tmp_path / "other")
    shutil.rmtree(tmp_path / "one" / "fitted_from")
    shutil.copytree(tmp_path / "other" / "fitted_from", tmp_path / "one" / "fitted_from")
    with refused(str(tmp_path / "one"), "does not belong"):
        WarpClassifier.load(tmp_path / "one", tiny)


def test_an_init_is_not_loaded_as_a_task_nor_a_task_as_an_init(tiny, init, fitted, tmp_path):
    init.save(tmp_path / "init")
    fitted.save(tmp_path / "task")
    with refused(str(tmp_path / "init"), "task.safetensors"):
        WarpClassifier.load(tmp_path / "init", tiny)
    with refused(str(tmp_path / "task"), "init.safetensors"):
        WarpClassifier(tmp_path / "task", tiny).fit(TEXTS, LABELS)


def test_a_config_without_the_classes_is_refused(tiny, fitted, tmp_path):
    fitted.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["classes"], config["config_sha256"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused(str(tmp_path), "'classes'"):
        WarpClassifier.load(tmp_path, tiny)
