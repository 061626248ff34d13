"""A saved task is loaded and predicts where only torch, transformers, pydantic and metawarp are installed."""

import json
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import numpy as np
import pytest
from marks import slow
from packaging.requirements import Requirement
from running import process
from tiny import NO_STEPS, tiny_backbone

from metawarp import Init, Task, Warp, WarpClassifier, WarpConfig

TEXTS, LABELS = ["play some music", "music please", "cold rain", "is it warm today"], ["music", "music", "rain", "rain"]

BLOCK = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def needed_by(*names):
    """Names of some distributions and of all that they require, without extras."""
    found, left = set(), list(names)
    while left:
        name = left.pop().lower().replace("_", "-")
        if name not in found:
            found.add(name)
            try:
                needs = [Requirement(line) for line in requires(name) or ()]
            except PackageNotFoundError:  # of another platform
                continue
            left += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def in_small_installation(code, *arguments):
    """A finished process of code that can import nothing but torch, transformers, pydantic and what these require, and
    metawarp."""
    allowed = needed_by("torch", "transformers", "pydantic") | {"metawarp"}
    blocked = {
        module
        for module, owners in packages_distributions().items()
        if not allowed & {owner.lower().replace("_", "-") for owner in owners}
    }
    assert {"sklearn", "scipy", "datasets", "accelerate", "psutil", "jsonargparse", "peft"} <= blocked
    assert not {"torch", "transformers", "numpy", "metawarp", "episodes"} & blocked
    return process(*arguments, code=f"blocked = {sorted(blocked)!r}\n{BLOCK}\n{code}")


def fitted(backbone, **config):
    config = WarpConfig(template="{prompt:2} {text} {mask}", **config)
    return WarpClassifier(Init.start(Warp(backbone, config), NO_STEPS), backbone).fit(TEXTS, LABELS)


@pytest.mark.parametrize("verbalizer", [slow("regression"), "mix"])
def test_a_task_predicts_in_a_small_installation(tmp_path, verbalizer):
    model = fitted(tiny_backbone(tmp_path / "backbone", dtype="float32"), verbalizer=verbalizer)
    model.save(tmp_path / "task")
    code = (
        "import json; from metawarp import Task\n"
        "task, texts = Task.load(sys.argv[1]), json.loads(sys.argv[3])\n"
        "print(json.dumps([task.predict_proba(texts).tolist(), task.predict(texts).tolist()]))\n"
        "task.save(sys.argv[2])\n"
    )
    found = in_small_installation(code, tmp_path / "task", tmp_path / "again", json.dumps(TEXTS))
    assert found.returncode == 0, found.stderr
    probabilities, labels = json.loads(found.stdout)
    assert np.allclose(probabilities, model.predict_proba(TEXTS), rtol=0, atol=1e-6)
    assert labels == model.predict(TEXTS).tolist() == Task.load(tmp_path / "again").predict(TEXTS).tolist()


@pytest.mark.slow
def test_a_classifier_names_the_package_that_it_lacks():
    assert "No module named 'sklearn'" in in_small_installation("from metawarp import WarpClassifier").stderr


def test_tasks_and_classifiers_load_the_files_of_each_other(tiny, tmp_path):
    model = fitted(tiny)
    model.task_.save(tmp_path / "one")
    WarpClassifier.load(tmp_path / "one", tiny).save(tmp_path / "two")
    for name in ("one", "two"):
        task = Task.load(tmp_path / name, tiny)
        assert np.array_equal(task.predict_proba(TEXTS), model.predict_proba(TEXTS))
        assert task.class_names == ("music", "rain")
        assert repr(task) == f"<Task of 2 classes on {tiny!r}>"


def test_every_public_name_is_there():
    import metawarp

    for name in metawarp.__all__:
        assert getattr(metawarp, name).__module__.startswith(("metawarp.", "episodes."))
        assert name in dir(metawarp)
    with pytest.raises(AttributeError, match="'metawarp' has no attribute 'Nothing'"):
        _ = metawarp.Nothing
