"""Few-shot text classification from meta-learned WARP prompts on a frozen language model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metawarp.adaptation.inner_loop import InnerRates
    from metawarp.backbones.backbone import Backbone
    from metawarp.evaluation.evaluate import evaluate
    from metawarp.inits.init import Init
    from metawarp.model.config import WarpConfig
    from metawarp.model.warp import Warp
    from metawarp.reuse.classifier import WarpClassifier
    from metawarp.reuse.task import Task
    from metawarp.training.config import TrainingConfig
    from metawarp.training.train import train

__all__ = [
    "Backbone",
    "Init",
    "InnerRates",
    "Task",
    "TrainingConfig",
    "Warp",
    "WarpClassifier",
    "WarpConfig",
    "evaluate",
    "train",
]

_MODULES = {
    "Backbone": "backbones.backbone",
    "Init": "inits.init",
    "InnerRates": "adaptation.inner_loop",
    "Task": "reuse.task",
    "TrainingConfig": "training.config",
    "Warp": "model.warp",
    "WarpClassifier": "reuse.classifier",
    "WarpConfig": "model.config",
    "evaluate": "evaluation.evaluate",
    "train": "training.train",
}
"""Imported when they are asked for: what predicts needs neither datasets nor scikit-learn, and starts without them."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
