"""Few-shot tasks from labelled texts: corpora, class-disjoint splits and episodes. Uses numpy and datasets, never
torch."""

from episodes.corpus import ClassSplit, Corpus
from episodes.episode import Episode
from episodes.errors import InputError
from episodes.sampler import EpisodeSampler, MixtureSampler

__all__ = ["ClassSplit", "Corpus", "Episode", "EpisodeSampler", "InputError", "MixtureSampler"]
