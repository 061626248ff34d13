"""Which module may import which: one direction, no circles ."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each module imports from modules of its package further up in these lists alone. A new one gets its place here.
EPISODES = ["errors", "hub", "reading", "cleaning", "splits", "corpus", "episode", "sampler"]
METAWARP = [
    "layers",
    "architectures",
    "randomness",
    "embedded",
    "pretrained",
    "backbone",
    "encoded",
    "template",
    "held",
    "lower_layers",
    "text_features",
    "prompted_features",
    "warp",
    "conjugate_gradients",
    "regression",
    "tasks",
    "verbalizer",
    "calibration",
    "inner_loop",
    "adaptation",
    "memory",
    "outer_loss",
    "processes",
    "second_order",
    "learn2learn_engine",
    "implicit",
    "meta_gradients",
    "engines",
    "storage",
    "model_card",
    "shipped",
    "initialization",
    "evaluation",
    "run_folder",
    "trackers",
    "training_config",
    "iterates",
    "training",
    "plots",
    "baselines",
    "cost",
    "baseline_table",
    "labels",
    "classifier",
    "protocol",
    "training_data",
    "train_init",
    "evaluate_init",
    "report_plots",
    "report",
    "benchmark_plan",
    "benchmark_cells",
    "benchmark_results",
    "benchmark",
    "reuse_init",
    "cli_options",
    "cli",
]
CONTENTS_PAGE = ["__init__", "__main__"]


def imported(file):
    """Dotted names of everything that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(file):
    return {name.partition(".")[0] for name in imported(file)}


ORDERS = {"episodes": EPISODES, "metawarp": METAWARP}


@pytest.mark.parametrize("package", ORDERS)
def test_every_module_has_its_place_in_the_order(package):
    found = {file.stem for file in (ROOT / package).glob("*.py")}
    assert found - set(CONTENTS_PAGE) == set(ORDERS[package])


@pytest.mark.parametrize(("package", "module"), [(package, module) for package in ORDERS for module in ORDERS[package]])
def test_a_module_imports_only_from_below(package, module):
    names = imported(ROOT / package / f"{module}.py")
    used = {name.split(".")[1] for name in names if name.partition(".")[0] == package}
    below = ORDERS[package][: ORDERS[package].index(module)]
    assert used & set(ORDERS[package]) <= set(below), f"{module} imports {sorted(used - set(below))} from above"


def test_episodes_need_neither_torch_nor_metawarp():
    for file in (ROOT / "episodes").glob("*.py"):
        assert packages(file).isdisjoint({"torch", "transformers", "metawarp"}), file.name


def test_learn2learn_is_an_oracle_of_the_tests_alone():
    for folder in ("metawarp", "episodes", "scripts"):
        for file in (ROOT / folder).glob("*.py"):
            assert "learn2learn" not in packages(file), file
