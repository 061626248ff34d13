"""The inits that a backbone has without any training of the user: adaptive, general, untrained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from metawarp.backbones.backbone import Backbone
from metawarp.config import InnerLoop, WarpConfig
from metawarp.inits.init import Init
from metawarp.inits.shipped import ADAPTIVE, GENERAL, is_of_kind, shipped_inits
from metawarp.read_outs.layers import layer_of
from metawarp.warp import Warp

LEARNED_LAYERS = 6
"""Number of layers of MiniLM, which the inits for all backbones were learned on."""


def adaptive(backbone: Backbone) -> Init:
    """The init that adapts a backbone to a task: the shipped one, or that of MiniLM, carried over."""
    return _of_kind(ADAPTIVE, backbone)


def general(backbone: Backbone) -> Init:
    """The init that leaves a backbone as it is: the shipped one, or that of MiniLM, carried over."""
    return _of_kind(GENERAL, backbone)


def untrained(backbone: Backbone) -> Init:
    """A simple start for comparison: class embeddings mixed from sentence embeddings of names and of support texts."""
    config = WarpConfig(template="{text}", read_out="text", verbalizer="mix")
    return Init.start(Warp(backbone, config), InnerLoop())


DEFAULTS: dict[str, Callable[[Backbone], Init]] = {ADAPTIVE: adaptive, GENERAL: general, "untrained": untrained}
"""The names that stand for another init on each backbone."""


def carried_over(learned: Init, backbone: Backbone) -> Init:
    """An init that was learned on MiniLM, for another backbone.

    It has the same settings, and the learned numbers that do not depend on the backbone. The adapter is a fresh one.
    The length of its steps is the geometric mean over the parts of the learned adapter.
    """
    start = Init.start(Warp(backbone, _for_layers_of(backbone, learned.config)), learned.inner)
    parameters = replace(learned.parameters, adapter=start.parameters.adapter)
    if (fresh := start.parameters.log_adapter_lr) is not None and (lengths := parameters.log_adapter_lr) is not None:
        parameters = replace(parameters, log_adapter_lr=lengths.mean(1, keepdim=True).repeat(1, fresh.shape[1]))
    return replace(start, parameters=parameters, temperature=learned.temperature, recognition=learned.recognition)


def _of_kind(kind: str, backbone: Backbone) -> Init:
    """The shipped init of a kind for a backbone with its prompt; if there is none, that of MiniLM, carried over."""
    for own in (Init.load(folder) for name, folder in shipped_inits().items() if is_of_kind(name, kind)):
        if (own.backbone.fingerprint, own.backbone.prompt) == (backbone.fingerprint, backbone.prompt):
            return own
    return carried_over(Init.load(shipped_inits()[kind]), backbone)


def _for_layers_of(backbone: Backbone, config: WarpConfig) -> WarpConfig:
    """The settings with an adapter that begins as far up as on MiniLM, and below every feature that is read."""
    layer = round(config.adapter_layer * backbone.n_layers / LEARNED_LAYERS)
    lowest_read = min(layer_of(feature, backbone) for feature in config.features)
    return replace(config, adapter_layer=min(layer, lowest_read - 1))


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
