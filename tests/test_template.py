"""Templates: what stands where, what is truncated, which texts go in, and what is said about a malformed one."""

from dataclasses import replace

import pytest
import torch
from running import refused
from tiny import NO_STEPS, tiny_model, tiny_tokenizer

from metawarp import Init, Warp, WarpConfig
from metawarp.adaptation.start import shared_parameters
from metawarp.texts.feature_cache import CacheScope, FeatureCache
from metawarp.texts.template import Template
from metawarp.texts.text_encoder import TextEncoder

EVERYTHING = "{prompt:2} so: {text} {prompt:'the topic is'} it was about {mask} ."


def encoder(backbone, template, max_length=64):
    return encoder_of(backbone.tokenizer, template, max_length)


def encoder_of(tokenizer, template, max_length=64, cache=None):
    return TextEncoder(Template(template), tokenizer, max_length, 0, CacheScope(cache))


def read(warp, init, texts):
    """Features of texts under the parameters of an init."""
    return warp.read(shared_parameters(init), warp.encoder(texts), torch.zeros(len(texts), dtype=torch.long))


def readable(tiny, batch, row=0):
    """The tokens of a row, soft ones as their number in angle brackets."""
    tokens = tiny.tokenizer.convert_ids_to_tokens(batch.input_ids[row].tolist())
    soft = batch.prompt_index[row].tolist()
    return " ".join(f"<{k}>" if k >= 0 else token for token, k in zip(tokens, soft, strict=True))


# What stands where -------------------------------------------------------------------------------------------


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


def test_every_part_stands_in_its_place(tiny):
    batch = encoder(tiny, EVERYTHING)(["set the alarm"])
    assert readable(tiny, batch) == ("[CLS] <0> <1> s ##o : set the alarm <2> <3> <4> it was about [MASK] . [SEP]")
    assert batch.input_ids[0, batch.mask_position[0]] == tiny.tokenizer.mask_token_id
    assert batch.text_mask[0].int().tolist() == [1] + [0] * 5 + [1] * 3 + [0] * 8 + [1]
    assert batch.attention_mask.all()


def test_shorter_texts_are_padded_on_the_right(tiny):
    batch = encoder(tiny, "{prompt:1} {text} {mask}")(["the alarm", "set the alarm"])
    assert readable(tiny, batch, 0) == "[CLS] <0> the alarm [MASK] [SEP] [PAD]"
    assert readable(tiny, batch, 1) == "[CLS] <0> set the alarm [MASK] [SEP]"
    assert batch.attention_mask.int().tolist() == [[1] * 6 + [0], [1] * 7]
    assert not batch.text_mask[0, -1]
    assert batch.mask_position.tolist() == [4, 5]
    assert batch.lengths.tolist() == [6, 7]


def test_selected_rows_lose_the_padding_that_only_others_needed(tiny):
    encode = encoder(tiny, "{text} {mask}")
    both, alone = encode(["the alarm", "set the alarm for my train"]), encode(["the alarm"])
    chosen = both.select(torch.tensor([0]))
    for name in ("input_ids", "prompt_index", "attention_mask", "text_mask", "mask_position"):
        assert torch.equal(getattr(chosen, name), getattr(alone, name)), name


def test_a_template_without_mask_has_no_mask_position(tiny):
    assert encoder(tiny, "{prompt:1} {text}")(["the [MASK]", "alarm"]).mask_position.tolist() == [-1, -1]
    assert not Template("{prompt:1} {text}").has_mask


def test_soft_tokens_from_words_start_at_the_embeddings_of_these_words(minilm):
    config = WarpConfig(template="{prompt:2} {text} {prompt:'The topic is football'} {mask}", prompt_start="mask")
    prompt = Init.start(Warp(minilm, config), NO_STEPS).parameters.adapter
    ids = minilm.tokenizer("the topic is football", add_special_tokens=False)["input_ids"]
    assert torch.equal(prompt[2:], minilm.word_embeddings[ids])
    assert torch.equal(prompt[:2], minilm.word_embeddings[[minilm.tokenizer.mask_token_id] * 2])


