"""Few-shot text classification from meta-learned WARP prompts on a frozen language model."""

from metawarp.backbone import Backbone
from metawarp.classifier import WarpClassifier
from metawarp.commands import evaluate, train
from metawarp.initialization import Init
from metawarp.warp import Warp, WarpConfig

__all__ = ["Backbone", "Init", "Warp", "WarpClassifier", "WarpConfig", "evaluate", "train"]
