"""The layers that features such as "text-2" and "pooled-1" are read after."""

import logging
from fractions import Fraction
from functools import cache

from metawarp.backbones.backbone import Backbone

logger = logging.getLogger(__name__)


def layer_of(feature: str, backbone: Backbone) -> int:
    """Number of the layer, from 1, after which a feature is read.

    It is the last one for "text", the one before it for "text-1", and the one a third of all layers below it for
    "text-1/3". It is the first one if the backbone has fewer layers, which is logged once.
    """
    number = Fraction(feature.partition("-")[2] or 0)
    below = round(number * backbone.n_layers) if "/" in feature else int(number)
    if below >= backbone.n_layers:
        _log_once(f"backbone {backbone.name!r} has {backbone.n_layers} layers: {feature!r} is read after the first")
    return max(1, backbone.n_layers - below)


def is_of_last_layer(feature: str) -> bool:
    """Whether a feature is read after the last layer."""
    return "-" not in feature


@cache
def _log_once(message: str) -> None:
    logger.info(message)
