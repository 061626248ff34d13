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
        head: what of its masked-LM head is read at [MASK]; without that head it is the hidden state there.
        known: what its user should know.
    """

    family: Family
    examples: str
    head: str
    known: str

    @property
    def last_layer(self) -> str:
        """What the last layer computes where a feature at [MASK] alone is asked for."""
        return "every position" if self.family.last_at is None else "one position"


_DENSE = "dense, activation, norm"

ARCHITECTURES: dict[str, Architecture] = {
    "albert": Architecture(
        ALBERT,
        "albert-base-v2",
        _DENSE,
        "word embeddings, and so soft tokens and rows at [MASK], are narrower than hidden states (128 of 768)",
    ),
    "bert": Architecture(
        BERT, "minilm, bert-base-uncased, BAAI/bge-small-en-v1.5", _DENSE, "most sentence encoders are of this type"
    ),
    "camembert": Architecture(ROBERTA, "almanach/camembert-base", _DENSE, "French; positions behind the padding id"),
    "deberta": Architecture(
        DEBERTA,
        "microsoft/deberta-base",
        _DENSE,
        "distances instead of positions; the enhanced mask decoder is not read",
    ),
    "deberta-v2": Architecture(
        DEBERTA,
        "microsoft/deberta-v3-base, microsoft/mdeberta-v3-base",
        _DENSE,
        "version 3 is a discriminator without such a head: read as a plain encoder",
    ),
    "distilbert": Architecture(DISTILBERT, "distilbert-base-uncased", _DENSE, "half of BERT's layers, no token types"),
    "electra": Architecture(
        ELECTRA,
        "google/electra-base-generator, google/electra-base-discriminator",
        _DENSE + " (generator)",
        "a discriminator is read as a plain encoder",
    ),
    "modernbert": Architecture(
        MODERNBERT, "answerdotai/ModernBERT-base", _DENSE, "8,192 tokens; two layers in three see a window"
    ),
    "mpnet": Architecture(
        MPNET, "sentence-transformers/all-mpnet-base-v2", _DENSE, "positions behind the padding id, and distances"
    ),
    "roberta": Architecture(ROBERTA, "roberta-base, roberta-large", _DENSE, "positions behind the padding id"),
    "xlm-roberta": Architecture(
        ROBERTA,
        "xlm-roberta-base, intfloat/multilingual-e5-small",
        _DENSE,
        "a hundred languages; positions behind the padding id",
    ),
}
