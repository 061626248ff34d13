"""The strategy: cover the pool with texts that are typical, and differ from one another and from the labelled ones.

Typical texts come first, and the more labels there are, the more those count that the classifier is unsure of (Hacohen
et al.). Class probabilities help in three ways, where classes are known. A text does not cover one of another class.
Texts of classes that are predicted rarely count more. Before the first label, the texts that class names tell apart are
less similar, so that each class is likely to get one.

References:
    Hacohen, Dekel, Weinshall (2022), "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets",
    ICML: typical texts first, uncertain ones later.
    Scheffer, Decomain, Wrobel (2001), "Active Hidden Markov Models for Information Extraction", IDA: the margin.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from metawarp.suggestions.facility_location import greedy_choices

MAX_COVERED = 2000
"""Largest number of texts that the choices have to cover: beyond it, an evenly spaced part stands for the pool."""

# Chosen on TREC, emotion, HuffPost's training classes, Reuters' training classes and the bundled corpora.
POWER = 2
"""Power of the cosine of two texts in their similarity."""

RARITY = 0.5
"""Power of the frequency of a class by which the weight of its texts is divided."""

LEAST_FREQUENCY = 1e-3
"""Smallest frequency of a class."""

PROBABILITY_WEIGHT = 2.0
"""Weight of the class probabilities beside the features of a text, before the first label."""


@dataclass(frozen=True)
class Pool:
    """The texts that are chosen from, as features.

    Attributes:
        features: (N, d) features of the texts.
        probabilities: (N, C) class probabilities; None if the classes are not known.
        labelled: (L,) indices of the texts that have a label.
        labels: (L,) index of the class of each of them, C for a text of no class; without meaning if there are no
            classes.
    """

    features: Tensor
    probabilities: Tensor | None
    labelled: Tensor
    labels: Tensor

    def most_worth_labelling(self, n: int) -> list[int]:
        """The indices of n texts without a label, best first; there must be as many."""
        points = self._points()
        covered = torch.arange(len(points))
        if len(points) > MAX_COVERED:
            covered = torch.linspace(0, len(points) - 1, MAX_COVERED).round().long()
        similarity, weights = _similarity(points, points[covered]), torch.ones(len(covered))
        known = similarity[self.labelled]
        if self.probabilities is not None:
            roots = self.probabilities.sqrt()
            similarity *= roots @ roots[covered].T
            of_class = one_hot(self.labels, roots.shape[1] + 1)[:, :-1].to(roots) @ roots[covered].T
            known *= of_class.masked_fill(self.labels[:, None] == roots.shape[1], 1.0)  # near texts may be of no class
            weights = self._weights(self.probabilities)[covered]
        start = known.amax(0) if len(known) else torch.zeros(len(covered))
        candidates = torch.ones(len(points), dtype=torch.bool)
        candidates[self.labelled] = False
        return greedy_choices(similarity, weights.to(similarity), start.to(similarity), candidates, n)

    def _points(self) -> Tensor:
        """A unit vector for each text: its features less their mean, which all texts share."""
        points = normalize(self.features - self.features.mean(0), dim=-1)
        if self.probabilities is None or len(self.labelled):
            return points
        roots = self.probabilities.sqrt()
        return normalize(torch.cat([points, PROBABILITY_WEIGHT * (roots - roots.mean(0))], -1), dim=-1)

    def _weights(self, probabilities: Tensor) -> Tensor:
        """How much the coverage of each text counts (N,), from how unsure the classifier is and how rare its classes
        are."""
        shots = len(self.labelled) / probabilities.shape[1]
        best, second = probabilities.topk(2).values.unbind(-1)
        unsure = (1 - (best - second)).pow(shots / (1 + shots))
        frequency = probabilities.mean(0).clamp(min=LEAST_FREQUENCY)
        return unsure * (probabilities @ frequency.pow(-RARITY))


def _similarity(points: Tensor, others: Tensor) -> Tensor:
    """Similarity (N, M) of unit vectors (N, d) to others (M, d); opposite texts are as far apart as unrelated ones."""
    return (points @ others.T).clamp_(min=0).pow_(POWER)
