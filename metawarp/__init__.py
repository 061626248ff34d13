"""Few-shot text classification from meta-learned WARP prompts on a frozen language model."""

from metawarp.adaptation.inner_loop import InnerRates
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.evaluate import evaluate
from metawarp.inits.init import Init
from metawarp.model.config import WarpConfig
from metawarp.model.warp import Warp
from metawarp.reuse.classifier import WarpClassifier
from metawarp.training.config import TrainingConfig
from metawarp.training.train import train

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
