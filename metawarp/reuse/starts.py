"""Where a task starts: the init and the backbone that somebody named, or the best of several inits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes import Episode, InputError
from metawarp.backbones.backbone import Backbone
from metawarp.inits.init import Init, untrained
from metawarp.inits.shipped import GENERAL, shipped
from metawarp.model.warp import Warp
from metawarp.reuse.similar import Suitability, averaged, models, rank
from metawarp.reuse.task import backbone_of

Named = str | Path | Init | None
"""What an init is named by: see `WarpClassifier`."""


@dataclass(frozen=True)
class Starts:
    """Inits and the backbones to read them on; the arguments are those of `WarpClassifier`."""

    backbone: str | Path | Backbone | None = None
    any_backbone: bool = False
    device: str = "cpu"
    dtype: str = "float32"

    def find(self, init: Named) -> tuple[Init, Backbone]:
        """An init and the backbone for it; for None, "general" on its own backbone and "untrained" on any other."""
        if str(init) == "untrained":
            backbone = backbone_of(self.backbone, "minilm", self.device, self.dtype)
            return untrained(backbone), backbone
        found = init if isinstance(init, Init) else Init.from_pretrained(shipped()[GENERAL] if init is None else init)
        backbone = backbone_of(self.backbone, found.backbone["name"], self.device, self.dtype)
        if init is None and not self.any_backbone and backbone.fingerprint != found.backbone["fingerprint"]:
            return untrained(backbone), backbone
        return found, backbone

    def best(
        self, inits: Sequence[Named], episode: Episode, *, average: bool
    ) -> tuple[Init, Warp, dict[str, Suitability]]:
        """Of several inits the one that suits a task best, or their mean; its model, and how each suits.

        Raises:
            InputError: there is none; they cannot be told apart, or averaged.
        """
        if not inits:
            raise InputError("init is an empty list; name one init at least, or leave it out.")
        names = (f"init {i}" if isinstance(one, Init) else str(one) for i, one in enumerate(inits))
        found = {name: self.find(one) for name, one in zip(names, inits, strict=True)}
        candidates = {name: init for name, (init, _) in found.items()}
        warps = models(candidates, {name: on for name, (_, on) in found.items()}, any_backbone=self.any_backbone)
        suits = rank(candidates, warps, episode)
        best = next(iter(suits))
        init = averaged(candidates, suits, len(episode.support_labels)) if average else candidates[best]
        return init, warps[best], suits
