"""Random generators: the same for the same seed and purpose, unlike each other for different ones."""

import pytest
import torch

from metawarp.randomness import generator_for


def draw(seed, purpose):
    return torch.randn(1000, generator=generator_for(seed, purpose))


def test_a_generator_is_a_function_of_seed_and_purpose_and_leaves_the_global_state():
    state = torch.random.get_rng_state()
    assert torch.equal(draw(3, "prompt"), draw(3, "prompt"))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "other",
    [generator_for(4, "prompt"), generator_for(3, "form"), torch.Generator().manual_seed(3)],
    ids=["another seed", "another purpose", "the bare seed"],
)
def test_numbers_of_another_seed_or_purpose_are_unlike_these(other):
    both = torch.stack([draw(3, "prompt"), torch.randn(1000, generator=other)])
    assert abs(torch.corrcoef(both)[0, 1]) < 0.15
