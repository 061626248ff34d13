"""The supported `model_type`s of transformers, each with the family that reads it.

A type that is not listed is an error, never a guess: a head read at the wrong place still returns numbers.
"""

from dataclasses import dataclass

from metawarp.backbones.albert import Albert
from metawarp.backbones.bert import Bert, Electra, Roberta
from metawarp.backbones.deberta import Deberta
from metawarp.backbones.decoder import Decoder
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


AT_THE_END = "Each token sees the tokens before it."

ARCHITECTURES: dict[str, Architecture] = {
    "albert": Architecture(Albert(), "albert-base-v2", "Layers share their weights. Soft tokens are 128 wide."),
    "bert": Architecture(Bert(), "minilm, bert-base-uncased", "Most sentence encoders."),
    "camembert": Architecture(Roberta(), "almanach/camembert-base", "French. Positions start behind the padding id."),
    "deberta": Architecture(Deberta(), "microsoft/deberta-base", "Relative distances instead of positions."),
    "deberta-v2": Architecture(Deberta(), "microsoft/deberta-v3-base", "Version 3 is read as a plain encoder."),
    "distilbert": Architecture(DistilBert(), "distilbert-base-uncased", "Half of BERT's layers, no token types."),
    "electra": Architecture(Electra(), "google/electra-base-discriminator", "Generators and discriminators."),
    "gemma3_text": Architecture(Decoder(), "google/embeddinggemma-300m", "Sees in both directions if so configured."),
    "llama": Architecture(Decoder(), "meta-llama/Llama-3.2-1B", AT_THE_END),
    "mistral": Architecture(Decoder(), "intfloat/e5-mistral-7b-instruct", AT_THE_END),
    "modernbert": Architecture(ModernBert(), "answerdotai/ModernBERT-base", "8,192 tokens. Sliding windows."),
    "mpnet": Architecture(MPNet(), "sentence-transformers/all-mpnet-base-v2", "Positions and relative distances."),
    "qwen2": Architecture(Decoder(), "nomic-ai/nomic-embed-code", AT_THE_END),
    "qwen3": Architecture(Decoder(), "Qwen/Qwen3-Embedding-0.6B", AT_THE_END),
    "roberta": Architecture(Roberta(), "roberta-base, roberta-large", "Positions start behind the padding id."),
    "xlm-roberta": Architecture(Roberta(), "xlm-roberta-base", "100 languages. Positions start behind the padding id."),
}


REFUSED = {
    "encoder-decoders, such as T5": "their encoder was trained to be read by their decoder only",
    "other decoders, such as GPT-2": "no test covers them; a head read at the wrong place still returns numbers",
    "models with code in their repository": "metawarp never runs such code (trust_remote_code)",
    "sentence encoders with other modules": "only poolings, Dense and Normalize are supported",
}
"""What is not supported, and why."""


def describe_architectures() -> dict[str, dict[str, str]]:
    """The table of backbones: for each model type, its columns by name."""
    table = {}
    for model_type, architecture in ARCHITECTURES.items():
        family = architecture.family
        decoder = " behind its decoder" if family.unannounced_head is not None else ""
        discriminator = ", or replaced-token head" if family.discriminator_head else ""
        at_mask = "last hidden state at the end of the text" if family.reads_end_of_text else "masked-LM head"
        row = {"read as": family.name, "feature at [MASK]": f"{at_mask}{decoder}{discriminator}"}
        row["adapters"] = "all" if family.has_content_attention else "all but prefix"
        table[model_type] = row | {"examples": architecture.examples, "notes": architecture.notes}
    return table
