"""Templates: the place of each part, truncation, unusual texts, and the messages about malformed templates."""

from dataclasses import replace
from functools import cache
from tempfile import TemporaryDirectory

import pytest
import torch
from running import refused
from tiny import NO_STEPS, features, tiny_backbone, tiny_model
from tiny_tokenizers import tiny_tokenizer
from torch.testing import assert_close
from transformers import PreTrainedTokenizerFast

from metawarp import Init, Warp, WarpConfig
from metawarp.texts.feature_cache import CacheScope, FeatureCache
from metawarp.texts.template import Template
from metawarp.texts.text_encoder import TextEncoder

EVERYTHING = "{prompt:2} so: {text} {prompt:'the topic is'} it was about {mask} ."
TYPES = pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta"])


@cache
def backbone_of(model_type):
    with TemporaryDirectory() as folder:
        return tiny_backbone(folder, model_type)


def encoder(template, max_length=64, model_type="bert", cache=None):
    return TextEncoder(Template(template), backbone_of(model_type), max_length, 0, CacheScope(cache))


def readable(batch, row=0):
    """The tokens of a row, soft ones as their number in angle brackets."""
    tokens = tiny_tokenizer("bert").convert_ids_to_tokens(batch.input_ids[row].tolist())
    soft = batch.prompt_index[row].tolist()
    return " ".join(f"<{k}>" if k >= 0 else token for token, k in zip(tokens, soft, strict=True))


# The place of each part ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("{text}", [("text", "")]),
        ("{ text } {mask}", [("text", ""), ("mask", "")]),
        ("{prompt:4}{text}{prompt: 12}", [("soft", 4), ("text", ""), ("soft", 12)]),
        ("""{prompt:'a b'}{text} {prompt:"it's"}""", [("soft words", "a b"), ("text", ""), ("soft words", " it's")]),
        (
            "Topic: {text} It was about {mask}.",
            [("words", "Topic:"), ("text", " "), ("words", " It was about"), ("mask", ""), ("words", ".")],
        ),
    ],
)
def test_a_template_is_read_from_left_to_right(source, parts):
    assert Template(source).parts == parts


def test_every_part_is_in_its_place():
    batch = encoder(EVERYTHING)(["set the alarm"])
    assert readable(batch) == "[CLS] <0> <1> s ##o : set the alarm <2> <3> <4> it was about [MASK] . [SEP]"
    assert batch.mask_position.tolist() == [15]
    assert batch.text_mask[0].int().tolist() == [1] + [0] * 5 + [1] * 3 + [0] * 8 + [1]
    assert batch.attention_mask.all()


def test_shorter_texts_are_padded_on_the_right_and_selected_rows_lose_needless_padding():
    encode = encoder("{prompt:1} {text} {mask}")
    batch, alone = encode(["the alarm", "set the alarm"]), encode(["the alarm"])
    assert readable(batch, 0) == "[CLS] <0> the alarm [MASK] [SEP] [PAD]"
    assert readable(batch, 1) == "[CLS] <0> set the alarm [MASK] [SEP]"
    assert batch.attention_mask.int().tolist() == [[1] * 6 + [0], [1] * 7]
    assert not batch.text_mask[0, -1]
    assert batch.mask_position.tolist() == [4, 5]
    assert batch.lengths.tolist() == [6, 7]
    selected = batch.select(torch.tensor([0]))
    for name in ("input_ids", "prompt_index", "attention_mask", "text_mask", "mask_position"):
        assert torch.equal(getattr(selected, name), getattr(alone, name)), name


def test_a_template_without_mask_has_no_mask_position():
    assert encoder("{prompt:1} {text}")(["the [MASK]", "alarm"]).mask_position.tolist() == [-1, -1]
    assert not Template("{prompt:1} {text}").has_mask


def test_soft_tokens_from_words_start_at_the_embeddings_of_these_words(minilm):
    config = WarpConfig(template="{prompt:2} {text} {prompt:'The topic is football'} {mask}", prompt_start="mask")
    prompt = Init.start(Warp(minilm, config), NO_STEPS).parameters.adapter
    ids = minilm.tokenizer("the topic is football", add_special_tokens=False)["input_ids"]
    assert torch.equal(prompt, minilm.word_embeddings[[minilm.tokenizer.mask_token_id] * 2 + ids])


def test_an_untrained_prompt_from_words_is_read_as_these_words(tiny):
    soft, init = tiny_model(tiny, template="{prompt:'it is about'} {text} {mask}", read_out="mask")
    fixed, _ = tiny_model(tiny, template="it is about {text} {mask}", read_out="mask")
    found = features(soft, init, ["set the alarm"])
    expected = features(fixed, replace(init, adapter=init.adapter[:0]), ["set the alarm"])
    assert_close(found, expected, rtol=0, atol=1e-5)  # the init is in float32


@TYPES
def test_words_become_the_tokens_of_the_whole_string(model_type):
    tokenizer = tiny_tokenizer(model_type)
    encode = encoder("it is about {text} and {prompt:'the topic'} so{mask}", model_type=model_type)
    batch = encode(["music today"])
    ids = batch.input_ids[0].clone()
    ids[batch.prompt_index[0] >= 0] = torch.tensor(encode.prompt_word_ids)
    whole = tokenizer(f"it is about music today and the topic so{tokenizer.mask_token}")
    assert ids.tolist() == whole["input_ids"]
    text = tokenizer(" music today" if model_type == "roberta" else "music today")
    assert batch.input_ids[batch.text_mask].tolist() == text["input_ids"]
    assert encode([""]).text_mask.sum() == 2, "an empty text has no tokens but [CLS] and [SEP]"


