"""Which of several inits suits a task: by texts left out in turn, by the way of its prompt; the best, or their mean."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import refused
from tiny import NO_STEPS, tiny_backbone, tiny_corpus, tiny_episodes

from episodes import Episode, EpisodeSampler, InputError
from metawarp import Init, Warp, WarpClassifier, WarpConfig, train
from metawarp.adaptation.inner_loop import InnerLoop, InnerRates
from metawarp.cli import main
from metawarp.reuse.similar import LIKELIHOOD_WEIGHT, averaged, left_out_scores, models, prompt_similarities, rank
from metawarp.training.config import TrainingConfig

CONFIG = WarpConfig(template="{prompt:2} {text} {mask}", read_out="mean+mask")
TEXTS = ["play some music", "music please", "rain and cold weather", "is it warm today", "music you play"]
LABELS = ["music", "music", "weather", "weather", "music"]


@pytest.fixture(scope="module")
def inits(tiny, tmp_path_factory):
    """One that was trained on the tiny corpus, a fresh one, and one whose prompt is noise."""
    folder = tmp_path_factory.mktemp("inits")
    fresh = Init.start(Warp(tiny, CONFIG), NO_STEPS, method="prototypical")
    noise = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)) * 3
    trained = train(
        tiny_corpus(), str(folder / "trained"), backbone=tiny, n_way=2, k_shot=2, n_query=3, warp=CONFIG,
        training=TrainingConfig(steps=60, meta_batch=2, lr=0.03, validate_every=60, validation_episodes=2),
    )  # fmt: skip
    noisy = replace(fresh, tensors={**fresh.tensors, "prompt": noise})
    fresh.save(folder / "fresh")
    noisy.save(folder / "noise")
    return folder, {"fresh": fresh, "noise": noisy, "trained": trained}


def models_of(inits, backbone):
    return models(inits, dict.fromkeys(inits, backbone))


def test_the_score_is_that_of_texts_left_out_one_by_one(tiny, inits):
    _, found = inits
    init = found["trained"]
    episode = tiny_episodes(1)[0]
    scores, right = [], []
    for i in range(len(episode.support_labels)):
        texts, labels = list(episode.support_texts), episode.support_labels.tolist()
        text, label = texts.pop(i), labels.pop(i)
        model = WarpClassifier(init, tiny).fit(texts, labels, list(episode.class_names))
        probabilities = model.predict_proba([text])[0]
        scores.append(np.log(probabilities[label]))
        right.append(probabilities.argmax() == label)
    likelihood, accuracy = left_out_scores(init, init.bind(tiny), episode)
    assert likelihood == pytest.approx(np.mean(scores), abs=1e-5)
    assert accuracy == pytest.approx(np.mean(right))


def test_labels_that_are_no_names_are_not_read_as_names(tiny, inits):
    _, found = inits
    numbers = [int(label == "weather") for label in LABELS]
    model = WarpClassifier([found["fresh"], found["noise"]], tiny).fit(TEXTS, numbers)
    scores = []
    for i, label in enumerate(numbers):
        others = [row for row in range(len(TEXTS)) if row != i]
        left = WarpClassifier(found["fresh"], tiny).fit(
            [TEXTS[row] for row in others], [numbers[row] for row in others]
        )
        scores.append(np.log(left.predict_proba([TEXTS[i]])[0, label]))
    assert model.suitability_["init 0"].log_likelihood == pytest.approx(np.mean(scores), abs=1e-5)


def test_the_ranking_takes_the_steps_that_the_task_takes(tiny):
    warp = Warp(tiny, replace(CONFIG, rows="mix"))
    some = [Init.start(warp, InnerLoop(1, ("rows",)), rates=InnerRates(rows=rate)) for rate in (0.3, 0.6)]
    by_steps = [WarpClassifier(some, tiny, steps=steps).fit(TEXTS, LABELS).suitability_ for steps in (None, 1, 3)]
    likelihoods = [found["init 0"].log_likelihood for found in by_steps]
    assert likelihoods[0] == likelihoods[1] != likelihoods[2]


def test_the_ranking_is_by_both_scores(tiny, inits):
    _, found = inits
    sampler = EpisodeSampler(tiny_corpus(), 3, 3, 2)
    for i in range(3):
        ranking = rank(found, models_of(found, tiny), sampler[i])
        scores = [one.prompt_similarity + LIKELIHOOD_WEIGHT * one.log_likelihood for one in ranking.values()]
        assert scores == sorted(scores, reverse=True) and set(ranking) == set(found)


def test_a_prompt_that_went_the_way_that_tasks_ask_for_is_similar(tiny, inits):
    _, found = inits
    sampler = EpisodeSampler(tiny_corpus(), 3, 3, 2)
    two = {name: found[name] for name in ("trained", "fresh")}
    each = [prompt_similarities(two, found["trained"].bind(tiny), sampler[i])["trained"] for i in range(8)]
    assert np.mean(each) > 0.1


def test_what_all_prompts_have_learned_says_nothing_of_any(tiny, inits):
    _, found = inits
    generator = torch.Generator().manual_seed(1)
    directions = {name: torch.randn(2, 32, generator=generator) for name in "ab"}

    def similarities(common):
        fresh = found["fresh"]
        moved = {
            name: replace(fresh, tensors={**fresh.tensors, "prompt": fresh.tensors["prompt"] + own + common})
            for name, own in directions.items()
        }
        return prompt_similarities(moved, fresh.bind(tiny), tiny_episodes(1)[0])

    plain, along = similarities(0.0), similarities(5 * torch.randn(2, 32, generator=generator))
    assert plain["a"] == pytest.approx(-plain["b"], abs=1e-5) and abs(plain["a"]) > 1e-3
    assert along == pytest.approx(plain, abs=1e-4)


def test_inits_of_several_kinds_are_ranked_by_texts_left_out_alone(tiny, inits):
    _, found = inits
    other = Init.start(Warp(tiny, replace(CONFIG, template="{prompt:3} {text} {mask}")), NO_STEPS)
    some = {"trained": found["trained"], "noise": found["noise"], "other": other}
    for episode in tiny_episodes(3):
        ranking = rank(some, models_of(some, tiny), episode)
        assert [one.prompt_similarity for one in ranking.values()] == [0.0] * 3
        likelihoods = [one.log_likelihood for one in ranking.values()]
        assert likelihoods == sorted(likelihoods, reverse=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"template": "{text}", "read_out": "text"},
        {"read_out": "text"},
        {"prompt_start": "normal"},
        {"form": "pool:2"},
        {"form": "lora:2"},
    ],
    ids=["no prompt", "nobody reads it", "started from chance", "pool", "low rank"],
)
def test_a_prompt_that_says_nothing_has_no_similarity(tiny, settings):
    warp = Warp(tiny, replace(CONFIG, **settings))
    fresh = Init.start(warp, NO_STEPS)
    moved = replace(fresh, tensors={**fresh.tensors, "prompt": fresh.tensors["prompt"] + 0.1})
    some = {"fresh": fresh, "moved": moved}
    assert prompt_similarities(some, warp, tiny_episodes(1)[0]) == {"fresh": 0.0, "moved": 0.0}
    model = WarpClassifier([fresh, moved], tiny).fit(TEXTS, LABELS)
    assert set(model.suitability_) == {"init 0", "init 1"}


def test_inits_of_one_kind_share_a_model_on_the_backbone_of_each(tiny, inits, tmp_path):
    _, found = inits
    another = tiny_backbone(tmp_path, seed=1)
    abroad = Init.start(Warp(another, CONFIG), NO_STEPS)
    some = {**found, "abroad": abroad}
    shared = models(some, {**dict.fromkeys(found, tiny), "abroad": another})
    assert shared["fresh"] is shared["trained"] is not shared["abroad"]
    assert shared["abroad"].backbone is another


def test_a_classifier_picks_the_best(tiny, inits):
    folder, found = inits
    names = [str(folder / name) for name in found]
    model = WarpClassifier(names, tiny).fit(TEXTS, LABELS)
    best = next(iter(model.suitability_))
    assert set(model.suitability_) == set(names)
    assert model.task_.init.fingerprint == Init.load(best).fingerprint
    alone = WarpClassifier(best, tiny).fit(TEXTS, LABELS)
    assert model.predict_proba(TEXTS) == pytest.approx(alone.predict_proba(TEXTS))
    assert not alone.suitability_


def test_the_mean_is_weighted_by_the_likelihoods(tiny, inits, tmp_path):
    _, found = inits
    episode = Episode.from_texts(("music", "weather"), TEXTS, [int(label == "weather") for label in LABELS])
    ranking = rank(found, models_of(found, tiny), episode)
    mean = averaged(found, ranking, len(TEXTS))
    likelihood = {name: np.exp(len(TEXTS) * ranking[name].log_likelihood) for name in found}
    total = sum(likelihood.values())
    prompt = sum(likelihood[name] / total * found[name].tensors["prompt"] for name in found)
    assert torch.allclose(mean.tensors["prompt"], prompt.float(), atol=1e-5)
    model = WarpClassifier(list(found.values()), tiny, average=True).fit(TEXTS, LABELS)
    model.save(tmp_path)
    again = WarpClassifier.load(tmp_path, tiny)
    assert again.predict_proba(TEXTS) == pytest.approx(model.predict_proba(TEXTS))


def test_it_is_cloned_like_any_estimator(tiny, inits):
    from sklearn.base import clone

    folder, _ = inits
    model = WarpClassifier([str(folder / "fresh"), "general"], tiny, average=True)
    assert clone(model).get_params()["init"] == model.init
    assert copy.deepcopy(model).average


def test_the_command_ranks_a_folder(made, tmp_path, capsys):
    for name in ("one", "two"):
        Init.load(made / "init").save(tmp_path / "inits" / name)
    (tmp_path / "few.csv").write_text(
        "text,label\nplay some music,music\nmusic now,music\nrain today,weather\ncold rain,weather\n"
    )
    command = ["similar", f"--data={tmp_path}/few.csv", f"--backbone={made}/backbone"]
    main([*command, f"--inits={tmp_path}/inits", f"--init={made}/init"])
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["score", "prompt", "similarity", "log-likelihood", "accuracy", "init"]
    assert {line.split()[-1] for line in lines} == {f"{tmp_path}/inits/one", f"{tmp_path}/inits/two", f"{made}/init"}
    main([*command, f"--init=[{tmp_path}/inits/two,{made}/init]"])
    assert len(capsys.readouterr().out.splitlines()) == 3
    main(["fit", f"--init=[{tmp_path}/inits/one,{made}/init]", *command[1:], f"--output={tmp_path}/task"])
    assert "2 classes: music, weather" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, f"--init={made}/init"])
    assert capsys.readouterr() == (
        "",
        'metawarp: error: inits are ranked against each other, and 1 is named; give two at least, --init "[A,B]", or '
        "--inits with the folder that they are in.\n",
    )


def test_what_cannot_be_told_apart_or_averaged_is_refused(tiny, inits):
    _, found = inits
    alone = Episode.from_texts(("music", "weather"), ["play"], [0])
    with refused("inits are told apart by texts left out in turn; give two labelled texts at least."):
        rank(found, models_of(found, tiny), alone)
    other = Init.start(Warp(tiny, replace(CONFIG, template="{prompt:3} {text} {mask}")), NO_STEPS)
    with refused("inits of different backbones, templates, forms or inner loops have no mean; let the best be picked."):
        WarpClassifier([found["fresh"], other], tiny, average=True).fit(TEXTS, LABELS)
    with refused("init is an empty list; name one init at least, or leave it out."):
        WarpClassifier([], tiny).fit(TEXTS, LABELS)
    with refused("average is of several inits, and one came; name another, or leave it out."):
        WarpClassifier(found["fresh"], tiny, average=True).fit(TEXTS, LABELS)
    folder, _ = inits
    with refused(f"init {str(folder / 'fresh')!r} is named twice; name each once."):
        WarpClassifier([folder / "fresh", folder / "noise", str(folder / "fresh")], tiny).fit(TEXTS, LABELS)


def test_an_error_names_the_init_that_it_is_about(tiny, inits, tmp_path):
    folder, found = inits
    abroad = Init.start(Warp(tiny_backbone(tmp_path, seed=1), CONFIG), NO_STEPS)
    with pytest.raises(InputError, match="^init 1: this init was trained on backbone "):
        WarpClassifier([found["fresh"], abroad], tiny).fit(TEXTS, LABELS)
    no_names = replace(found["fresh"], warp=replace(CONFIG, rows="support"))
    no_names = Init.start(Warp(tiny, no_names.warp), NO_STEPS)
    with pytest.raises(InputError, match="^init 1: "):
        WarpClassifier([found["fresh"], no_names], tiny).fit(TEXTS[1:3], LABELS[1:3])


def test_one_init_in_a_list_is_as_it_is_alone(tiny, inits):
    _, found = inits
    one, alone = (WarpClassifier(init, tiny).fit(TEXTS[:1], LABELS[:1], ["music", "weather"])
                  for init in ([found["fresh"]], found["fresh"]))  # fmt: skip
    assert one.predict_proba(TEXTS) == pytest.approx(alone.predict_proba(TEXTS))
    assert not one.suitability_


def test_the_same_backbone_by_another_name_is_the_same(tiny, inits):
    _, found = inits
    elsewhere = replace(found["noise"], backbone={**found["noise"].backbone, "name": "elsewhere"})
    WarpClassifier([found["fresh"], elsewhere], tiny, average=True).fit(TEXTS, LABELS)
