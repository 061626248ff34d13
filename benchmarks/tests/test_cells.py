"""Cells: which init they read, what their keys depend on, and what they may learn from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import refused
from tiny import NO_STEPS, tiny_corpus, tiny_folder

from benchmarks.run import run_plan
from benchmarks.runner.corpora import load_corpus, reduced_corpus
from benchmarks.runner.keys import cell_key, reader_key, training_key
from benchmarks.runner.measurement import Reader
from benchmarks.runner.plan import Contender, Setting
from benchmarks.runner.wrong_labels import WrongLabels
from benchmarks.tests.test_plan import cells
from episodes import EpisodeSampler
from metawarp import Backbone, Init, Warp, WarpConfig
from metawarp.adaptation.temperature import Temperature


def only_cell(write_plan, **contender):
    (cell,) = cells(write_plan.table(contenders={"c": contender}))
    return cell


def saved_init(folder, backbone, **config):
    """Save a fresh init on a backbone; returns its folder."""
    Init.start(Warp(Backbone.load(backbone), WarpConfig(**config)), NO_STEPS).save(folder)
    return str(folder)


def test_an_untrained_contender_is_the_start_of_its_own_training(write_plan, data, tmp_path):
    noise = {"model": {"prompt_start": "normal"}}
    plan = write_plan.table(contenders={"c": {"meta_trained": False, "seeds": [0, 1], "training": noise}})
    one, other = (Reader.of(cell, data, tmp_path).init.parameters.adapter for cell in cells(plan))
    assert not one.equal(other)


def test_settings_change_steps_shots_and_labels(write_plan, data, tmp_path):
    settings = {"as trained": {}, "no step": {"inner_steps": 0}}
    anil = {"method": "anil", "model": {"verbalizer": "mix", "template": "{text} {mask}"}}
    plan = write_plan.table(settings=settings, contenders={"c": {"training": anil}})
    corpora = run_plan(plan, tmp_path / "out", data=data)["tables"]["t"]["corpora"]
    adapted, unchanged = (corpora["one"][name]["contenders"]["c"] for name in settings)
    assert adapted["init_sha256"] == unchanged["init_sha256"]
    assert adapted.get("reliability") != unchanged.get("reliability")
    sampler = Setting(n_way=2, k_shot=(1, 4), balanced=False, n_query=2).sampler(load_corpus("one", data)[1].test)
    assert len({int(shots) for i in range(9) for shots in sampler[i].shots}) > 2


def test_an_existing_init_is_measured_and_not_trained(done, write_plan, data, tmp_path):
    trained = next((done[0] / "trainings").iterdir())
    contenders = {"init": {"init": str(trained)}, "mask": {"baseline": "warp-mask", "init": str(trained)}}
    results = run_plan(write_plan.table(contenders=contenders), tmp_path / "out", data=data)
    measured = results["tables"]["t"]["corpora"]["one"]["s"]["contenders"]
    assert measured["init"]["init_sha256"] == measured["mask"]["init_sha256"] == [Init.load(trained).fingerprint]
    assert not (tmp_path / "out" / "trainings").exists()


def test_an_init_is_read_on_its_own_backbone_and_baselines_do_not_depend_on_it(write_plan, data, tmp_path):
    init = saved_init(tmp_path / "init", tiny_folder(tmp_path / "backbone", seed=5))
    contenders = {"init": {"init": init}, "prototypes": {"baseline": "prototypes"}}
    results = run_plan(write_plan.table(contenders=contenders), tmp_path / "out", data=data)
    measured = results["tables"]["t"]["corpora"]["one"]["s"]["contenders"]
    assert len(measured["init"]["init_sha256"][0]) == 64
    assert measured["prototypes"]["init_sha256"] == [""]


def test_the_dtype_of_a_contender_is_used_for_training_and_reading(write_plan, data, tmp_path):
    half = only_cell(write_plan, meta_trained=False, training={"dtype": "bfloat16"})
    assert Reader.of(half, data, tmp_path).backbone.dtype == torch.bfloat16
    assert training_key(half, data) != training_key(only_cell(write_plan), data)
    baseline, in_half = (
        only_cell(write_plan, baseline="prototypes", training=training) for training in ({}, {"dtype": "bfloat16"})
    )
    assert reader_key(baseline, data) != reader_key(in_half, data)


def test_keys_change_with_the_init_and_not_with_the_device(write_plan, data, tmp_path):
    init = saved_init(tmp_path / "a", data / "backbone", max_length=40)
    replace(Init.load(init), temperature=Temperature(base=1.0)).save(tmp_path / "b")
    a, b = (only_cell(write_plan, init=str(tmp_path / name)) for name in "ab")
    assert cell_key(a, data) != cell_key(b, data)
    plain, truncated = (only_cell(write_plan, baseline="prototypes", **of) for of in ({}, {"init": init}))
    assert cell_key(plain, data) != cell_key(truncated, data)
    other = saved_init(tmp_path / "c", tiny_folder(tmp_path / "other", seed=5))
    assert cell_key(plain, data) != cell_key(only_cell(write_plan, baseline="prototypes", init=other), data)
    here, there = (only_cell(write_plan, training=where) for where in ({}, {"max_tokens": 99, "device": "cuda"}))
    assert training_key(here, data) == training_key(there, data)


def test_a_smaller_selection_of_classes_and_texts_is_part_of_a_larger_one(data):
    corpus, split = load_corpus("one", data)
    texts = {}
    for contender in (Contender(classes=2, texts=5), Contender(classes=2), Contender(texts=5), Contender()):
        smaller, names = reduced_corpus(corpus, split, contender)
        assert {part: names[part] for part in ("validation", "test")} == {
            part: split.names()[part] for part in ("validation", "test")
        }
        assert set(smaller.class_names) == {name for part in names.values() for name in part}
        trained = smaller.select_classes(names["train"])
        assert np.bincount(trained.labels).tolist() == [contender.texts or 12] * (contender.classes or 3)
        texts[contender.classes, contender.texts] = set(trained.texts)
    assert texts[2, 5] < texts[2, None] < texts[None, None]
    assert texts[2, 5] < texts[None, 5] < texts[None, None]
    assert reduced_corpus(corpus, split, Contender())[0].fingerprint == corpus.fingerprint


def test_a_smaller_corpus_keeps_its_domains(tmp_path):
    corpus, split = load_corpus("everyday", tmp_path)
    smaller, _ = reduced_corpus(corpus, split, Contender(classes=12, texts=5))
    domain_of = dict(zip(corpus.class_names, corpus.domains, strict=True))
    assert smaller.n_classes < corpus.n_classes
    assert smaller.domains == tuple(domain_of[name] for name in smaller.class_names)


def test_a_share_of_the_support_texts_has_the_label_of_another_class():
    right = EpisodeSampler(tiny_corpus(), n_way=4, k_shot=5, n_query=2)
    wrong = WrongLabels(right, 0.2)
    for i in range(20):
        one, other = right[i], wrong[i]
        assert (one.support_labels != other.support_labels).sum() == 4
        assert set(other.support_labels.tolist()) <= set(range(4))
        assert one.support.tolist() == other.support.tolist()
        assert one.query_labels.tolist() == other.query_labels.tolist()
        assert other.support_labels.tolist() == wrong[i].support_labels.tolist()
    assert WrongLabels(right, 0.0)[3].support_labels.tolist() == right[3].support_labels.tolist()


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_out_of_range_is_refused(share):
    with refused(f"wrong_labels={share}"):
        WrongLabels(EpisodeSampler(tiny_corpus(), n_way=2, k_shot=1, n_query=1), share)
