"""The ranking of several inits for a task: by left-out texts, and by the similarity of their prompts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from running import failure, refused
from scipy.special import log_softmax
from tiny import NO_STEPS, tiny_backbone, tiny_corpus, tiny_episodes

from episodes import Episode, EpisodeSampler
from metawarp import Init, InnerLearningRates, TrainingConfig, Warp, WarpClassifier, WarpConfig, train
from metawarp.cli import main
from metawarp.config import InnerLoop
from metawarp.tasks.ranking import LIKELIHOOD_WEIGHT, leave_one_out, prompt_similarities, rank_inits

CONFIG = WarpConfig(template="{prompt:2} {text} {mask}", read_out="mean+mask")
TEXTS = ["play some music", "music please", "rain and cold weather", "is it warm today", "music you play"]
LABELS = ["music", "music", "weather", "weather", "music"]


def with_prompt(init, prompt):
    return replace(init, parameters=replace(init.parameters, adapter=prompt))


def warps_of(inits, backbone):
    return {name: init.bind(backbone) for name, init in inits.items()}


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """A folder with a trained init, a fresh one, and one whose prompt is noise; and these inits by name."""
    folder = tmp_path_factory.mktemp("inits")
    fresh = Init.start(Warp(tiny, CONFIG), NO_STEPS, method="prototypical")
    noise = torch.randn(fresh.parameters.adapter.shape, generator=torch.Generator().manual_seed(0)) * 3
    training = TrainingConfig(steps=60, meta_batch_size=2, lr=0.03, validate_every=60, validation_episodes=2)
    sizes: dict[str, Any] = {"n_way": 2, "k_shot": 2, "n_query": 3}
    trained = train(tiny_corpus(), str(folder / "trained"), backbone=tiny, model=CONFIG, training=training, **sizes)
    inits = {"fresh": fresh, "noise": with_prompt(fresh, noise), "trained": trained}
    for name in ("fresh", "noise"):
        inits[name].save(folder / name)
    return folder, inits


@pytest.fixture
def inits(saved):
    return saved[1]


def log_probabilities(classifier, text):
    """Those of the classes with the temperature of the init, without that of the task: (C,)."""
    return log_softmax(np.log(classifier.predict_proba([text])[0]) * classifier.adaptation_.temperature)


def test_scores_are_those_of_classifiers_without_each_text(tiny, inits):
    init, episode = inits["trained"], tiny_episodes(1)[0]
    likelihoods, correct = [], []
    for i in range(len(episode.support_labels)):
        texts, labels = list(episode.support_texts), episode.support_labels.tolist()
        text, label = texts.pop(i), labels.pop(i)
        classifier = WarpClassifier(init, tiny).fit(texts, labels, list(episode.class_names))
        logs = log_probabilities(classifier, text)
        likelihoods.append(logs[label])
        correct.append(logs.argmax() == label)
    likelihood, accuracy = leave_one_out(init, init.bind(tiny), episode)
    assert likelihood == pytest.approx(np.mean(likelihoods), abs=1e-5)
    assert accuracy == pytest.approx(np.mean(correct))


def test_integer_labels_are_not_read_as_names(tiny, inits):
    numbers = [int(label == "weather") for label in LABELS]
    classifier = WarpClassifier([inits["fresh"], inits["noise"]], tiny).fit(TEXTS, numbers)
    likelihoods = []
    for i, label in enumerate(numbers):
        texts, labels = TEXTS[:i] + TEXTS[i + 1 :], numbers[:i] + numbers[i + 1 :]
        alone = WarpClassifier(inits["fresh"], tiny).fit(texts, labels)
        likelihoods.append(log_probabilities(alone, TEXTS[i])[label])
    assert classifier.suitability_["init 0"].log_likelihood == pytest.approx(np.mean(likelihoods), abs=1e-5)


def test_the_ranking_takes_as_many_inner_steps_as_the_task(tiny):
    warp, inner = Warp(tiny, replace(CONFIG, verbalizer="mix")), InnerLoop(1, ("class_embeddings",))
    inits = [Init.start(warp, inner, rates=InnerLearningRates(class_embeddings=rate)) for rate in (0.3, 0.6)]
    fitted = [WarpClassifier(inits, tiny, adapt=steps).fit(TEXTS, LABELS) for steps in ("auto", 1, 3)]
    own, one, three = (classifier.suitability_["init 0"].log_likelihood for classifier in fitted)
    assert own == one != three


def test_the_best_sum_of_similarity_and_weighted_likelihood_comes_first(tiny, inits):
    for episode in tiny_episodes(3):
        ranking = rank_inits(inits, warps_of(inits, tiny), episode)
        scores = [one.prompt_similarity + LIKELIHOOD_WEIGHT * one.log_likelihood for one in ranking.values()]
        assert scores == sorted(scores, reverse=True)
        assert set(ranking) == set(inits)


def test_a_prompt_trained_on_such_tasks_is_similar(tiny, inits):
    sampler, two = EpisodeSampler(tiny_corpus(), 3, 3, 2), {name: inits[name] for name in ("trained", "fresh")}
    similarities = [prompt_similarities(two, warps_of(two, tiny), sampler[i])["trained"] for i in range(8)]
    assert np.mean(similarities) > 0.1


def test_what_all_prompts_have_in_common_does_not_count(tiny, inits):
    fresh, generator = inits["fresh"], torch.Generator().manual_seed(1)
    start = fresh.parameters.adapter
    own = {name: torch.randn(start.shape, generator=generator) for name in "ab"}
    common = 5 * torch.randn(start.shape, generator=generator)
    plain, moved = (
        prompt_similarities(prompts, warps_of(prompts, tiny), tiny_episodes(1)[0])
        for prompts in ({name: with_prompt(fresh, start + d + by) for name, d in own.items()} for by in (0, common))
    )
    assert plain["a"] == pytest.approx(-plain["b"], abs=1e-5)
    assert abs(plain["a"]) > 1e-3
    assert moved == pytest.approx(plain, abs=1e-4)


def test_inits_of_different_configs_are_ranked_by_likelihood_alone(tiny, inits):
    other = Init.start(Warp(tiny, replace(CONFIG, template="{prompt:3} {text} {mask}")), NO_STEPS)
    inits = {"trained": inits["trained"], "noise": inits["noise"], "other": other}
    ranking = rank_inits(inits, warps_of(inits, tiny), tiny_episodes(1)[0])
    likelihoods = [one.log_likelihood for one in ranking.values()]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert {one.prompt_similarity for one in ranking.values()} == {0.0}


UNKNOWN_START = {
    "no prompt": {"template": "{text}", "read_out": "text"},
    "not read": {"read_out": "text"},
    "noise": {"prompt_start": "normal"},
    "pool": {"adapter": "prompt_pool", "adapter_size": 2},
    "low rank": {"adapter": "lora", "adapter_size": 2},
}


@pytest.mark.parametrize("settings", UNKNOWN_START.values(), ids=UNKNOWN_START)
def test_prompts_that_cannot_be_compared_have_no_similarity(tiny, settings):
    fresh = Init.start(Warp(tiny, replace(CONFIG, **settings)), NO_STEPS)
    inits = {"fresh": fresh, "moved": with_prompt(fresh, fresh.parameters.adapter + 0.1)}
    similarities = prompt_similarities(inits, warps_of(inits, tiny), tiny_episodes(1)[0])
    assert similarities == {"fresh": 0.0, "moved": 0.0}


def test_a_classifier_takes_the_best_and_a_single_init_is_not_judged(tiny, saved):
    folder, inits = saved
    names = [str(folder / name) for name in inits]
    classifier = WarpClassifier(names, tiny).fit(TEXTS, LABELS)
    best = next(iter(classifier.suitability_))
    assert set(classifier.suitability_) == set(names)
    assert classifier.task_.init.fingerprint == Init.load(best).fingerprint
    alone = WarpClassifier([best], tiny).fit(TEXTS, LABELS)
    assert classifier.predict_proba(TEXTS) == pytest.approx(alone.predict_proba(TEXTS))
    assert not alone.suitability_


def test_the_commands_rank_a_folder_and_fit_from_the_best(made, tmp_path, capsys):
    for name in ("one", "two"):
        Init.load(made / "init").save(tmp_path / "inits" / name)
    rows = ["text,label", "play some music,music", "music now,music", "rain today,weather", "cold rain,weather"]
    (tmp_path / "few.csv").write_text("\n".join(rows))
    options = [f"--data={tmp_path}/few.csv", f"--backbone={made}/backbone"]
    main(["similar", *options, f"--inits={tmp_path}/inits", f"--init={made}/init"])
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["score", "prompt", "similarity", "log-likelihood", "accuracy", "init"]
    assert {line.split()[-1] for line in lines} == {f"{tmp_path}/inits/one", f"{tmp_path}/inits/two", f"{made}/init"}
    main(["fit", f"--init=[{tmp_path}/inits/one,{made}/init]", *options, f"--output={tmp_path}/task"])
    assert "2 classes: music, weather" in capsys.readouterr().out
    message = failure(capsys, "similar", *options, f"--init={made}/init")
    assert "at least two inits" in message and "--inits" in message


def test_inits_that_cannot_be_ranked_are_refused(tiny, saved, tmp_path):
    folder, inits = saved
    with refused("at least two labelled texts"):
        one_text = Episode.from_texts(("music", "weather"), ["play"], [0])
        rank_inits(inits, warps_of(inits, tiny), one_text)
    with refused("empty list"):
        WarpClassifier([], tiny).fit(TEXTS, LABELS)
    with refused(repr(str(folder / "fresh")), "twice"):
        WarpClassifier([folder / "fresh", folder / "noise", str(folder / "fresh")], tiny).fit(TEXTS, LABELS)
    on_another_backbone = Init.start(Warp(tiny_backbone(tmp_path, seed=1), CONFIG), NO_STEPS)
    without_names = Init.start(Warp(tiny, replace(CONFIG, verbalizer="support")), NO_STEPS)
    for init, rows in ((on_another_backbone, slice(None)), (without_names, slice(1, 3))):
        with refused("init 1: "):
            WarpClassifier([inits["fresh"], init], tiny).fit(TEXTS[rows], LABELS[rows])
