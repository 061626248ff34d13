"""Where a task starts: the init and the backbone that somebody named, or the best of several inits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from episodes import InputError
from episodes.errors import listing
from metawarp.backbones.backbone import Backbone
from metawarp.backbones.shared import backbone_of
from metawarp.inits.init import Init, untrained
from metawarp.inits.shipped import GENERAL, shipped
from metawarp.model.warp import Warp
from metawarp.reuse.labels import Examples
from metawarp.reuse.similar import Suitability, averaged, models, rank

Named = str | Path | Init | None
"""What an init is named by: see `WarpClassifier`."""


@dataclass(frozen=True)
class Start:
    """What a task is adapted from.

    Attributes:
        init: the one that was named, the best of several, or their mean.
        warp: its model.
        suitability: of several inits, how each suits the task, by name, the best first; empty for one.
    """

    init: Init
    warp: Warp
    suitability: dict[str, Suitability] = field(default_factory=dict)


def start_of(
    init: Named | Sequence[Named],
    examples: Examples,
    *,
    backbone: str | Path | Backbone | None = None,
    any_backbone: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    steps: int | None = None,
    average: bool = False,
) -> Start:
    """The start of a task: of several inits the one that suits its examples best, or their mean.

    The arguments are those of `WarpClassifier`.

    Raises:
        InputError: there is none; they cannot be told apart, or averaged; there are steps, and no inner loop.
    """
    inits = [init] if init is None or isinstance(init, str | Path | Init) else list(init)
    if not inits:
        raise InputError("init is an empty list; name one init at least, or leave it out.")
    names = [f"init {i}" if isinstance(one, Init) else str(one) for i, one in enumerate(inits)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"init {listing(map(repr, twice))} is named twice; name each once.")
    if average and len(inits) == 1:
        raise InputError("average is of several inits, and one came; name another, or leave it out.")
    found: dict[str, Init] = {}
    backbones: dict[str, Backbone] = {}
    for name, one in zip(names, inits, strict=True):
        found[name], backbones[name] = _found(one, backbone, any_backbone, device, dtype)
        if steps and not found[name].inner.groups:
            raise InputError(
                f"steps is {steps}, but an init learned by {found[name].method!r} has no inner loop; leave it out."
            )
    warps = models(found, backbones, any_backbone=any_backbone)
    if len(found) == 1:
        return Start(found[names[0]], warps[names[0]])
    suits = rank(found, warps, examples.episode, named=examples.named, steps=steps)
    best = next(iter(suits))
    mean = averaged(found, suits, len(examples.episode.support_labels)) if average else None
    return Start(mean or found[best], warps[best], suits)


def _found(
    init: Named, backbone: str | Path | Backbone | None, any_backbone: bool, device: str, dtype: str
) -> tuple[Init, Backbone]:
    """An init and the backbone for it; for None, "general" on its own backbone and "untrained" on any other."""
    if str(init) == "untrained":
        on = backbone_of(backbone, "minilm", device, dtype)
        return untrained(on), on
    found = init if isinstance(init, Init) else Init.from_pretrained(shipped()[GENERAL] if init is None else init)
    on = backbone_of(backbone, found.backbone["name"], device, dtype)
    if init is None and not any_backbone and on.fingerprint != found.backbone["fingerprint"]:
        return untrained(on), on
    return found, on
