"""Baselines on frozen sentence embeddings: prototypes, prototypes mixed with names, logistic regression."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from episodes import Episode
from metawarp.adaptation.start import shared_parameters
from metawarp.backbones.backbone import Backbone
from metawarp.inits.defaults import untrained
from metawarp.texts.feature_cache import FeatureCache
from metawarp.verbalizers.mix import NAME_WEIGHT, weight_of_name
from metawarp.warp import Warp

Encode = Callable[[Sequence[str]], np.ndarray]
"""From B texts to their sentence embeddings (B, d) of unit length."""


class SentenceEncoder:
    """Sentence embeddings of unit length; `max_length` and `stride` are those of `WarpConfig`."""

    def __init__(self, backbone: Backbone, max_length: int | None, stride: int, cache: FeatureCache | None) -> None:
        init = untrained(backbone)
        self.warp = Warp(backbone, replace(init.config, max_length=max_length, stride=stride), cache)
        self._parameters = shared_parameters(init.on(backbone))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings (B, d) in float32."""
        task = torch.zeros(len(texts), dtype=torch.long, device=self.warp.backbone.device)
        return self.warp.read(self._parameters, self.warp.encoder(texts), task).float().cpu().numpy()


def memoized(encode: Encode, n_episodes: int) -> Encode:
    """The same function with a cache for the texts of `n_episodes` episodes: names, support and queries of each."""
    remembered = lru_cache(3 * n_episodes)(encode)
    return lambda texts: remembered(tuple(texts))


def prototypes(encode: Encode, episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
    """Nearest class mean by cosine (Snell et al., 2017, on frozen embeddings)."""
    return prototypes_and_names(encode, {}, episodes, default=0.0)


def prototypes_and_names(
    encode: Encode, weights: Mapping[int, float], episodes: Sequence[Episode], *, default: float | None = None
) -> Iterator[np.ndarray]:
    """Nearest class embedding w·name + (1 - w)·prototype by cosine; w = 1 for a class without support texts.

    The weights w are given by the number of shots of a class; for others, w is the default, or else `untuned_weight`.
    w = 0 for a class whose name carries no meaning.
    """
    for episode in episodes:
        words, named = episode.named_classes
        embeddings = np.zeros((episode.n_way, encode(episode.query_texts).shape[1]), dtype=np.float32)
        if named:
            embeddings[named] = encode(words)
        if len(episode.support_labels):
            support = encode(episode.support_texts)
            for label in np.unique(episode.support_labels):
                shots = int(episode.shots[label])
                w = weights.get(shots, untuned_weight(shots) if default is None else default) * (label in named)
                mean = support[episode.support_labels == label].mean(0)
                embeddings[label] = w * embeddings[label] + (1 - w) * mean / np.linalg.norm(mean)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
        yield encode(episode.query_texts) @ embeddings.T


def untuned_weight(shots: int) -> float:
    """Weight of the name if there are no validation classes to choose it on."""
    return float(weight_of_name(torch.tensor(shots), torch.tensor(NAME_WEIGHT)))


def logistic_regression(encode: Encode, strength: float, episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
    """Multinomial logistic regression on the embeddings; `strength` is scikit-learn's C, the inverse L2 penalty."""
    for episode in episodes:
        model = LogisticRegression(C=strength, max_iter=1000)
        model.fit(encode(episode.support_texts), episode.support_labels)
        yield for_all_classes(episode, model.predict_proba(encode(episode.query_texts)))


def for_all_classes(episode: Episode, probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (Q, N) from those of the classes that have support texts; 0 for the others."""
    complete = np.zeros((len(probabilities), episode.n_way))
    complete[:, np.unique(episode.support_labels)] = probabilities
    return complete
