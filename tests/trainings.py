"""Small trainings on tiny episodes, and comparisons of what they learn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import Killed
from tiny import tiny_corpus
from torch import Tensor

from episodes import EpisodeSampler
from metawarp import Backbone, Init, Warp, WarpConfig
from metawarp.config import InnerLearningRates
from metawarp.meta_learning.meta_gradient import MetaGradient
from metawarp.meta_learning.table import METHODS, MethodName
from metawarp.parameters import tensors_of
from metawarp.training.config import TrainingConfig
from metawarp.training.outer_loop import Trainer
from metawarp.training.run_folder import read_log

MODEL = WarpConfig(template="{prompt:2} {text} {mask}")
FEW = TrainingConfig(steps=4, meta_batch_size=2, validate_every=2, validation_episodes=3, checkpoint_every=2)
SMALL_TRAINING: dict[str, Any] = {"n_way": 2, "k_shot": 1, "n_query": 2, "model": MODEL, "training": FEW}
"""Arguments of `train` for a training that takes less than a second."""


def trainer_of(
    backbone: Backbone,
    folder: Path,
    config: TrainingConfig = FEW,
    *,
    method: MethodName = "anil",
    model: WarpConfig = MODEL,
    rates: InnerLearningRates | None = None,
    validation: Any = None,
    killed_before: int | None = None,
    **settings: Any,
) -> Trainer:
    """A trainer with episodes of the tiny corpus, in a folder that is created.

    Args:
        validation: sampler of validation episodes, if other ones are wanted.
        killed_before: index of the training episode that ends the run with a KeyboardInterrupt.
        settings: further arguments of the trainer.
    """
    folder.mkdir(exist_ok=True)
    corpus, warp = tiny_corpus(), Warp(backbone, model)
    sampler, others = (EpisodeSampler(corpus, n_way=3, k_shot=2, n_query=3, seed=seed) for seed in (0, 1))
    init = Init.start(warp, METHODS[method].inner, method=method, rates=rates)
    episodes: Any = sampler if killed_before is None else Killed(sampler, killed_before)
    settings = {"corpus_classes": corpus.class_names, **settings}
    return Trainer(init, method, warp, episodes, validation or others, config, folder, **settings)


def killed(trainer: Trainer) -> None:
    """Run a trainer until it is killed."""
    with pytest.raises(KeyboardInterrupt):
        trainer.run()


def tensors(init: Init) -> dict[str, Tensor]:
    """The numbers of an init by name."""
    return tensors_of(init.parameters)


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two dictionaries hold the same tensors."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_same_meta_gradient(one: MetaGradient, other: MetaGradient, rtol: float = 1e-10) -> None:
    """Check that two meta-gradients agree, and that there is a gradient of the adapter."""
    assert torch.allclose(one.losses, other.losses, rtol=rtol, atol=0)
    assert one.accuracy == pytest.approx(other.accuracy)
    gradients, others = tensors_of(one.gradients), tensors_of(other.gradients)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert (gradient - others[name]).norm() <= rtol * gradient.norm(), name
        assert gradient.norm() > 0 or not others[name].any(), name
    assert gradients["adapter"].any()


def loss_falls(folder: Path, by: float = 0.05) -> bool:
    """Whether the mean loss of the last quarter of a run is lower than that of the first."""
    losses = [entry["loss"] for entry in read_log(folder)]
    number = len(losses) // 4
    return bool(np.mean(losses[-number:]) < np.mean(losses[:number]) - by)
