"""Random generators: the same for the same seed and purpose, and unlike each other for different ones."""

import pytest
import torch

from metawarp.randomness import generator_for


def draw(generator):
    return torch.randn(1000, generator=generator)


def test_a_generator_is_a_function_of_seed_and_purpose_and_leaves_the_global_state_alone():
    state = torch.random.get_rng_state()
    assert torch.equal(draw(generator_for(3, "prompt")), draw(generator_for(3, "prompt")))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "other",
    [generator_for(4, "prompt"), generator_for(3, "form"), torch.Generator().manual_seed(3)],
    ids=["another seed", "another purpose", "the bare seed"],
)
def test_numbers_of_another_seed_or_purpose_are_uncorrelated(other):
    both = torch.stack([draw(generator_for(3, "prompt")), draw(other)])
    assert abs(torch.corrcoef(both)[0, 1]) < 0.15
