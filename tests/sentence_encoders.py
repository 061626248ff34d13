"""Tiny sentence encoders that sentence-transformers has saved, and what it computes with them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from tiny import TEXTS, tiny_folder
from torch import nn

from metawarp import Backbone, WarpConfig
from metawarp.texts.text_embeddings import TextEmbeddings
from metawarp.warp import Warp

MIXED_TEXTS = [*TEXTS, "play", "Set The ALARM", " the rain  today ", "pay my bill please and " * 40]
"""Texts of different lengths, in a batch with padding; the last one is longer than the models below may read."""

SENTENCE = WarpConfig(template="{text}", read_out="text")
PROMPTS = {"query": "query: ", "classify": "play: "}


def ours(backbone: Backbone, texts: Sequence[str]) -> np.ndarray:
    """Sentence embeddings as the layout defines them, of unit length only if it says so."""
    (embeddings,) = TextEmbeddings(backbone, [backbone.n_layers], None)(Warp(backbone, SENTENCE).encoder(texts))
    return embeddings.float().numpy()


def saved(folder: Path, *modules: nn.Module, model_type: str = "bert", max_length: int | None = 24, **settings: Any):
    """A tiny sentence encoder with modules behind its transformer, which sentence-transformers has saved."""
    transformer = Transformer(str(tiny_folder(folder / "plain", model_type)), max_seq_length=max_length)
    model = SentenceTransformer(modules=[transformer, *modules], device="cpu", **settings)
    model.save(str(folder / "saved"), create_model_card=False)
    return model.eval(), folder / "saved"


def assert_same_embeddings(model: SentenceTransformer, backbone: Backbone, **options: Any) -> None:
    expected = model.encode(MIXED_TEXTS, batch_size=4, convert_to_numpy=True, show_progress_bar=False, **options)
    found = ours(backbone, MIXED_TEXTS)
    assert np.ptp(expected, axis=0).max() > 1e-2, "all texts have the same embedding, so the comparison means nothing"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def change(file: str, **changes: Any) -> Callable[[Path], None]:
    """A function that changes entries of a JSON file in a folder."""

    def apply(folder: Path) -> None:
        config = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps(config | changes), encoding="utf-8")

    return apply
