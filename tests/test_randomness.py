"""Streams of random numbers: the same for the same purpose, unlike each other for different ones."""

import torch

from metawarp.adaptation.randomness import generator_of


def draw(seed, purpose):
    return torch.randn(1000, generator=generator_of(seed, purpose))


def test_a_stream_is_a_function_of_seed_and_purpose():
    state = torch.random.get_rng_state()
    one = draw(3, "rows")
    assert torch.equal(one, draw(3, "rows"))
    for other in (
        draw(4, "rows"),
        draw(3, "class rows"),
        torch.randn(1000, generator=torch.Generator().manual_seed(3)),
    ):
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.15
    assert torch.equal(torch.random.get_rng_state(), state)
