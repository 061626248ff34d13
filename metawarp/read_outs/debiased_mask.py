"""The feature at [MASK] minus that of the template without a text: f(x) - f("").

References:
    Jiang et al. (2022), "PromptBERT: Improving BERT Sentence Embeddings with Prompts", EMNLP, sec. 3.2.
"""

from collections.abc import Callable

from torch import Tensor


def debiased_mask(features: dict[str, Tensor], of_empty_text: Callable[[], dict[str, Tensor]], task: Tensor) -> Tensor:
    """The feature "debiased_mask", as wide as the feature "mask"; see `DerivedFeature`."""
    return features["mask"] - of_empty_text()["mask"][task]
