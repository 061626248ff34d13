"""One small benchmark of a tiny backbone, run once per session, which many tests share."""

import json
import os
import sys
from pathlib import Path

# As in the tests of the product: nothing is downloaded, and tiny models run in one thread.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))  # tiny backbones and runs of programs

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import yaml  # noqa: E402
from running import write_rows  # noqa: E402
from tiny import tiny_corpus, tiny_folder  # noqa: E402

from benchmarks.run import run_plan  # noqa: E402

NAMES = ("one", "other")
"""Names of the two corpora."""


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A data folder with two corpora of the same class names and splits, and a tiny backbone."""
    folder = tmp_path_factory.mktemp("data")
    tiny_folder(folder / "backbone", hidden=16)
    for seed, name in enumerate(NAMES):
        corpus = tiny_corpus(n_classes=8, seed=seed)
        (folder / name).mkdir()
        write_rows(folder / name / "data.jsonl", corpus)
        classes = list(np.random.default_rng(0).permutation(corpus.class_names))
        parts = {"train": classes[:3], "validation": classes[3:5], "test": classes[5:]}
        (folder / name / "splits.json").write_text(json.dumps(parts))
    return folder


class PlanWriter:
    """Writes plans with short trainings of the tiny backbone."""

    def __init__(self, data, folder):
        self.data, self.folder = data, folder

    def __call__(self, **changes):
        """A plan with some keys changed; returns its path."""
        training = {"steps": 2, "meta_batch_size": 1, "validate_every": 2, "validation_episodes": 2}
        content = {
            "training": {
                "backbone": str(self.data / "backbone"),
                "n_way": 3,
                "k_shot": [0, 2],
                "n_query": 2,
                "model": {"template": "{prompt:2} {text} {mask}"},
                "training": training,
            },
            "setting": {"n_way": 2, "n_query": 2, "episodes": 6},
            **changes,
        }
        file = self.folder / "plan.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return file

    def table(self, **changes):
        """A plan with one table "t" of one corpus, some of its arguments changed; returns its path."""
        table = {"title": "t", "corpora": ["one"], "settings": {"s": {}}, "contenders": {"c": {}}, "plots": []}
        return self(tables={"t": {**table, **changes}})


@pytest.fixture
def write_plan(data, tmp_path):
    """A writer of plans for the data folder."""
    return PlanWriter(data, tmp_path)


@pytest.fixture(scope="session")
def done(data, tmp_path_factory):
    """Output folder and results of a plan with every kind of contender and every figure."""
    folder = tmp_path_factory.mktemp("done")
    table = {
        "title": "Everybody",
        "corpora": list(NAMES),
        "plots": ["dots", "lines", "matrix", "reliability", "confusion", "cost"],
        "settings": {"0-shot": {"k_shot": 0}, "all": {"n_way": "all", "k_shot": 2, "wrong_labels": 0.4}},
        "contenders": {
            "trained": {"seeds": [0, 1]},
            "elsewhere": {"train_on": "others"},
            "untrained": {"meta_trained": False},
            "mask": {"baseline": "warp-mask"},
            "prototypes": {"baseline": "prototypes"},
        },
    }
    plan = PlanWriter(data, folder)(tables={"main": table}, search="by hand, on validation classes")
    return folder / "out", run_plan(plan, folder / "out", data=data)
