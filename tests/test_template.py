"""Templates: what stands where, what is truncated, which texts go in, and what is said about a malformed one."""

import pytest
import torch
from running import refused
from tiny import NO_STEPS, tiny_model, tiny_tokenizer, weights_of

from metawarp import Init, Warp, WarpConfig
from metawarp.texts.template import Template, TextEncoder

EVERYTHING = "{prompt:2} so: {text} {prompt:'the topic is'} it was about {mask} ."


def encoder(tiny, template, max_length=64):
    return TextEncoder(Template(template), tiny.tokenizer, max_length)


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
    prompt = Init.start(Warp(minilm, config), NO_STEPS).tensors["prompt"]
    ids = minilm.tokenizer("the topic is football", add_special_tokens=False)["input_ids"]
    assert torch.equal(prompt[2:], minilm.word_embeddings[ids])
    assert torch.equal(prompt[:2], minilm.word_embeddings[[minilm.tokenizer.mask_token_id] * 2])


def test_a_prompt_that_still_is_its_words_is_the_same_as_fixed_words(tiny):
    soft, state = tiny_model(tiny, template="{prompt:'it is about'} {text} {mask}", read_out="mask")
    fixed, _ = tiny_model(tiny, template="it is about {text} {mask}", read_out="mask")
    text, task = ["set the alarm"], torch.zeros(1, dtype=torch.long)
    soft_features = soft.features(state["prompt"][None], None, soft.encoder(text), task)
    fixed_features = fixed.features(state["prompt"][None, :0], None, fixed.encoder(text), task)
    # fp32 once, in the init
    assert torch.allclose(soft_features, fixed_features, atol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta"])
def test_words_are_the_tokens_that_they_are_in_one_string(model_type):
    tokenizer = tiny_tokenizer(model_type)
    encode = TextEncoder(Template("it is about {text} and {prompt:'the topic'} so{mask}"), tokenizer, 64)
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
    encode = TextEncoder(Template("it is about {text} {mask}"), tiny_tokenizer(model_type), 64)
    assert encode([""]).text_mask.sum() == 2


def test_a_text_behind_soft_tokens_is_the_one_that_a_sentence_encoder_reads():
    tokenizer = tiny_tokenizer("roberta")
    batch = TextEncoder(Template("{prompt:2} {text} {mask}"), tokenizer, 64)(["music today"])
    assert batch.input_ids[batch.text_mask].tolist() == tokenizer("music today")["input_ids"]


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_names_that_a_tokenizer_knows_no_part_of_are_refused(model_type):
    encode = TextEncoder(Template("{text} {mask}"), tiny_tokenizer(model_type), 64)
    with refused(
        "the backbone's tokenizer knows no part of these class names: '天気', '音'; "
        "name the classes in words that it knows."
    ):
        encode.require_known(["music", "天気", "音"])


# What is truncated --------------------------------------------------------------------------------------------


def test_only_the_text_is_truncated(tiny):
    encode = encoder(tiny, EVERYTHING, max_length=20)
    assert encode.room == 5
    assert readable(tiny, encode(["set the alarm " * 33_333])) == (
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
    warp, state = tiny_model(minilm, template="{prompt:2} {text} {mask}")
    features = warp.features(
        state["prompt"][None], weights_of(state), warp.encoder([text, "hello"]), torch.zeros(2, dtype=torch.long)
    )
    assert features.isfinite().all()
    assert torch.allclose(features.norm(dim=1), torch.ones(2), atol=1e-5)


def test_a_text_of_control_characters_alone_is_an_empty_text_in_its_template(tiny):
    assert readable(tiny, encoder(tiny, "{prompt:1} {text} {mask}")(["\x07"])) == "[CLS] <0> [MASK] [SEP]"


def test_a_text_of_unknown_characters_keeps_one_unknown_token_a_word(tiny):
    assert readable(tiny, encoder(tiny, "{text} {mask}")(["☃ ☃"])) == "[CLS] [UNK] [UNK] [MASK] [SEP]"


# What is malformed --------------------------------------------------------------------------------------------

FIELDS = "known: {text}, {mask}, {start}, {prompt:4} and {prompt:'words'}, a prompt being at least one token."


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{mask}", "template '{mask}' has 0 {text}; it needs exactly one."),
        ("", "template '' has 0 {text}; it needs exactly one."),
        ("{text} {text} {mask}", "template '{text} {text} {mask}' has 2 {text}; it needs exactly one."),
        ("{mask} {text} {mask}", "template '{mask} {text} {mask}' has 2 {mask}; there can be one only."),
        ("{text} {label}", f"template '{{text}} {{label}}' has the unknown field {{label}}; {FIELDS}"),
        ("{text} {prompt}", f"template '{{text}} {{prompt}}' has the unknown field {{prompt}}; {FIELDS}"),
        ("{text} {prompt:-1}", f"template '{{text}} {{prompt:-1}}' has the unknown field {{prompt:-1}}; {FIELDS}"),
        ("{text} {prompt:0}", f"template '{{text}} {{prompt:0}}' has the unknown field {{prompt:0}}; {FIELDS}"),
        ("{text} {prompt:00}", f"template '{{text}} {{prompt:00}}' has the unknown field {{prompt:00}}; {FIELDS}"),
        ("{text} {prompt:''}", f"template \"{{text}} {{prompt:''}}\" has the unknown field {{prompt:''}}; {FIELDS}"),
        ("{text} {}", f"template '{{text}} {{}}' has the unknown field {{}}; {FIELDS}"),
        ("{text} {mask", "template '{text} {mask' has a brace without its partner in ' {mask'."),
        ("{text}} {mask}", "template '{text}} {mask}' has a brace without its partner in '}'."),
    ],
)
def test_a_malformed_template_is_refused(source, message):
    with refused(message):
        Template(source)


@pytest.mark.parametrize("read_out", ["mask", "text+mask"])
def test_read_outs_at_mask_need_a_mask(read_out):
    with refused(
        f"template '{{prompt:4}} {{text}}' has no {{mask}}, which read-out '{read_out}' needs; "
        "add {mask}, or use the read-out mean."
    ):
        WarpConfig(template="{prompt:4} {text}", read_out=read_out)


def test_the_read_out_mean_needs_none():
    assert WarpConfig(template="{prompt:4} {text}", read_out="mean").read_out == "mean"


def test_a_prompt_that_leaves_no_room_for_text_is_refused(tiny):
    with refused(
        "template '{prompt:157} {text} {mask}' takes 160 tokens and leaves no room for text; "
        "an input has 160 tokens at most: use a shorter prompt."
    ):
        Warp(tiny, WarpConfig(template="{prompt:157} {text} {mask}", max_length=512))
    Warp(tiny, WarpConfig(template="{prompt:156} {text} {mask}", max_length=512))


def test_texts_of_a_corpus_are_tokenized_once(tiny):
    encoder = Warp(tiny, WarpConfig()).encoder
    texts = ["play music", "the rain today", "play music"]
    before = encoder([*texts, "another"])
    encoder.remember(texts)
    tokenizer, asked = encoder.tokenizer, []

    class Noting:
        def __call__(self, some, **options):
            asked.extend(some)
            return tokenizer(some, **options)

    encoder.tokenizer = Noting()
    encoder.tokenizer.mask_token_id, encoder.tokenizer.pad_token_id = tokenizer.mask_token_id, tokenizer.pad_token_id
    encoder.remember(texts)
    assert torch.equal(encoder(texts).mask_position, before.mask_position[:3])
    assert asked == []
    again = encoder([*texts, "another"])
    assert torch.equal(again.input_ids, before.input_ids)
    assert asked == ["another"]