def test_a_prompt_that_still_is_its_words_is_the_same_as_fixed_words(tiny):
    soft, init = tiny_model(tiny, template="{prompt:'it is about'} {text} {mask}", read_out="mask")
    fixed, _ = tiny_model(tiny, template="it is about {text} {mask}", read_out="mask")
    soft_features = read(soft, init, ["set the alarm"])
    fixed_features = read(fixed, replace(init, adapter=init.adapter[:0]), ["set the alarm"])
    # fp32 once, in the init
    assert torch.allclose(soft_features, fixed_features, atol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta"])
def test_words_are_the_tokens_that_they_are_in_one_string(model_type):
    tokenizer = tiny_tokenizer(model_type)
    encode = encoder_of(tokenizer, "it is about {text} and {prompt:'the topic'} so{mask}")
    batch = encode(["music today"])
    one_string = tokenizer(f"it is about music today and the topic so{tokenizer.mask_token}")["input_ids"]
    soft = batch.prompt_index[0] >= 0
    ids = batch.input_ids[0].clone()
    ids[soft] = torch.tensor(encode.prompt_words)
    assert ids.tolist() == one_string
    text = tokenizer(" music today" if model_type == "roberta" else "music today")["input_ids"]
    assert batch.input_ids[batch.text_mask].tolist() == text


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta"])
def test_an_empty_text_has_no_tokens(model_type):
    encode = encoder_of(tiny_tokenizer(model_type), "it is about {text} {mask}")
    assert encode([""]).text_mask.sum() == 2


def test_a_text_behind_soft_tokens_is_the_one_that_a_sentence_encoder_reads():
    tokenizer = tiny_tokenizer("roberta")
    batch = encoder_of(tokenizer, "{prompt:2} {text} {mask}")(["music today"])
    assert batch.input_ids[batch.text_mask].tolist() == tokenizer("music today")["input_ids"]


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_names_that_a_tokenizer_knows_no_part_of_are_refused(model_type):
    encode = encoder_of(tiny_tokenizer(model_type), "{text} {mask}")
    with refused("class names", "'天気'", "'音'"):
        encode.require_known(["music", "天気", "音"])


# What is truncated --------------------------------------------------------------------------------------------


def test_only_the_text_is_truncated(tiny):
    encode = encoder(tiny, EVERYTHING, max_length=20)
    assert encode.room == 5
    assert readable(tiny, encode(["set the alarm " * 3_333])) == (
        "[CLS] <0> <1> s ##o : set the alarm set the <2> <3> <4> it was about [MASK] . [SEP]"
    )


def test_a_text_of_100_000_words_is_cut_to_what_the_model_can_read(minilm):
    warp = Warp(minilm, WarpConfig(max_length=100_000))
    batch = warp.encoder(["alarm " * 100_000])
    assert batch.input_ids.shape == (1, 512)
    assert (batch.prompt_index[0] >= 0).sum() == 12
    assert batch.input_ids[0, batch.mask_position[0]] == minilm.tokenizer.mask_token_id
    assert batch.input_ids[0, -1] == minilm.tokenizer.sep_token_id


def test_a_single_token_of_room_is_enough(tiny):
    encode = encoder(tiny, "{prompt:3} {text} {mask}", max_length=7)
    assert readable(tiny, encode(["set the alarm"])) == "[CLS] <0> <1> <2> set [MASK] [SEP]"


# Which texts go in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["{mask} {text}", "{text} {mask}", "{prompt:1} {mask} {text} {prompt:1}"])
def test_a_text_with_the_words_of_a_template_does_not_confuse_it(tiny, template):
    encode = encoder(tiny, template)
    confusing = "[MASK] set [MASK] the {text} {mask} {prompt:4} [MASK]"
    plain, found = encode(["the"]), encode([confusing])
    where = int(found.mask_position[0])
    assert found.input_ids[0, where] == tiny.tokenizer.mask_token_id
    assert not found.text_mask[0, where], "the position must be that of the template's [MASK]"
    assert (found.prompt_index >= 0).sum() == (plain.prompt_index >= 0).sum()
    # Around the text nothing has changed.
    length = int(found.lengths[0] - plain.lengths[0])
    after = template.index("{mask}") > template.index("{text}")
    assert where == int(plain.mask_position[0]) + (length if after else 0)


@pytest.mark.parametrize(
    "text",
    [
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
    ],
    ids=ascii,
)
def test_unusual_characters_give_finite_features(minilm, text):
    warp, init = tiny_model(minilm, template="{prompt:2} {text} {mask}")
    features = read(warp, init, [text, "hello"])
    assert features.isfinite().all()
    assert torch.allclose(features.norm(dim=1), torch.ones(2), atol=1e-5)


def test_a_text_of_control_characters_alone_is_an_empty_text_in_its_template(tiny):
    assert readable(tiny, encoder(tiny, "{prompt:1} {text} {mask}")(["\x07"])) == "[CLS] <0> [MASK] [SEP]"


def test_a_text_of_unknown_characters_keeps_one_unknown_token_a_word(tiny):
    assert readable(tiny, encoder(tiny, "{text} {mask}")(["☃ ☃"])) == "[CLS] [UNK] [UNK] [MASK] [SEP]"


# What is malformed --------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("read_out", ["mask", "text+mask", "debiased_mask"])
def test_read_outs_at_mask_need_a_mask(read_out):
    with refused(f"read_out={read_out!r}", "{mask}", "template='{prompt:4} {text}'", "read_out='mean'"):
        WarpConfig(template="{prompt:4} {text}", read_out=read_out)
    WarpConfig(template="{prompt:4} {text}", read_out="mean")


def test_a_prompt_that_leaves_no_room_for_text_is_refused(tiny):
    template = "{prompt:157} {text} {mask}"
    with refused(f"template={template!r}", "160 tokens", "no room for text", "at most 160 tokens"):
        Warp(tiny, WarpConfig(template=template, max_length=512))
    Warp(tiny, WarpConfig(template="{prompt:156} {text} {mask}", max_length=512))


def test_texts_are_tokenized_once_with_a_cache(tiny):
    asked = []

    class Noting:
        mask_token_id, pad_token_id = tiny.tokenizer.mask_token_id, tiny.tokenizer.pad_token_id

        def __call__(self, some, **options):
            asked.extend([some] if isinstance(some, str) else some)
            return tiny.tokenizer(some, **options)

    texts = ["play music", "the rain today", "play music"]
    encode = encoder_of(Noting(), "{text} {mask}", cache=FeatureCache())
    asked.clear()
    encode(texts)
    assert sorted(asked) == sorted(set(texts))
    again = encode([*texts, "another"])
    assert asked[2:] == ["another"]
    assert torch.equal(again.input_ids, encoder(tiny, "{text} {mask}")([*texts, "another"]).input_ids)
