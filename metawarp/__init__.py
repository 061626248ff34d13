"""Few-shot text classification from meta-learned WARP prompts on a frozen language model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from episodes.errors import InputError as InputError
    from metawarp.backbones.backbone import Backbone as Backbone
    from metawarp.config import InnerLearningRates as InnerLearningRates, WarpConfig as WarpConfig
    from metawarp.errors import DivergenceError as DivergenceError, MemoryLimitError as MemoryLimitError
    from metawarp.evaluation.evaluate import evaluate as evaluate
    from metawarp.inits.init import Init as Init
    from metawarp.processes import Processes as Processes
    from metawarp.suggestions.suggest import suggest as suggest
    from metawarp.tasks.classifier import WarpClassifier as WarpClassifier
    from metawarp.tasks.task import Task as Task
    from metawarp.texts.feature_cache import FeatureCache as FeatureCache
    from metawarp.training.config import TrainingConfig as TrainingConfig
    from metawarp.training.train import train as train
    from metawarp.warp import Warp as Warp

_MODULES = {
    "Backbone": "metawarp.backbones.backbone",
    "DivergenceError": "metawarp.errors",
    "FeatureCache": "metawarp.texts.feature_cache",
    "Init": "metawarp.inits.init",
    "InnerLearningRates": "metawarp.config",
    "InputError": "episodes.errors",
    "MemoryLimitError": "metawarp.errors",
    "Processes": "metawarp.processes",
    "Task": "metawarp.tasks.task",
    "TrainingConfig": "metawarp.training.config",
    "Warp": "metawarp.warp",
    "WarpClassifier": "metawarp.tasks.classifier",
    "WarpConfig": "metawarp.config",
    "evaluate": "metawarp.evaluation.evaluate",
    "suggest": "metawarp.suggestions.suggest",
    "train": "metawarp.training.train",
}
"""Modules are imported when a name is used: prediction needs neither datasets nor scikit-learn, and starts faster."""

__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
