"""What a task costs is measured as for texts that were never read before."""

from pathlib import Path

import pytest
import torch
from tiny import NO_STEPS, tiny_corpus, tiny_folder, tiny_model

from benchmarks.runner.cost import PausableCache, cost_of, peak_megabytes
from episodes import EpisodeSampler
from metawarp import Backbone
from metawarp.evaluation.predictors import metawarp_predictor


def test_a_paused_cache_is_not_used_and_keeps_what_it_holds(tmp_path):
    backbone, cache = Backbone.load(tiny_folder(tmp_path)), PausableCache()
    warp, init = tiny_model(backbone, cache=cache)
    sampler = EpisodeSampler(tiny_corpus(), 2, 1, 2, 0)
    episodes = [sampler[i] for i in range(3)]
    predictor = metawarp_predictor(warp, init, NO_STEPS)
    before, n_bytes = [scores.tolist() for scores in predictor(episodes)], cache.n_bytes
    with cache.paused():
        assert cost_of(predictor, episodes)["seconds_per_task"] > 0
        assert not cache.get([b"anything"])
        cache.put({b"anything": b"else"})
    assert cache.n_bytes == n_bytes > 0
    assert [scores.tolist() for scores in predictor(episodes)] == before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
def test_the_peak_is_that_of_the_work():
    pieces = [torch.ones(1_000) for _ in range(50_000)]  # 200 MB of small pieces, which are free afterwards
    del pieces
    megabytes = peak_megabytes(lambda: torch.ones(20_000_000))
    assert megabytes is not None
    assert 60 < megabytes < 160  # the work takes 80
