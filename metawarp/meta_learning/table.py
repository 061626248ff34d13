"""The methods of meta-learning by name."""

from dataclasses import replace
from typing import Literal

from episodes.errors import InputError, require_choice
from metawarp.config import GROUPS, InnerLoop, InnerLossName
from metawarp.meta_learning.maml import Maml
from metawarp.meta_learning.meta_gradient import Method
from metawarp.meta_learning.multitask import Multitask
from metawarp.meta_learning.reptile import Reptile

MethodName = Literal["maml", "fomaml", "reptile", "anil", "prototypical", "multitask"]

METHODS: dict[MethodName, Method] = {
    "maml": Maml(InnerLoop(3, GROUPS)),
    "fomaml": Maml(InnerLoop(3, GROUPS), order=1),
    "reptile": Reptile(InnerLoop(4, GROUPS)),
    "anil": Maml(InnerLoop(5, ("class_embeddings",))),
    "prototypical": Maml(InnerLoop(), min_inner_steps=0),
    "multitask": Multitask(InnerLoop(3, GROUPS)),
}
"""A new method is one more entry here, and its name in `MethodName`."""

DEFAULT_METHOD: MethodName = "prototypical"


def inner_loop(method: MethodName, inner_steps: int | None = None, inner_loss: InnerLossName = "support") -> InnerLoop:
    """The inner loop of a method with `inner_steps` gradient steps (None: the method's own number) on an inner loss.

    InputError for an unknown method, or steps or a loss that the method cannot use.
    """
    require_choice("method", method, METHODS)
    own, least = METHODS[method].inner, METHODS[method].min_inner_steps
    if inner_steps and not own.updates:
        raise InputError(f"Leave out inner_steps={inner_steps}: method={method!r} has no inner loop.")
    if inner_steps is not None and 0 <= inner_steps < least:
        advice = f"use at least {least}, or method='prototypical', which needs none"
        raise InputError(f"inner_steps={inner_steps} is too small for method={method!r}; {advice}.")
    inner = own.with_steps(inner_steps)
    if inner_loss == "support":
        return inner
    if "adapter" not in own.updates:
        problem = f"inner_loss={inner_loss!r} moves the adapter, which method={method!r} leaves as it is"
        raise InputError(f"{problem}; use method='maml' or inner_loss='support'.")
    return replace(inner, updates=("adapter",) if inner.inner_steps else (), loss=inner_loss)
