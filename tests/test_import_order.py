"""Which folder may import which: one direction, no circles."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A folder, or a module beside the folders, imports only from those above it.
ORDER = [
    "episodes",
    "metawarp.errors",
    "metawarp.randomness",
    "metawarp.processes",
    "metawarp.yaml_file",
    "metawarp.outputs",
    "metawarp.output_folder",
    "metawarp.backbones",
    "metawarp.texts",
    "metawarp.config",
    "metawarp.parameters",
    "metawarp.adapters",
    "metawarp.verbalizers",
    "metawarp.read_outs",
    "metawarp.warp",
    "metawarp.adaptation",
    "metawarp.meta_learning",
    "metawarp.inits",
    "metawarp.evaluation",
    "metawarp.training",
    "metawarp.tasks",
    "metawarp.suggestions",
    "metawarp.commands",
    "metawarp.cli",
]


def modules(*folders):
    """File of each module, by its dotted name, without the contents pages."""
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py") if not file.stem.startswith("__")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}


PRODUCT = modules("episodes", "metawarp")


def imported(file):
    """Dotted names of everything that a file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in froms), f"{file} has a relative import"
    return names | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def place(name):
    """The entry of `ORDER` that a dotted name belongs to."""
    return next((entry for entry in ORDER if f"{name}.".startswith(f"{entry}.")), None)


@pytest.mark.parametrize("entry", ORDER)
def test_a_folder_imports_only_from_those_above_it(entry):
    allowed = {None, *ORDER[: ORDER.index(entry) + 1]}
    used = {name: place(name) for module, file in PRODUCT.items() if place(module) == entry for name in imported(file)}
    assert {name for name, folder in used.items() if folder not in allowed} == set()


def test_every_module_belongs_to_the_order_and_none_imports_itself_in_a_circle():
    assert {module for module in PRODUCT if place(module) is None} == set()
    graph = {}
    for module, file in PRODUCT.items():
        names = imported(file)
        graph[module] = {other for other in PRODUCT if any(f"{name}.".startswith(f"{other}.") for name in names)}
    list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_episodes_do_not_import_torch_and_the_product_does_not_import_its_benchmarks():
    packages = {module: {name.partition(".")[0] for name in imported(file)} for module, file in PRODUCT.items()}
    of_episodes = [names for module, names in packages.items() if module.startswith("episodes.")]
    assert set().union(*of_episodes).isdisjoint({"torch", "transformers", "metawarp"})
    assert set().union(*packages.values()).isdisjoint({"benchmarks", "scripts", "tests"})


def test_learn2learn_is_imported_in_one_place_and_only_when_it_is_used():
    files = modules("episodes", "metawarp", "scripts", "benchmarks").values()
    assert all("learn2learn" not in {name.partition(".")[0] for name in imported(file)} for file in files)
    by_name = [file.stem for file in files if 'import_module("learn2learn' in file.read_text(encoding="utf-8")]
    assert by_name == ["learn2learn_engine"]
