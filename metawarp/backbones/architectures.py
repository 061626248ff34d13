"""The supported `model_type`s of transformers, each with the family that reads it.

A type that is not listed is an error, never a guess: a head read at the wrong place still returns numbers.
"""

from dataclasses import dataclass

from metawarp.backbones.albert import Albert
from metawarp.backbones.bert import Bert, Electra, Roberta
from metawarp.backbones.deberta import Deberta
from metawarp.backbones.distilbert import DistilBert
from metawarp.backbones.family import Family
from metawarp.backbones.modernbert import ModernBert
from metawarp.backbones.mpnet import MPNet


@dataclass(frozen=True)
class Architecture:
    """One row of the table of backbones.

    Attributes:
        family: how models of this type are computed.
        examples: Hub ids, or the name of a backbone that ships with metawarp.
        notes: what a user should know.
    """

    family: Family
    examples: str
    notes: str


ARCHITECTURES: dict[str, Architecture] = {
    "albert": Architecture(Albert(), "albert-base-v2", "Layers share their weights. Soft tokens are 128 wide."),
    "bert": Architecture(Bert(), "minilm, bert-base-uncased", "Most sentence encoders."),
    "camembert": Architecture(Roberta(), "almanach/camembert-base", "French. Positions start behind the padding id."),
    "deberta": Architecture(Deberta(), "microsoft/deberta-base", "Relative distances instead of positions."),
    "deberta-v2": Architecture(Deberta(), "microsoft/deberta-v3-base", "Version 3 is read as a plain encoder."),
    "distilbert": Architecture(DistilBert(), "distilbert-base-uncased", "Half of BERT's layers, no token types."),
    "electra": Architecture(Electra(), "google/electra-base-discriminator", "Generators and discriminators."),
    "modernbert": Architecture(ModernBert(), "answerdotai/ModernBERT-base", "8,192 tokens. Sliding windows."),
    "mpnet": Architecture(MPNet(), "sentence-transformers/all-mpnet-base-v2", "Positions and relative distances."),
    "roberta": Architecture(Roberta(), "roberta-base, roberta-large", "Positions start behind the padding id."),
    "xlm-roberta": Architecture(Roberta(), "xlm-roberta-base", "100 languages. Positions start behind the padding id."),
}


def describe_architectures() -> dict[str, dict[str, str]]:
    """The table of backbones: for each model type, its columns by name."""
    table = {}
    for model_type, architecture in ARCHITECTURES.items():
        family = architecture.family
        decoder = " behind its decoder" if family.unannounced_head is not None else ""
        discriminator = ", or replaced-token head" if family.discriminator_head else ""
        row = {"read as": family.name, "feature at [MASK]": f"masked-LM head{decoder}{discriminator}"}
        row["adapters"] = "all" if family.has_content_attention else "all but prefix"
        table[model_type] = row | {"examples": architecture.examples, "notes": architecture.notes}
    return table
