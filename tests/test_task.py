"""A saved task where little is installed: torch, transformers, metawarp, and what the first two need themselves."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import numpy as np
import pytest
from packaging.requirements import Requirement
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
    """Distributions that some need, and those that these need, without extras."""
    found, left = set(), list(names)
    while left:
        name = left.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        try:
            needs = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:  # of another platform
            continue
        left += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def without_the_others(code):
    """Run code where nothing but torch, transformers and metawarp can be imported."""
    there = needed_by("torch", "transformers") | {"metawarp"}
    blocked = {
        module
        for module, owners in packages_distributions().items()
        if not there & {owner.lower().replace("_", "-") for owner in owners}
    }
    assert {"sklearn", "scipy", "datasets", "accelerate", "psutil", "jsonargparse", "peft", "learn2learn"} <= blocked
    assert not {"torch", "transformers", "numpy", "metawarp", "episodes"} & blocked
    return subprocess.run(
        [sys.executable, "-c", f"blocked = {sorted(blocked)!r}\n{BLOCK}\n{code}"], capture_output=True, text=True
    )


@pytest.mark.parametrize("verbalizer", [pytest.param("regression", marks=pytest.mark.slow), "mix"])
def test_it_is_loaded_and_predicts_with_torch_and_transformers_alone(tmp_path, verbalizer):
    backbone = tiny_backbone(tmp_path / "backbone", dtype="float32")
    config = WarpConfig(template="{prompt:2} {text} {mask}", read_out="text+mean+mask", verbalizer=verbalizer)
    model = WarpClassifier(Init.start(Warp(backbone, config), NO_STEPS), backbone).fit(TEXTS, LABELS)
    model.save(tmp_path / "task")
    found = without_the_others(
        f"from metawarp import Task\n"
        f"task = Task.load({str(tmp_path / 'task')!r})\n"
        f"print(task.predict_proba({TEXTS!r}).tolist(), list(map(str, task.predict({TEXTS!r}))), sep='\\n')\n"
        f"task.save({str(tmp_path / 'again')!r})"
    )
    assert found.returncode == 0, found.stderr
    probabilities, labels = found.stdout.splitlines()
    assert np.allclose(eval(probabilities), model.predict_proba(TEXTS), rtol=0, atol=1e-6)
    assert eval(labels) == model.predict(TEXTS).tolist()
    assert Task.load(tmp_path / "again").predict(TEXTS).tolist() == model.predict(TEXTS).tolist()


@pytest.mark.slow
def test_what_fits_says_what_it_lacks():
    found = without_the_others("from metawarp import WarpClassifier")
    assert "No module named 'sklearn'" in found.stderr


def test_a_classifier_is_loaded_from_what_a_task_saved_and_the_other_way_round(tiny, tmp_path):
    config = WarpConfig(template="{prompt:2} {text} {mask}", read_out="mean+mask")
    model = WarpClassifier(Init.start(Warp(tiny, config), NO_STEPS), tiny).fit(TEXTS, LABELS)
    model.task_.save(tmp_path / "one")
    loaded = WarpClassifier.load(tmp_path / "one", tiny)
    loaded.save(tmp_path / "two")
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
    with pytest.raises(AttributeError, match="^module 'metawarp' has no attribute 'Nothing'$"):
        _ = metawarp.Nothing
