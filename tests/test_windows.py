"""Long texts are read in windows: no token is left out, and features are means over the windows."""

import pytest
import torch
from running import refused
from tiny import NO_STEPS, features, query_logits, tiny_episodes, tiny_model
from torch.testing import assert_close

from episodes import Episode
from metawarp.config import GROUPS, InnerLoop
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.texts.feature_cache import CacheScope
from metawarp.texts.template import Template
from metawarp.texts.text_embeddings import TextEmbeddings
from metawarp.texts.text_encoder import TextEncoder

SHORT = ["set the alarm", "pay my bill please"]
LONG = "what is the weather today in the market and where do you play the news when it is cold"  # 19 words, 19 tokens
TEMPLATE = "{prompt:2} so: {text} {prompt:1} {mask} ."


def reader(backbone, stride, room=5, template=TEMPLATE, inner=NO_STEPS, **config):
    around = 99 - TextEncoder(Template(template), backbone, 99, 0, CacheScope(None)).room
    settings = {"read_out": "text+mean+mask", "max_length": around + room, "stride": stride} | config
    return tiny_model(backbone, inner, template=template, **settings)


def windows_of(warp, text):
    """The words that each window shows."""
    windows, of = warp.encoder.windows(warp.encoder([text]))
    special = set(warp.backbone.tokenizer.all_special_ids)
    ids = [row[mask].tolist() for row, mask in zip(windows.input_ids, windows.text_mask, strict=True)]
    assert of.tolist() == [0] * len(ids)
    return [warp.backbone.tokenizer.decode([i for i in row if i not in special]).split() for row in ids]


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_windows_show_every_token_and_the_last_ends_where_the_text_does(tiny, stride):
    warp, _ = reader(tiny, stride)
    words, shown = LONG.split(), windows_of(warp, LONG)
    starts = [*range(0, len(words) - 5, stride), len(words) - 5]
    assert shown == [words[start : start + 5] for start in starts]


@pytest.mark.parametrize("template", [TEMPLATE, "{mask} {prompt:2} {text}", "{text} {prompt:3} {mask}"])
def test_a_window_is_encoded_like_a_text_of_its_words(tiny, template):
    warp, _ = reader(tiny, 5, template=template)
    windows, _ = warp.encoder.windows(warp.encoder([LONG, SHORT[0]]))
    assert windows.lengths.max() <= warp.encoder.max_length
    alone = warp.encoder([*(" ".join(words) for words in windows_of(warp, LONG)), SHORT[0]])
    assert torch.equal(windows.attention_mask, alone.attention_mask)
    for name in ("input_ids", "prompt_index", "text_mask"):
        there = alone.attention_mask
        assert torch.equal(getattr(windows, name)[there], getattr(alone, name)[there]), name
    assert torch.equal(windows.mask_position, alone.mask_position)
    assert (windows.prompt_index[~windows.attention_mask] == -1).all()


@pytest.mark.parametrize("adapter_layer", [0, 1])
@pytest.mark.parametrize("read_out", ["text", "mean", "mask"])
def test_features_are_the_means_over_windows(tiny, adapter_layer, read_out):
    (warp, init), (plain, _) = (
        reader(tiny, stride, read_out=read_out, adapter_layer=adapter_layer) for stride in (3, 0)
    )
    found = features(warp, init, [SHORT[0], LONG, SHORT[1], LONG])
    # The features of the windows have unit length, but their mean is one of features before they are normalized.
    windows = features(warp, init, [" ".join(words) for words in windows_of(warp, LONG)])
    assert torch.cosine_similarity(found[1], windows.mean(0), dim=0) > 0.99
    assert torch.equal(found[1], found[3])
    assert_close(found[[0, 2]], features(warp, init, SHORT), rtol=0, atol=1e-10)
    without_stride = features(plain, init, [LONG, *SHORT])
    assert_close(without_stride[0], windows[0], rtol=0, atol=1e-10)
    assert not torch.allclose(without_stride[0], found[1], atol=1e-3)
    assert_close(without_stride[1:], found[[0, 2]], rtol=0, atol=1e-10)


def test_each_task_reads_its_own_windows(tiny):
    inner = InnerLoop(2, GROUPS)
    warp, init = reader(tiny, 3, inner=inner, read_out="mean+mask")
    episodes = [
        Episode.from_texts(
            episode.class_names,
            [f"{text} {LONG}" for text in episode.support_texts],
            episode.support_labels.tolist(),
            episode.query_texts,
            episode.query_labels.tolist(),
        )
        for episode in tiny_episodes(2)
    ]
    alone = [query_logits(warp, init, [episode], inner)[0] for episode in episodes]
    assert_close(query_logits(warp, init, episodes, inner), alone, rtol=0, atol=1e-8)


def test_baselines_read_the_same_windows(tiny):
    encode = SentenceEncoder(tiny, 7, stride=5, cache=None)
    pieces = [" ".join(LONG.split()[start : start + 5]) for start in (0, 5, 10, 14)]
    mean = TextEmbeddings(tiny, [tiny.n_layers], None)(encode.warp.encoder(pieces))[0].mean(0)
    assert_close(torch.from_numpy(encode([LONG])[0]), (mean / mean.norm()).float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("stride", [-1, 6])
def test_a_stride_that_leaves_tokens_out_is_refused(tiny, stride):
    with refused(f"stride={stride}", "from 1 to 5"):
        reader(tiny, stride)


def test_truncation_is_logged_only_without_a_stride(tiny, caplog):
    for stride in (0, 5):
        caplog.clear()
        reader(tiny, stride)[0].warn_about_truncation([LONG, *SHORT])
        assert ("1 of 3 texts are longer than 5 tokens" in caplog.text) == (stride == 0)
