"""Which module may import which: one direction, no circles."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each module imports from modules of its package further up in these lists alone. A new one gets its place here.
EPISODES = ["errors", "hub", "reading", "cleaning", "splits", "corpus", "episode", "sampler"]
FOLDERS = {
    "backbones": [
        "content_attention",
        "family",
        "bert",
        "distilbert",
        "albert",
        "mpnet",
        "deberta",
        "modernbert",
        "architectures",
        "embedded",
        "pretrained",
        "backbone",
        "shared",
    ],
    "texts": ["encoded", "template", "cache", "lower_layers", "text_features"],
    "forms": [
        "form",
        "input_prompt",
        "deep_prompt",
        "prefix",
        "prompt_pool",
        "own_weights",
        "weights",
        "low_rank",
        "forms",
    ],
    "model": ["config", "prompted_features", "replaced_words", "warp"],
    "adaptation": [
        "randomness",
        "conjugate_gradients",
        "regression",
        "tasks",
        "verbalizer",
        "temperature",
        "inner_loop",
        "memory",
        "adapt",
    ],
    "meta_learning": [
        "outer_loss",
        "sharing",
        "regularizers",
        "second_order",
        "learn2learn_engine",
        "implicit",
        "meta_gradients",
        "engines",
    ],
    "inits": ["storage", "model_card", "shipped", "hub", "start", "init", "peft_adapter"],
    "evaluation": ["calibration", "scores", "baselines", "cost", "baseline_table", "protocol", "evaluate", "plots"],
    "training": [
        "run_folder",
        "trackers",
        "reparameterization",
        "config",
        "iterates",
        "outer_loop",
        "learning_curve",
        "data",
        "train",
    ],
    "reuse": ["labels", "onnx_export", "task", "similar", "starts", "classifier", "files"],
    "benchmark": ["report_plots", "report", "plan", "plan_file", "keys", "cells", "results", "run"],
    "commands": ["options", "experiments", "tasks", "listings"],
}
METAWARP = [
    "processes",
    "outputs",
    *(f"{folder}.{module}" for folder, modules in FOLDERS.items() for module in modules),
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


def modules_in(package):
    """Dotted name within the package -> file, contents pages aside."""
    folder = ROOT / package
    files = [file for file in folder.rglob("*.py") if file.stem not in CONTENTS_PAGE]
    return {".".join(file.relative_to(folder).with_suffix("").parts): file for file in files}


ORDERS = {"episodes": EPISODES, "metawarp": METAWARP}


@pytest.mark.parametrize("package", ORDERS)
def test_every_module_has_its_place_in_the_order(package):
    assert set(modules_in(package)) == set(ORDERS[package])


@pytest.mark.parametrize(("package", "module"), [(package, module) for package in ORDERS for module in ORDERS[package]])
def test_a_module_imports_only_from_below(package, module):
    names = imported(modules_in(package)[module])
    used = {one for one in ORDERS[package] for name in names if f"{name}.".startswith(f"{package}.{one}.")}
    below = ORDERS[package][: ORDERS[package].index(module)]
    assert used <= set(below), f"{module} imports {sorted(used - set(below))} from above"


@pytest.mark.parametrize("module", METAWARP)
def test_modules_name_what_they_import_by_where_it_is(module):
    names = {name for name in imported(modules_in("metawarp")[module]) if name.startswith("metawarp")}
    assert {name for name in names if not any(name.startswith(f"metawarp.{one}") for one in METAWARP)} == set()


def test_episodes_need_neither_torch_nor_metawarp():
    for file in modules_in("episodes").values():
        assert packages(file).isdisjoint({"torch", "transformers", "metawarp"}), file.name


def test_learn2learn_is_imported_in_one_place_and_not_before_it_is_asked_for():
    files = [file for folder in ("metawarp", "episodes", "scripts") for file in modules_in(folder).values()]
    assert all("learn2learn" not in packages(file) for file in files)
    by_name = [file.stem for file in files if 'import_module("learn2learn' in file.read_text(encoding="utf-8")]
    assert by_name == ["learn2learn_engine"]
