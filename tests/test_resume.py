"""Run folders: a killed run continues as if never killed, and nothing is lost without request."""

import json
from dataclasses import replace

import pytest
import torch
from running import Killed, ended, refused, started, until, write_rows
from tiny import tiny_corpus, tiny_folder

from episodes import Episode, EpisodeSampler
from metawarp import Init, Warp, WarpConfig, train
from metawarp.cli import main
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.training import outer_loop
from metawarp.training.config import TrainingConfig
from metawarp.training.outer_loop import Trainer
from metawarp.training.run_folder import read_log

CONFIG = WarpConfig(template="{prompt:2} {text} {mask}")
MIX = replace(CONFIG, read_out="mean+mask", verbalizer="mix")
SUPPORT = replace(CONFIG, read_out="mean", verbalizer="support")
FEW = TrainingConfig(steps=4, meta_batch_size=2, validate_every=2, validation_episodes=3, checkpoint_every=2)


@pytest.fixture(scope="module")
def corpus():
    return tiny_corpus()


@pytest.fixture(scope="module")
def files(corpus, tmp_path_factory):
    """A corpus and a tiny backbone, as the command line takes them."""
    folder = tmp_path_factory.mktemp("files")
    return {"corpus": str(write_rows(folder / "tiny.jsonl", corpus)), "backbone": str(tiny_folder(folder / "backbone"))}


def trainer_of(
    tiny, folder, config=FEW, *, method="anil", corpus=None, sampler=None, validation=None, model=CONFIG, **settings
):
    corpus = corpus or tiny_corpus()
    warp = Warp(tiny, model)
    return Trainer(
        Init.start(warp, METHODS[method].inner, method=method, rates=settings.pop("rates", None)),
        method,
        warp,
        sampler or EpisodeSampler(corpus, n_way=3, k_shot=2, n_query=3),
        validation or EpisodeSampler(corpus, n_way=3, k_shot=2, n_query=3, seed=1),
        config,
        folder,
        corpus_classes=corpus.class_names,
        **settings,
    )


def equal(one, other):
    """Whether the tensors of two inits, or of two dictionaries, are equal."""
    one, other = (tensors_of(each.parameters) if isinstance(each, Init) else each for each in (one, other))
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


class Same:
    """A sampler of one episode: two classes that cannot be mistaken."""

    def __getitem__(self, i):
        texts = ("play some music please", "rain and cold weather today")
        return Episode.from_texts(("music", "rain"), texts, (0, 1), texts, (0, 1))


# Resume


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps_done", [2, 5])
def test_an_interrupted_run_resumes_to_the_same_init(tiny, tmp_path, method, steps_done):
    config = replace(FEW, steps=7, lr=0.1)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    expected = trainer_of(tiny, whole, config, method=method).run()
    sampler = EpisodeSampler(tiny_corpus(), n_way=3, k_shot=2, n_query=3)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(tiny, halves, config, method=method, sampler=Killed(sampler, 2 * steps_done)).run()
    assert len(read_log(halves)) == steps_done
    found = trainer_of(tiny, halves, config, method=method).run(resume=True)
    # What a text alone is read as is kept from its first reading, beside other texts in the two runs: the last bit.
    for name, tensor in tensors_of(expected.parameters).items():
        assert torch.allclose(tensors_of(found.parameters)[name], tensor, rtol=1e-6, atol=1e-8), name
    assert found.training == expected.training
    one, other = read_log(halves), read_log(whole)
    assert [entry.pop("tasks_per_second") > 0 for entry in one + other]
    assert [pytest.approx(entry, rel=1e-9) for entry in one] == other


