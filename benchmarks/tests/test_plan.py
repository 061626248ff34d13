"""Plans: what a YAML file means, which cells a table has, and what is refused."""

from dataclasses import MISSING, fields
from inspect import signature

import pytest
from running import refused

from benchmarks.record import PLANS
from benchmarks.runner.cell import cells_of
from benchmarks.runner.plan import Setting, TrainingArguments
from benchmarks.runner.plan_file import read_plan
from metawarp.meta_learning.table import inner_loop
from metawarp.training.train import train


def cells(plan):
    return list(cells_of(read_plan(plan).tables["t"]))


def test_training_arguments_are_those_of_train_with_the_same_defaults():
    parameters = signature(train).parameters
    for field in fields(TrainingArguments):
        assert field.default is not MISSING
        expected = parameters[field.name].default
        assert field.default == expected or expected is None, field.name


def test_a_contender_changes_single_training_arguments(write_plan):
    contenders = {"c": {"training": {"n_query": 3, "training": {"lr": 0.5}, "model": {"verbalizer": "mix"}}}}
    (cell,) = cells(write_plan.table(contenders=contenders))
    arguments = cell.contender.training
    assert (arguments.n_query, arguments.n_way, arguments.k_shot) == (3, 3, (0, 2))
    assert (arguments.training.lr, arguments.training.steps) == (0.5, 2)
    assert (arguments.model.verbalizer, arguments.model.template) == ("mix", "{prompt:2} {text} {mask}")


def test_settings_start_from_the_common_one(write_plan):
    (cell,) = cells(write_plan.table(settings={5: {"k_shot": [1, 4], "balanced": False}}))
    assert cell.setting == Setting(n_way=2, k_shot=(1, 4), balanced=False, n_query=2, episodes=6)
    assert cell.setting_name == "5"


def test_others_are_all_corpora_of_the_table_but_the_tested_one(write_plan):
    plan = write_plan.table(corpora=["one", "other"], contenders={"c": {"train_on": "others"}})
    assert {cell.corpus: cell.train_on for cell in cells(plan)} == {"one": ("other",), "other": ("one",)}


def test_there_is_one_cell_for_each_template_and_seed(write_plan):
    templates = ["{prompt:2} {text} {mask}", "{text} {mask}"]
    plan = write_plan.table(contenders={"c": {"templates": templates, "seeds": [3, 4]}})
    used = [(cell.contender.training.model.template, cell.seed) for cell in cells(plan)]
    assert used == [(template, seed) for template in templates for seed in (3, 4)]


def test_a_baseline_that_needs_support_texts_has_no_cell_without_them(write_plan):
    contenders = {name: {"baseline": name} for name in ("prototypes", "prototypes+names")}
    plan = write_plan.table(settings={"0": {"k_shot": 0}, "1": {"k_shot": 1}}, contenders=contenders)
    used = {(cell.setting_name, cell.contender_name) for cell in cells(plan)}
    assert used == {("0", "prototypes+names"), ("1", "prototypes+names"), ("1", "prototypes")}


WRONG_PLANS = [
    ({"table": {}}, ("'table' is unknown", "'tables'")),
    ({"setting": {"way": 5}}, ("setting", "'way' is unknown", "'n_way'")),
    ({"setting": {"n_way": "every"}}, ("setting", "n_way", "'all'", "'every'")),
    ({"setting": {"k_shot": [1, 2, 3]}}, ("setting", "k_shot")),
    ({"setting": {"episodes": 1}}, ("setting", "episodes=1")),
    ({"setting": {"episodes": 1e9, "seed": "x"}}, ("setting", "episodes", "1000000000.0", "seed", "'x'")),
    ({"tables": {"t": {"title": "x"}}}, ("'tables.t.corpora' is missing", "tables.t.settings", "tables.t.contenders")),
    ({"tables": ["t"]}, ("tables", "['t']")),
    ({"tables": {"t": []}}, ("tables.t", "[]")),
]
WRONG_TABLES = [
    ({"settings": ["s"]}, ("tables.t.settings", "['s']")),
    ({"settings": {"s": "5-way"}}, ("tables.t.settings.s", "5-way")),
    ({"contenders": {"c": [1]}}, ("tables.t.contenders.c", "[1]")),
    ({"contenders": {"c": {"baseline": "bm25"}}}, ("table 't'", "contenders.c", "bm25", "prototypes")),
    ({"contenders": {"c": {"seeds": []}}}, ("contenders.c", "seeds=[]")),
    ({"contenders": {"c": {"seeds": 3}}}, ("contenders.c.seeds", "valid list", "3")),
    ({"contenders": {"c": {"train_on": "one"}}}, ("contenders.c.train_on", "valid list", "'one'")),
    ({"contenders": {"c": {"train_on": "others"}}}, ("table 't'", "train_on='others'", "c", "one")),
    ({"contenders": {"c": {"init": "general", "texts": 5}}}, ("contenders.c", "init='general'", "texts")),
    ({"contenders": {"c": {"training": {"backbon": 1}}}}, ("contenders.c.training.backbon", "'backbone'")),
    ({"contenders": {"c": {"training": {"model": {"verbaliser": 1}}}}}, ("training.model.verbaliser", "'verbalizer'")),
    ({"contenders": {"c": {"training": {"training": {"lr": -1}}}}}, ("contenders.c.training.training", "lr=-1")),
    ({"contenders": {"c": {"training": {"training": {"steps": "x", "lr": "y"}}}}}, ("steps", "'x'", "lr", "'y'")),
    ({"corpora": "one"}, ("table 't'", "corpora", "valid list", "'one'")),
    ({"compare_with": "d"}, ("table 't'", "compare_with='d'", "c")),
    ({"plots": ["pie"]}, ("tables.t.plots.0", "dots", "'pie'")),
]


@pytest.mark.parametrize(("changes", "facts"), WRONG_PLANS)
def test_a_wrong_plan_is_refused(write_plan, changes, facts):
    with refused(*facts):
        read_plan(write_plan(**changes))


@pytest.mark.parametrize(("changes", "facts"), WRONG_TABLES)
def test_a_wrong_table_is_refused(write_plan, changes, facts):
    with refused(*facts):
        read_plan(write_plan.table(**changes))


def test_a_file_that_is_no_plan_is_named(tmp_path):
    with refused(str(tmp_path / "none.yaml"), "No such file"):
        read_plan(tmp_path / "none.yaml")


@pytest.mark.parametrize("file", sorted(PLANS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_plans_of_the_repository_can_be_read(file):
    for table in read_plan(file).tables.values():
        assert list(cells_of(table))
        for contender in table.contenders.values():
            inner_loop(contender.training.method)


def test_no_two_plans_of_the_repository_have_a_table_of_the_same_name():
    names = [name for file in PLANS.glob("*.yaml") for name in read_plan(file).tables]
    assert len(names) == len(set(names))  # recorded results and documentation find them by name
