"""Backbones that are loaded once for all that ask for the same."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from metawarp.backbones.backbone import TOKENS_A_PASS, Backbone


def backbone_of(
    given: str | Path | Backbone | None, default: str, device: str, dtype: str, max_tokens: int = TOKENS_A_PASS
) -> Backbone:
    """The backbone that was given, or the one of a name; the last one that was loaded here is loaded once."""
    if isinstance(given, Backbone):
        return given
    return _loaded(str(given or default), str(device), str(dtype), max_tokens)


# One copy for all the clones that a search or a cross-validation makes, and for all cells of a benchmark.
@lru_cache(maxsize=1)
def _loaded(name: str, device: str, dtype: str, max_tokens: int) -> Backbone:
    return Backbone.load(name, device=device, dtype=dtype, max_tokens=max_tokens)
