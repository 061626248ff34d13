"""Few-shot text classification from meta-learned WARP prompts on a frozen language model."""

from metawarp.backbone import Backbone
from metawarp.classifier import WarpClassifier
from metawarp.evaluate_init import evaluate
from metawarp.initialization import Init
from metawarp.inner_loop import InnerRates
from metawarp.train_init import train
from metawarp.training_config import TrainingConfig
from metawarp.warp import Warp, WarpConfig

__all__ = [
    "Backbone",
    "Init",
    "InnerRates",
    "TrainingConfig",
    "Warp",
    "WarpClassifier",
    "WarpConfig",
    "evaluate",
    "train",
]
