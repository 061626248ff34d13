"""Which `model_type` of transformers is read by which family.

A type that is not listed is an error, never a guess: a head read at the wrong place still gives numbers.
"""

from __future__ import annotations

from metawarp.backbones.albert import ALBERT
from metawarp.backbones.bert import BERT, ELECTRA, ROBERTA
from metawarp.backbones.deberta import DEBERTA
from metawarp.backbones.distilbert import DISTILBERT
from metawarp.backbones.family import Family
from metawarp.backbones.modernbert import MODERNBERT
from metawarp.backbones.mpnet import MPNET

ARCHITECTURES: dict[str, Family] = {
    "albert": ALBERT,
    "bert": BERT,
    "camembert": ROBERTA,
    "deberta": DEBERTA,
    "deberta-v2": DEBERTA,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}
