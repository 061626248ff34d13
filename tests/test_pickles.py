"""Copies and pickles of fitted classifiers are small, and find their backbone again."""

import copy
import pickle
from collections import OrderedDict
from multiprocessing import get_context
from pathlib import Path

import joblib
import numpy as np
import pytest
from classifiers import LABELS, TEXTS
from running import refused
from tiny import tiny_folder

from metawarp import Backbone, WarpClassifier


@pytest.fixture
def folder(tmp_path):
    return tiny_folder(tmp_path / "backbone")


@pytest.fixture
def fitted(folder):
    model = WarpClassifier("general", str(folder)).fit(TEXTS, LABELS)
    model.predict(["some text"] * 1000)
    return model


def test_a_pickle_holds_neither_backbone_nor_predicted_texts(fitted):
    data = pickle.dumps(fitted)
    assert len(data) < 20_000
    assert b"some text" not in data
    again = pickle.loads(data)
    assert np.array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    assert again.task_.warp.backbone.model is fitted.task_.warp.backbone.model


def test_a_deep_copy_shares_the_backbone(fitted):
    again = copy.deepcopy(fitted)
    assert np.array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    assert again.task_.warp.backbone is fitted.task_.warp.backbone
    assert again.task_.parameters.class_embeddings is not fitted.task_.parameters.class_embeddings


def _predicted(file):
    return joblib.load(file).predict_proba(TEXTS)


def test_another_process_loads_the_backbone_again(fitted, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    relative = WarpClassifier("general", Backbone.load("backbone")).fit(TEXTS, LABELS)
    joblib.dump(relative, tmp_path / "model.joblib")
    assert (tmp_path / "model.joblib").stat().st_size < 20_000
    monkeypatch.chdir("/")
    with get_context("spawn").Pool(1) as pool:
        assert np.allclose(pool.apply(_predicted, (tmp_path / "model.joblib",)), fitted.predict_proba(TEXTS), atol=1e-6)


def test_a_pickle_whose_backbone_changed_is_refused(fitted, folder, monkeypatch):
    data = pickle.dumps(fitted)
    monkeypatch.setattr("metawarp.backbones.store.BACKBONES._loaded", OrderedDict())
    tiny_folder(folder, seed=5)
    with refused(str(folder), "another one"):
        pickle.loads(data)
    monkeypatch.setattr("metawarp.backbones.store.BACKBONES._loaded", OrderedDict())
    folder.rename(Path(f"{folder}-moved"))
    with refused(str(folder)):
        pickle.loads(data)