@pytest.mark.slow
def test_a_run_that_is_really_killed_resumes_to_the_same_file(files, tmp_path):
    options = {
        "corpus": files["corpus"],
        "backbone": files["backbone"],
        "method": "maml",
        "n-way": 2,
        "k-shot": "[1,3]",
        "n-query": 2,
        "training.steps": 40,
        "training.meta-batch-size": 2,
        "training.validate-every": 4,
        "training.validation-episodes": 3,
        "training.patience": 50,
        "training.checkpoint-every": 6,
    }
    arguments = [
        "train",
        *(f"--{name}={value}" for name, value in options.items()),
        "--model.template={prompt:2} {text} {mask}",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main([*arguments, f"--output={whole}"])
    run = started("-m", "metawarp", *arguments, f"--output={killed}")
    until((killed / "checkpoint.safetensors").exists, run)
    run.kill()
    assert ended(run)[0] == -9  # it was killed, and had not ended by itself
    assert not (killed / "init.safetensors").exists()
    steps = len(read_log(killed)) if (killed / "log.jsonl").read_bytes().endswith(b"\n") else None
    assert steps is None or 6 <= steps < 40
    main([*arguments, f"--output={killed}", "--resume"])
    for name in ("init.safetensors", "splits.json", "config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    entries, expected = read_log(killed), read_log(whole)
    assert [entry["step"] for entry in entries] == list(range(1, 41))
    assert [entry["loss"] for entry in entries] == [entry["loss"] for entry in expected]


def test_resuming_a_finished_run_changes_nothing(tiny, tmp_path):
    expected = trainer_of(tiny, tmp_path).run()
    before = read_log(tmp_path)
    assert equal(trainer_of(tiny, tmp_path).run(resume=True), expected)
    assert read_log(tmp_path) == before


def test_a_replaced_run_is_not_resumed_by_mistake(tiny, tmp_path):
    trainer_of(tiny, tmp_path).run()
    sampler = Killed(EpisodeSampler(tiny_corpus(), n_way=3, k_shot=2, n_query=3), 2)
    with pytest.raises(KeyboardInterrupt):  # after one step, before its first checkpoint
        trainer_of(tiny, tmp_path, sampler=sampler).run()
    other = tmp_path / "other"
    other.mkdir()
    expected = trainer_of(tiny, other).run()
    assert equal(trainer_of(tiny, tmp_path).run(resume=True), expected)  # from its own first step on
    assert [entry["loss"] for entry in read_log(tmp_path)] == [entry["loss"] for entry in read_log(other)]


def test_a_half_written_line_of_the_log_is_written_again(tiny, tmp_path):
    trainer_of(tiny, tmp_path, replace(FEW, steps=7)).run()
    expected = [entry["loss"] for entry in read_log(tmp_path)]
    sampler = Killed(EpisodeSampler(tiny_corpus(), n_way=3, k_shot=2, n_query=3), 10)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(tiny, tmp_path, replace(FEW, steps=7), sampler=sampler).run()
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as log:
        log.write('{"step": 6, "lo')
    trainer_of(tiny, tmp_path, replace(FEW, steps=7)).run(resume=True)
    assert [entry["loss"] for entry in read_log(tmp_path)] == pytest.approx(expected, rel=1e-9)


def test_other_settings_are_refused_and_named(tiny, tmp_path):
    trainer_of(tiny, tmp_path, record={"seed": 0, "k_shot": (1, 5)}).run()
    before = (tmp_path / "log.jsonl").read_bytes()
    changed = trainer_of(tiny, tmp_path, replace(FEW, lr=0.5), record={"seed": 1, "k_shot": (1, 5)})
    with refused(str(tmp_path), "other settings: lr, seed;"):
        changed.run(resume=True)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    trainer_of(tiny, tmp_path, record={"seed": 0, "k_shot": (1, 5)}).run(resume=True)


def test_a_run_of_another_recipe_is_not_continued(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(outer_loop, "RECIPE", 1)
    trainer_of(tiny, tmp_path).run()
    monkeypatch.undo()
    with refused("other settings: recipe;"):
        trainer_of(tiny, tmp_path).run(resume=True)


def test_without_a_checkpoint_there_is_nothing_to_resume(files, tmp_path):
    nowhere = tmp_path / "nowhere"
    arguments = {"backbone": files["backbone"], "n_way": 2, "k_shot": 1, "n_query": 2, "model": CONFIG, "training": FEW}
    with refused(str(nowhere), "checkpoint.safetensors", "resume=True"):
        train(files["corpus"], str(nowhere), resume=True, **arguments)
    assert not nowhere.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: data[:-5]])
def test_a_damaged_checkpoint_is_refused(tiny, tmp_path, damage):
    trainer_of(tiny, tmp_path).run()
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with refused(str(file), "damaged", "overwrite=True"):
        trainer_of(tiny, tmp_path).run(resume=True)


def test_a_resumed_run_must_have_the_same_classes(files, corpus, tmp_path):
    names = list(corpus.class_names)
    splits = []
    for i, order in enumerate((names, names[::-1])):
        parts = {"train": order[:2], "validation": order[2:4], "test": order[4:]}
        splits.append(tmp_path / f"splits{i}.json")
        splits[i].write_text(json.dumps(parts))
    arguments = {"backbone": files["backbone"], "n_way": 2, "k_shot": 1, "n_query": 2, "model": CONFIG, "training": FEW}
    output = tmp_path / "run"
    train(files["corpus"], str(output), splits=str(splits[0]), **arguments)
    written = (output / "splits.json").read_bytes()
    with refused("other settings: class_names;"):
        train(files["corpus"], str(output), splits=str(splits[1]), resume=True, **arguments)
    assert (output / "splits.json").read_bytes() == written


# The output folder


def test_an_earlier_run_is_replaced_on_request_only_and_other_files_survive(files, tmp_path):
    arguments = {"backbone": files["backbone"], "n_way": 2, "k_shot": 1, "n_query": 2, "model": CONFIG, "training": FEW}
    first = train(files["corpus"], str(tmp_path), **arguments)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with refused(str(tmp_path), "init.safetensors", "resume=True", "overwrite=True"):
        train(files["corpus"], str(tmp_path), seed=1, **arguments)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
    second = train(files["corpus"], str(tmp_path), seed=1, overwrite=True, **arguments)
    assert second.fingerprint == Init.load(tmp_path).fingerprint
    assert second.training["seed"] == 1 != first.training["seed"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "folder").is_dir()
    assert {file.name for file in tmp_path.iterdir()} == {*before, "folder"}


@pytest.mark.parametrize("name", ["splits.json", "log.jsonl", "init.safetensors"])
def test_files_of_something_else_are_not_replaced_even_so(files, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with refused(name, str(tmp_path), "metawarp-init", "not replaced"):
        train(files["corpus"], str(tmp_path), backbone=files["backbone"], overwrite=True)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("method", ["anil", "maml"])
def test_ways_and_shots_may_vary(files, tmp_path, method):
    corpus = tiny_corpus(n_classes=8)
    init = train(
        corpus, str(tmp_path / "run"), backbone=files["backbone"], method=method, n_way=[2, 3], k_shot=[0, 3],
        n_query=2, model=CONFIG, training=FEW,
    )  # fmt: skip
    assert init.training["steps_run"] == 4


@pytest.mark.parametrize("name", ["README.md", "config.json", "checkpoint.safetensors"])
def test_files_are_replaced_on_request_only(files, tmp_path, name):
    (tmp_path / name).write_text("mine")
    resume = ["resume=True"] if name.startswith("checkpoint") else []
    with refused(str(tmp_path), name, *resume, "overwrite=True"):
        train(files["corpus"], str(tmp_path), backbone=files["backbone"])
    assert (tmp_path / name).read_text() == "mine"


def test_what_a_run_leaves_behind(files, tmp_path):
    trained = train(
        files["corpus"], str(tmp_path / "a" / "run"), backbone=files["backbone"], n_way=2, k_shot=(1, 2), n_query=2,
        model=CONFIG, training=FEW,
    )  # fmt: skip
    names = {"README.md", "checkpoint.safetensors", "config.json", "init.safetensors", "log.jsonl", "splits.json"}
    assert {file.name for file in (tmp_path / "a" / "run").iterdir()} == names
    splits = json.loads((tmp_path / "a" / "run" / "splits.json").read_text(encoding="utf-8"))
    assert {part: len(splits[part]) for part in splits} == trained.training["classes"]
    assert trained.training["k_shot"] == (1, 2)
    assert trained.training["steps_run"] == 4
