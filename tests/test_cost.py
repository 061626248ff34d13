"""What a task costs: read anew, whatever was read before."""

from pathlib import Path

import pytest
import torch
from tiny import tiny_corpus, tiny_model

from episodes import EpisodeSampler
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.evaluation.baseline_table import BASELINES, Bench
from metawarp.evaluation.baselines import SentenceEncoder
from metawarp.evaluation.cost import cost_of, numbers_a_task, peak_megabytes
from metawarp.evaluation.scores import metawarp_predictor
from metawarp.inits.init import Init

NO_STEPS, PROMPTS_TOO = InnerLoop(0, ()), InnerLoop(1, ("prompt", "rows"))


def test_texts_are_read_for_the_cost_though_they_have_been_read_before(tiny, monkeypatch):
    warp, state = tiny_model(tiny, NO_STEPS)
    sampler = EpisodeSampler(tiny_corpus(), 2, 1, 2, 0)
    episodes = [sampler[i] for i in range(3)]
    predictor = metawarp_predictor(warp, state, NO_STEPS)
    before = [scores.tolist() for scores in predictor(episodes)]
    read, real = [], warp.prompted._pass
    monkeypatch.setattr(warp.prompted, "_pass", lambda p, some, task: (read.append(len(some)), real(p, some, task))[1])
    list(predictor(episodes))
    assert not read  # all of it is held
    cost = cost_of(predictor, episodes)
    texts = [{*e.class_names, *e.support_texts, *e.query_texts} for e in episodes]
    assert sum(read) >= sum(map(len, texts))
    assert cost["seconds_a_task"] > 0
    assert [scores.tolist() for scores in predictor(episodes)] == before  # what was held still is


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux says how much memory was needed")
def test_the_peak_is_that_of_the_work():
    held = [torch.ones(1_000) for _ in range(50_000)]  # 200 MB of small pieces, which are free then
    del held
    megabytes = peak_megabytes(lambda: torch.ones(20_000_000))
    assert 60 < megabytes < 160  # of 80


def test_numbers_are_rows_and_the_prompt_where_it_moves(tiny):
    warp, _ = tiny_model(tiny, NO_STEPS)
    assert numbers_a_task(warp, NO_STEPS, 3) == 3 * warp.row_size
    prompt = warp.encoder.prompt_length * tiny.embedding_size
    assert numbers_a_task(warp, PROMPTS_TOO, 3) == 3 * warp.row_size + prompt


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_knows_what_it_keeps(tiny, name):
    warp, _ = tiny_model(tiny, PROMPTS_TOO)
    bench = Bench(warp, Init.start(warp, PROMPTS_TOO), range(1, 2), None, SentenceEncoder(tiny, 64))
    one, two = (BASELINES[name].numbers(bench, ways) for ways in (1, 2))
    a_class = {
        "logistic-regression": tiny.hidden_size + 1,
        "setfit": tiny.hidden_size + 1,
        "warp-random": warp.row_size,
        "warp-mask": warp.row_size,
    }.get(name, tiny.hidden_size)
    assert two - one == a_class
    prompt = warp.encoder.prompt_length * tiny.embedding_size
    shared = {"setfit": sum(weights.numel() for weights in tiny.model.parameters())}
    assert one - a_class == shared.get(name, prompt if name.startswith("warp-") else 0)