def test_a_text_behind_soft_tokens_has_the_tokens_of_the_bare_text():
    tokenizer = tiny_tokenizer("roberta")
    batch = encoder("{prompt:2} {text} {mask}", model_type="roberta")(["music today"])
    assert batch.input_ids[batch.text_mask].tolist() == tokenizer("music today")["input_ids"]


# Truncation ---------------------------------------------------------------------------------------------------


def test_only_the_text_is_truncated():
    encode = encoder(EVERYTHING, max_length=20)
    assert encode.room == 5
    assert readable(encode(["set the alarm " * 3_333])) == (
        "[CLS] <0> <1> s ##o : set the alarm set the <2> <3> <4> it was about [MASK] . [SEP]"
    )
    short = encoder("{prompt:3} {text} {mask}", max_length=7)
    assert readable(short(["set the alarm"])) == "[CLS] <0> <1> <2> set [MASK] [SEP]"


def test_a_text_of_100_000_words_is_truncated_to_the_positions_of_the_model(minilm):
    assert Warp(minilm, WarpConfig()).encoder.max_length == 256, "the length of the texts that it was trained on"
    batch = Warp(minilm, WarpConfig(max_length=100_000)).encoder(["alarm " * 100_000])
    assert batch.input_ids.shape == (1, 512)
    assert (batch.prompt_index[0] >= 0).sum() == 12
    assert batch.input_ids[0, -2:].tolist() == [minilm.tokenizer.mask_token_id, minilm.tokenizer.sep_token_id]


def test_a_prompt_that_leaves_no_room_for_text_is_refused(tiny):
    with refused("template='{prompt:157} {text} {mask}'", "160 tokens", "no room for text", "at most 160 tokens"):
        Warp(tiny, WarpConfig(template="{prompt:157} {text} {mask}", max_length=512))
    Warp(tiny, WarpConfig(template="{prompt:156} {text} {mask}", max_length=512))


# Unusual texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["{mask} {text}", "{text} {mask}", "{prompt:1} {mask} {text} {prompt:1}"])
def test_a_text_that_contains_fields_of_a_template_stays_text(template):
    encode = encoder(template)
    plain, found = encode(["the"]), encode(["[MASK] set [MASK] the {text} {mask} {prompt:4} [MASK]"])
    position, longer = int(found.mask_position[0]), int(found.lengths[0] - plain.lengths[0])
    mask_follows_text = template.index("{mask}") > template.index("{text}")
    assert position == int(plain.mask_position[0]) + (longer if mask_follows_text else 0)
    assert found.input_ids[0, position] == tiny_tokenizer("bert").mask_token_id
    assert not found.text_mask[0, position], "the position must be that of the template's [MASK]"
    assert (found.prompt_index >= 0).sum() == (plain.prompt_index >= 0).sum()


UNUSUAL = [
    "see you tomorrow 👍🏽 🎉",
    "👨‍👩‍👧‍👦",
    "איפה החבילה שלי",
    "أين طردي؟",
    "\u202eright to left override\u202c",
    "a\x00b\x07c\ufffd",
    "\x07\x08",
    "\u200b",
    "☃",
    "ⰰⰱⰲ",
    "天気",
    "é" * 10,
]


def test_unusual_characters_give_finite_features(minilm):
    warp, init = tiny_model(minilm, template="{prompt:2} {text} {mask}")
    found = features(warp, init, [*UNUSUAL, "hello"])
    assert_close(found.norm(dim=1), torch.ones(len(UNUSUAL) + 1), rtol=0, atol=1e-5)


def test_control_characters_have_no_token_and_unknown_words_one_each():
    assert readable(encoder("{prompt:1} {text} {mask}")(["\x07"])) == "[CLS] <0> [MASK] [SEP]"
    assert readable(encoder("{text} {mask}")(["☃ ☃"])) == "[CLS] [UNK] [UNK] [MASK] [SEP]"


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_names_without_a_known_token_are_refused(model_type):
    encode = encoder("{text} {mask}", model_type=model_type)
    with refused("class names", "'天気'", "'音'"):
        encode.require_known(["music", "天気", "音"])


# Malformed templates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("{mask}", ["has 0 {text}", "exactly one"]),
        ("", ["has 0 {text}", "exactly one"]),
        ("{text} {text} {mask}", ["has 2 {text}", "exactly one"]),
        ("{mask} {text} {mask}", ["several {mask}"]),
        ("{start} {start} {text}", ["{start}"]),
        ("{text} {start}", ["{start}", "before {text}"]),
        *(
            (f"{{text}} {{{field}}}", [f"unknown field {{{field}}}", "known: {text}, {mask}, {start}, {prompt:4}"])
            for field in ("label", "prompt", "prompt:-1", "prompt:0", "prompt:00", "prompt:''", "")
        ),
        ("{text} {mask", ["unmatched brace", "' {mask'"]),
        ("{text}} {mask}", ["unmatched brace", "'}'"]),
    ],
)
def test_a_malformed_template_is_refused(source, facts):
    with refused(f"template={source!r}", *facts):
        Template(source)


# The cache ----------------------------------------------------------------------------------------------------


def test_with_a_cache_a_text_is_tokenized_once(monkeypatch):
    tokenized, call = [], PreTrainedTokenizerFast.__call__

    def noting(self, some, **options):
        tokenized.extend([some] if isinstance(some, str) else some)
        return call(self, some, **options)

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", noting)
    texts = ["play music", "the rain today", "play music"]
    encode = encoder("{text} {mask}", cache=FeatureCache())
    tokenized.clear()
    encode(texts)
    assert sorted(tokenized) == sorted(set(texts))
    again = encode([*texts, "another"])
    assert tokenized[2:] == ["another"]
    assert torch.equal(again.input_ids, encoder("{text} {mask}")([*texts, "another"]).input_ids)
