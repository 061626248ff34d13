"""A classifier on a tiny backbone, and small labelled data for it and for real ones."""

from tiny import tiny_corpus

from metawarp import Backbone, Init, Warp, WarpClassifier, WarpConfig
from metawarp.config import GROUPS, InnerLoop

TEXTS = list(tiny_corpus(n_classes=3, n_texts=8).texts)
LABELS = [name for name in tiny_corpus(n_classes=3, n_texts=8).class_names for _ in range(8)]
"""Random texts of three classes, eight of each."""

REAL_TEXTS = [
    "where is my parcel", "it never came", "i want my money back", "please refund me",
    "the app crashes when i log in", "error 500 on the start page",
]  # fmt: skip
REAL_LABELS = ["delivery", "delivery", "refund", "refund", "bug", "bug"]
NEW_TEXTS = ["has the courier been yet?", "can i have my money back?", "the program shows an error"]
"""New texts of the classes delivery, refund and bug."""


def tiny_classifier(backbone: Backbone) -> WarpClassifier:
    """A classifier from a fresh init with two inner steps."""
    warp = Warp(backbone, WarpConfig(template="{prompt:2} {text} {mask}"))
    return WarpClassifier(Init.start(warp, InnerLoop(2, GROUPS), method="maml"), backbone)
