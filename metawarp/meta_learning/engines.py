"""Who takes the meta-gradient: metawarp itself, all tasks in one pass, or learn2learn, one task at a time."""

from __future__ import annotations

from functools import partial

from episodes import InputError
from episodes.errors import listing
from metawarp.adaptation.inner_loop import InnerLoop, reads_again
from metawarp.meta_learning import learn2learn_engine
from metawarp.meta_learning.meta_gradients import METHODS, Gradient
from metawarp.model.warp import Warp

ENGINES = ("metawarp", "learn2learn")


def require_engine(engine: str, method: str, second_order: str) -> None:
    """Refuse an engine, or a way to second order, that a method cannot be had with, before the work begins.

    Args:
        engine: of `ENGINES`.
        method: name of the method.
        second_order: "auto", or one of `EXACT`.

    Raises:
        InputError: the engine is not known or does not have the method, or the method has no second order.
        ImportError: learn2learn is not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r} is not known; known: {listing(ENGINES)}.")
    if second_order != "auto" and METHODS[method].order < 2:
        raise InputError(f"method {method!r} has no second order; leave out --training.second_order.")
    if engine == "learn2learn":
        learn2learn_engine.algorithms()
        if not METHODS[method].order:
            having = [name for name, other in METHODS.items() if other.order]
            raise InputError(f"engine 'learn2learn' has no method {method!r}; it is for {listing(having)}.")


def has_modes(engine: str, method: str, warp: Warp, inner: InnerLoop) -> bool:
    """Whether there are several ways to be exact, of which one has to be chosen."""
    return engine == "metawarp" and METHODS[method].order == 2 and reads_again(warp, inner)


def gradient_by(engine: str, method: str, mode: str | None) -> Gradient:
    """The meta-gradient of a method as an engine takes it.

    Args:
        engine: of `ENGINES`.
        method: name of the method.
        mode: of `EXACT`; None where there is no choice.
    """
    if engine == "learn2learn":
        return partial(learn2learn_engine.meta_gradient, second_order=METHODS[method].order == 2)
    return partial(METHODS[method].gradient, mode=mode) if mode else METHODS[method].gradient
