"""Settings of the model and of the inner loop. Choices are `Literal` types and are checked when a config is created."""

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args, get_origin, get_type_hints

from episodes.errors import InputError, require_choice
from episodes.schemas import Strict
from metawarp.texts.template import Template

AdapterName = Literal["prompt", "deep_prompt", "prefix", "prompt_pool", "lora", "biases", "weights"]
VerbalizerName = Literal["names", "support", "mix", "regression", "replaced_token"]
Adapt = int | Literal["auto", "none"]
"""How a task is adapted: as suits it, not at all, or in a number of inner steps."""

InnerLossName = Literal["support", "class_means", "ridge", "halves"]
Group = Literal["adapter", "class_embeddings"]
"""Parameters of a task that the inner loop can update."""

GROUPS: tuple[Group, ...] = get_args(Group)

NEED_MASK = {"mask", "debiased_mask", "replaced_token"}
"""Read-outs that need [MASK] in the template."""

_FEATURE = re.compile(r"mask|debiased_mask|mean|(text|pooled)(-[1-9][0-9]*(/[1-9][0-9]*)?)?")


@dataclass(frozen=True)
class WarpConfig(Strict):
    """Settings of a WARP model.

    Args:
        template: {text} with soft tokens, such as {prompt:8}, words and {mask} around it; see `Template`.
        read_out: features f(x) that are read of a text, one or several with + between: "mask", the feature at [MASK]
            (WARP); "debiased_mask", the same minus the feature of the template without a text; "pooled", the sentence
            embedding of the text inside its template; "pooled-2", the pooled hidden states two layers below the last
            layer, and "pooled-1/3" those a third of all layers below it; "text", "text-2" and "text-1/3", the same for
            the text alone, read without the template; "mean", the mean of the last hidden states of the text inside its
            template, whatever pooling the backbone has. A layer that the backbone does not have is replaced by the
            nearest one. Several features are concatenated with learned weights. "replaced_token", alone: a
            discriminator's score of each class.
        verbalizer: how class embeddings are computed: from the "names" of the classes; as means of the "support"
            features; as a "mix" w·name + (1 - w)·mean whose w falls with the number of shots; by "regression", a
            logistic regression on support texts and names; or for the read-out "replaced_token".
        name_source: how a class name becomes a feature: read through the same "template" as the texts, or as the mean
            of its word "embeddings" (needs read_out="mask" with a masked-LM head, or "replaced_token").
        prompt_start: what soft tokens start from: "mask", the embedding of [MASK] (WARP); random words of the
            "vocabulary"; or "normal" noise.
        adapter: parameters that each task owns inside the encoder: "prompt", soft tokens (WARP); "deep_prompt", soft
            tokens before every layer; "prefix", keys and values in every layer; "prompt_pool", several prompts that
            each text mixes; "lora", low-rank updates of the attention; "biases", the biases and norms of the
            layers; "weights", all weights of the layers.
        adapter_size: rank of "lora", or number of prompts of "prompt_pool"; None: 8. Other adapters have no size.
        adapter_layer: index of the first layer that the adapter changes; 0 is WARP. The outputs of the layers below do
            not depend on the adapter, and are computed once per text.
        max_length: largest number of tokens of an input, template included; longer texts are truncated. None: as many
            as the backbone was trained to read.
        stride: 0, or the distance in tokens between the windows that a longer text is read in; the features of a text
            are then the means over its windows.
    """

    template: str = "{prompt:8} {text} {prompt:4} {mask}"
    read_out: str = "text+text-2+pooled+mask"
    verbalizer: VerbalizerName = "regression"
    name_source: Literal["template", "embeddings"] = "template"
    prompt_start: Literal["mask", "vocabulary", "normal"] = "mask"
    adapter: AdapterName = "prompt"
    adapter_size: int | None = None
    adapter_layer: int = 0
    max_length: int | None = None
    stride: int = 0

    def __post_init__(self) -> None:
        require_choices(self)
        features = self.features
        known = len(set(features)) == len(features) and all(_FEATURE.fullmatch(name) for name in features)
        if not known and self.read_out != "replaced_token":
            names = "mask, debiased_mask, mean, text, text-1, …, pooled, pooled-1, …"
            allowed = f"one or several of {names} with + between, each once"
            raise InputError(f"read_out={self.read_out!r} must be {allowed}; or replaced_token.")
        if (self.read_out == "replaced_token") != (self.verbalizer == "replaced_token"):
            given = f"read_out={self.read_out!r} and verbalizer={self.verbalizer!r}"
            raise InputError(f"'replaced_token' must be both read-out and verbalizer; got {given}.")
        if NEED_MASK & set(features) and not Template(self.template).has_mask:
            given = f"read_out={self.read_out!r} needs {{mask}} in the template; got template={self.template!r}"
            raise InputError(f"{given}. Add {{mask}}, or use read_out='pooled'.")

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the P features of the read-out."""
        return tuple(self.read_out.split("+"))

    @property
    def text_features(self) -> tuple[str, ...]:
        """Names of the features of the bare text."""
        return tuple(name for name in self.features if name.startswith("text"))


@dataclass(frozen=True)
class InnerLoop(Strict):
    """How a task is adapted by gradient steps.

    Args:
        inner_steps: number S of gradient steps on the support set; 0 leaves adapter and class embeddings as they start.
        updates: parameters that the steps update.
        loss: inner loss: the cross-entropy of the "support" texts under the class embeddings of the task; or a
            leave-one-out loss, in which a text is classified by the other ones: by "class_means", by a "ridge"
            regression, or one of two "halves" by a ridge regression on the other. With a leave-one-out loss, the steps
            move the adapter alone, and class embeddings are computed at the end.
    """

    inner_steps: int = 0
    updates: tuple[Group, ...] = ()
    loss: InnerLossName = "support"

    def __post_init__(self) -> None:
        if self.inner_steps < 0:
            raise InputError(f"inner_steps={self.inner_steps} must be at least 0.")
        require_choices(self)
        unknown = sorted(set(self.updates) - set(GROUPS))
        if unknown or (self.inner_steps and not self.updates):
            raise InputError(f"updates={list(self.updates)} must be one or both of {list(GROUPS)}.")

        if self.leaves_one_out and "class_embeddings" in self.updates:
            given = f"updates={list(self.updates)} with loss={self.loss!r}"
            raise InputError(f"A leave-one-out loss moves the adapter alone, so use updates=['adapter']; got {given}.")

    @property
    def leaves_one_out(self) -> bool:
        """Whether the inner loss is a leave-one-out loss."""
        return self.loss != "support"

    @property
    def moving(self) -> tuple[Group, ...]:
        """The parameters that are updated: none without steps."""
        return self.updates if self.inner_steps else ()

    def with_steps(self, inner_steps: int | None) -> Self:
        """The same inner loop with another number of steps; None: its own number."""
        updates = self.updates if inner_steps else ()
        return self if inner_steps is None else replace(self, inner_steps=inner_steps, updates=updates)


@dataclass(frozen=True)
class InnerLearningRates(Strict):
    """Inner learning rates that meta-training starts from.

    Args:
        adapter: learning rate of the adapter; with a leave-one-out loss, the root mean square of the change of its
            values in a step. None: 0.1, or 0.01 with a leave-one-out loss.
        class_embeddings: learning rate of the class embeddings.
        learned: whether they are meta-learned, one for each inner step (Meta-SGD, LSLR), or keep their initial values
            (MAML).
    """

    adapter: float | None = None
    class_embeddings: float = 0.1
    learned: bool = True

    def __post_init__(self) -> None:
        for group in GROUPS:
            if (rate := getattr(self, group)) is not None:
                require_positive(f"inner_lr.{group}", rate)

    def of(self, group: Group, inner: InnerLoop) -> float:
        """The learning rate of a group of parameters in an inner loop."""
        rate = getattr(self, group)
        return (0.01 if inner.leaves_one_out else 0.1) if rate is None else rate


def require_choices(config: object) -> None:
    """Check every field of a dataclass whose type is a `Literal`; InputError for a value that is not allowed."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            require_choice(name, getattr(config, name), get_args(hint))


def require_positive(name: str, value: float, *, or_zero: bool = False) -> None:
    """Check that a number is finite and positive; InputError if it is not."""
    if not (math.isfinite(value) and (value > 0 or (or_zero and value == 0))):
        raise InputError(f"{name}={value} must be a positive number{' or 0' if or_zero else ''}.")
