"""Decoders as sentence encoders: the end of a text, padding on either side, attention in both directions."""

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from test_sentence_layout import assert_same_embeddings
from tiny import TEXTS, features, tiny_backbone, tiny_folder, tiny_model, tokens_with_mask
from tiny_tokenizers import DECODERS
from torch.testing import assert_close

from metawarp import Backbone, WarpClassifier

INSTRUCTION = "Instruct: sort the text by topic\nQuery: "


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", ["lasttoken", "mean", "weightedmean"])
@pytest.mark.parametrize("model_type", DECODERS)
def test_embeddings_are_those_of_sentence_transformers(tmp_path, model_type, mode, side):
    transformer = Transformer(str(tiny_folder(tmp_path / "plain", model_type)), max_seq_length=80)
    tokenizer = transformer.tokenizer
    assert tokenizer is not None
    tokenizer.padding_side, tokenizer.pad_token = side, tokenizer.pad_token or tokenizer.eos_token
    model = SentenceTransformer(
        modules=[transformer, Pooling(32, mode), Normalize()], device="cpu", prompts={"topic": INSTRUCTION}
    )
    model.save(str(tmp_path / "saved"), create_model_card=False)
    assert_same_embeddings(model, Backbone.load(tmp_path / "saved"))
    assert_same_embeddings(model, Backbone.load(tmp_path / "saved", prompt="topic"), prompt=INSTRUCTION)


@torch.no_grad()
def test_gemma_may_see_in_both_directions(tmp_path):
    folder = tiny_folder(tmp_path, "gemma3_text")
    config = transformers.Gemma3TextConfig.from_pretrained(folder)
    config.use_bidirectional_attention = True
    config.save_pretrained(folder)
    backbone = Backbone.load(folder, dtype="float64")
    model = transformers.AutoModel.from_pretrained(folder).double().eval()
    assert model.config.use_bidirectional_attention
    ids, attention, _ = tokens_with_mask(backbone.tokenizer)
    expected = model(ids, attention).last_hidden_state
    hidden = backbone.hidden_states(backbone.word_embeddings[ids], attention)
    assert_close(hidden[attention.bool()], expected[attention.bool()], rtol=0, atol=1e-6)  # its norms are in float32
    changed = ids.clone()
    changed[:, 1] = ids[:, 2]
    first = backbone.hidden_states(backbone.word_embeddings[changed], attention)[:, 0]
    assert (first - hidden[:, 0]).abs().max() > 1e-4, "the first token must see the second one"


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_a_tokenizer_without_padding_token_is_enough(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type)
    assert backbone.tokenizer.pad_token_id is None
    warp, init = tiny_model(backbone, template="{prompt:2} {text} {mask}", read_out="pooled+mask")
    together = features(warp, init, TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        assert_close(features(warp, init, [text])[0], row, rtol=0, atol=1e-10)


@pytest.mark.parametrize("model_type", DECODERS)
def test_mask_stands_for_the_end_of_the_text(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type)
    warp, _ = tiny_model(backbone, template="{text} {prompt:2} {mask}", read_out="mask")
    batch = warp.encoder(TEXTS)
    at_mask = batch.input_ids[torch.arange(len(TEXTS)), batch.mask_position]
    assert at_mask.tolist() == [backbone.tokenizer.eos_token_id] * len(TEXTS)
    assert (batch.mask_position >= (batch.prompt_index >= 0).int().cumsum(1).argmax(1)).all()


def test_a_decoder_fits_and_predicts_with_default_settings(tmp_path):
    backbone = tiny_backbone(tmp_path / "backbone", "qwen3", dtype="float32")
    classifier = WarpClassifier(backbone=backbone).fit(["play music", "rain today"], ["music", "rain"])
    classifier.save(tmp_path / "task")
    loaded = WarpClassifier.load(tmp_path / "task", backbone)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
