"""Where a task starts: the init and the backbone that the user named, or the best of several inits."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from episodes.errors import InputError, quoted, repeated
from metawarp.backbones.backbone import Backbone
from metawarp.backbones.store import BACKBONES
from metawarp.config import Adapt
from metawarp.inits.defaults import init_and_backbone
from metawarp.inits.init import Init
from metawarp.tasks.examples import Examples
from metawarp.tasks.ranking import Suitability, error_about, rank_inits
from metawarp.texts.feature_cache import FeatureCache
from metawarp.warp import Warp

InitName = str | Path | Init | None
"""An init, its folder, its name or Hub id, or None for the default: see `WarpClassifier`."""


def choose_start(
    init: InitName | Sequence[InitName],
    examples: Examples,
    backbone: str | Path | Backbone | None = None,
    *,
    any_backbone: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    prompt: str | None = None,
    adapt: Adapt = "auto",
) -> tuple[Init, Warp, dict[str, Suitability]]:
    """The init that suits the examples best, its model, and how each of several inits suits them, by name, best first.

    The arguments are those of `WarpClassifier`. InputError if there is no init, several cannot be compared, or there
    are steps for an init without an inner loop.
    """
    if not isinstance(init, str | Path | Init | Sequence | None):
        raise InputError(f"init={init!r} must be an init, its name or folder, or a list of these.")
    requested = list(init) if isinstance(init, Sequence) and not isinstance(init, str) else [init]
    if not requested:
        raise InputError("init is an empty list; name at least one init, or leave it out.")
    names = [f"init {i}" if isinstance(one, Init) else str(one) for i, one in enumerate(requested)]
    if duplicates := repeated(names):
        raise InputError(f"init names {quoted(duplicates)} twice; name each init once.")
    inits: dict[str, Init] = {}
    warps: dict[str, Warp] = {}
    cache = FeatureCache() if len(requested) > 1 else None  # inits read the same texts
    load = partial(BACKBONES.get, device=device, dtype=dtype)
    for name, one in zip(names, requested, strict=True):
        own, on = init_and_backbone(one, backbone, load, prompt)
        with error_about(name, len(requested)):
            own.inner_loop(adapt)  # refuses what it cannot be used with
            inits[name], warps[name] = own, own.bind(on, any_backbone=any_backbone, cache=cache)
    if len(inits) == 1:
        return inits[names[0]], warps[names[0]], {}
    ranking = rank_inits(inits, warps, examples.episode, adapt=adapt)
    best = next(iter(ranking))
    return inits[best], inits[best].bind(warps[best].backbone, any_backbone=any_backbone), ranking
