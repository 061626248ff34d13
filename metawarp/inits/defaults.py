"""The inits that a backbone has without any training of the user: adaptive, general, untrained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from metawarp.backbones.backbone import Backbone
from metawarp.config import InnerLoop, WarpConfig
from metawarp.inits.init import Init
from metawarp.inits.shipped import ADAPTIVE, GENERAL, is_of_kind, shipped_inits
from metawarp.warp import Warp


def adaptive(backbone: Backbone) -> Init:
    """The shipped init that adapts this backbone to a task; the general one if there is none."""
    return _shipped(ADAPTIVE, backbone) or general(backbone)


def general(backbone: Backbone) -> Init:
    """The general init of a backbone.

    It is the shipped one of the same backbone and prompt. Other backbones have the same template, read-out and
    verbalizer, with the numbers that were learned on MiniLM where these do not depend on the width of a backbone.
    """
    if shipped := _shipped(GENERAL, backbone):
        return shipped
    learned = Init.load(shipped_inits()[GENERAL])
    start = Init.start(Warp(backbone, learned.config), learned.inner)
    parameters = replace(learned.parameters, adapter=start.parameters.adapter)
    return replace(start, parameters=parameters, temperature=learned.temperature)


def untrained(backbone: Backbone) -> Init:
    """A simple start for comparison: class embeddings mixed from sentence embeddings of names and of support texts."""
    config = WarpConfig(template="{text}", read_out="text", verbalizer="mix")
    return Init.start(Warp(backbone, config), InnerLoop())


DEFAULTS: dict[str, Callable[[Backbone], Init]] = {ADAPTIVE: adaptive, GENERAL: general, "untrained": untrained}
"""The names that stand for another init on each backbone."""


def _shipped(kind: str, backbone: Backbone) -> Init | None:
    """The shipped init of a kind for a backbone with its prompt, if there is one."""
    for init in (Init.load(folder) for name, folder in shipped_inits().items() if is_of_kind(name, kind)):
        if (init.backbone.fingerprint, init.backbone.prompt) == (backbone.fingerprint, backbone.prompt):
            return init
    return None


def init_and_backbone(
    init: Init | str | Path | None,
    backbone: Backbone | str | Path | None,
    load: Callable[..., Backbone],
    prompt: str | None = None,
) -> tuple[Init, Backbone]:
    """An init and the backbone that it is used on.

    Args:
        init: an init, its folder, its name or Hub id; or a name in `DEFAULTS`. None: "adaptive".
        backbone: a backbone or its name; None: that of the init, and "minilm" for the names in `DEFAULTS`.
        load: function that loads a backbone from its name, with the argument `prompt`.
        prompt: prompt that the user asked for; None: that of the init if the backbone is given by name.

    InputError if init or backbone cannot be loaded.
    """

    def loaded(name: str) -> Backbone:
        if isinstance(backbone, Backbone):
            return backbone.with_prompt(prompt)
        return load(backbone or name, prompt=prompt)

    if isinstance(init, Init) or str(init or ADAPTIVE) not in DEFAULTS:
        own = init if isinstance(init, Init) else Init.from_pretrained(str(init))
        model = loaded(own.backbone.name)
        follows = prompt is None and not isinstance(backbone, Backbone)
        return own, own.backbone.with_its_prompt(model) if follows else model
    if str(init) in shipped_inits():
        Init.from_pretrained(str(init))  # refuses a name that is also that of a folder here
    model = loaded("minilm")
    return DEFAULTS[str(init or ADAPTIVE)](model), model
