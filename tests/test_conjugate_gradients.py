"""Conjugate gradients solve the equations of several tasks at the same time."""

from unittest.mock import Mock

import torch

from metawarp.verbalizers.conjugate_gradients import conjugate_gradients

CURVATURES = torch.tensor([[1.5, 2.0, 2.5], [-0.5, -0.5, -0.5], [1.5, 1.5, -3.5]], dtype=torch.float64)[:, None]
RIGHT = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [9.0, 9.0, 0.1]], dtype=torch.float64)[:, None]


def solve(max_steps=4, tolerance=0.0):
    """The solution, and the number of products with the matrix."""
    times_matrix = Mock(side_effect=CURVATURES.mul)
    return conjugate_gradients(times_matrix, RIGHT, max_steps, tolerance), times_matrix.call_count


def test_each_task_is_solved_or_stops_at_negative_curvature():
    found, _ = solve()
    assert torch.allclose(found[0], RIGHT[0] / CURVATURES[0])
    assert torch.equal(found[1], RIGHT[1])
    assert found[2].isfinite().all()


def test_the_iteration_ends_when_every_task_is_within_the_tolerance():
    few = solve(tolerance=0.5)[1]
    assert few < solve(max_steps=100, tolerance=1e-12)[1] <= 4


def test_a_preconditioner_changes_the_number_of_steps_but_not_the_solution():
    generator = torch.Generator().manual_seed(0)
    root = torch.eye(40, dtype=torch.float64) + 0.02 * torch.randn(40, 40, generator=generator, dtype=torch.float64)
    stretch = torch.logspace(0, 2, 40, dtype=torch.float64)
    matrix = stretch[:, None] * (root @ root.T) * stretch
    right = torch.randn(2, 3, 40, generator=generator, dtype=torch.float64)
    found, steps = [], []
    for scaling in (None, (1 / matrix.diagonal()).expand_as(right)):
        times_matrix = Mock(side_effect=lambda vectors: vectors @ matrix)
        found.append(conjugate_gradients(times_matrix, right, 1000, 1e-12, scaling))
        steps.append(times_matrix.call_count)
    assert torch.allclose(found[1], right @ torch.linalg.inv(matrix), rtol=1e-6)
    assert torch.allclose(found[0], found[1], rtol=1e-6)
    assert steps[1] < steps[0] / 3, steps
