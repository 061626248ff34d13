"""Which `model_type` of transformers is read by which family, and what is known of it.

A type that is not listed is an error, never a guess: a head read at the wrong place still gives numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from metawarp.backbones.albert import ALBERT
from metawarp.backbones.bert import BERT, ELECTRA, ROBERTA
from metawarp.backbones.deberta import DEBERTA
from metawarp.backbones.distilbert import DISTILBERT
from metawarp.backbones.family import Family
from metawarp.backbones.modernbert import MODERNBERT
from metawarp.backbones.mpnet import MPNET


@dataclass(frozen=True)
class Architecture:
    """One row of the table of backbones.

    Attributes:
        family: how it is read.
        examples: ids of the Hub, or what comes with metawarp.
        known: what its user should know.
    """

    family: Family
    examples: str
    known: str


ARCHITECTURES: dict[str, Architecture] = {
    "albert": Architecture(
        ALBERT,
        "albert-base-v2",
        "layers share weights; soft tokens, and rows at [MASK], are as narrow as its word embeddings (128 of 768)",
    ),
    "bert": Architecture(
        BERT, "minilm, bert-base-uncased, BAAI/bge-small-en-v1.5", "most sentence encoders are of this type"
    ),
    "camembert": Architecture(ROBERTA, "almanach/camembert-base", "French; positions behind the padding id"),
    "deberta": Architecture(
        DEBERTA,
        "microsoft/deberta-base",
        "distances instead of positions",
    ),
    "deberta-v2": Architecture(
        DEBERTA,
        "microsoft/deberta-v3-base, microsoft/mdeberta-v3-base",
        "version 2 as deberta; version 3 is a discriminator, read as a plain encoder",
    ),
    "distilbert": Architecture(DISTILBERT, "distilbert-base-uncased", "half of BERT's layers, no token types"),
    "electra": Architecture(
        ELECTRA,
        "google/electra-base-generator, google/electra-base-discriminator",
        "the generator predicts words; the discriminator says whether those of the classes are original",
    ),
    "modernbert": Architecture(
        MODERNBERT, "answerdotai/ModernBERT-base", "8,192 tokens; two layers in three see a window"
    ),
    "mpnet": Architecture(
        MPNET, "sentence-transformers/all-mpnet-base-v2", "positions behind the padding id, and distances"
    ),
    "roberta": Architecture(ROBERTA, "roberta-base, roberta-large", "positions behind the padding id"),
    "xlm-roberta": Architecture(
        ROBERTA,
        "xlm-roberta-base, intfloat/multilingual-e5-base",
        "a hundred languages; positions behind the padding id",
    ),
}


def described() -> dict[str, dict[str, str]]:
    """By model type, the other columns of the table of backbones."""
    return {
        model_type: {
            "read as": of.family.name,
            "at [MASK]": _at_mask(of.family),
            "forms": "all" if of.family.content_attention else "all but prefix",
            "such as": of.examples,
            "known": of.known,
        }
        for model_type, of in ARCHITECTURES.items()
    }


def _at_mask(family: Family) -> str:
    head = "masked-LM head" if family.released is None else "masked-LM head, behind its decoder"
    return head if family.detector is None else f"{head}, or replaced-token head"
