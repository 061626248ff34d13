"""Tokenizers of a few hundred tokens for tiny models, of the kind that each model type comes with."""

import string
from collections.abc import Callable
from functools import cache

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import PreTrainedTokenizerFast

WORDS = """
the a my is was it about topic to of and in on for with please i you we not how what where when do can set turn play
alarm music light weather rain sun bank card money pay bill order parcel refund flight train hotel book doctor pain
password screen printer email news game team market film food good bad great slow fast late cold warm red blue today
""".split()  # noqa: SIM905

DECODERS = ("gemma3_text", "llama", "mistral", "qwen2", "qwen3")
"""Types that are read at the end of a text, and have no masked-LM head."""

BEHIND_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")
"""Types that count positions from behind the padding id."""

BERT_SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
# RoBERTa has its padding at id 1 and counts positions from there; the order of this dict is that of the ids.
ROBERTA_SPECIALS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
DECODER_SPECIALS = {
    "gemma3_text": {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>", "unk": "<unk>", "mask": "<mask>"},
    **dict.fromkeys(("llama", "mistral"), {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}),
    **dict.fromkeys(("qwen2", "qwen3"), {"eos": "<|endoftext|>", "pad": "<|endoftext|>"}),
}
FIRST_AND_LAST = {
    "gemma3_text": ("bos", "eos"),
    **dict.fromkeys(("llama", "mistral"), ("bos", "none")),
    **dict.fromkeys(("qwen2", "qwen3"), ("none", "eos")),
}
"""Names of the special tokens around a text: decoders have one at the start, at the end, or both."""


CHARACTERS = sorted(set(string.printable.lower()) - set(string.whitespace))


def word_pieces(specials):
    """Lower-cased WordPiece, BERT's: some words, and every printable ASCII character on its own."""
    pieces = [*CHARACTERS, *(f"##{c}" for c in CHARACTERS), *(word for word in WORDS if len(word) > 1)]
    vocabulary = {piece: i for i, piece in enumerate([*specials.values(), *dict.fromkeys(pieces)])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=specials["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def byte_pairs(specials):
    """Byte-level BPE, RoBERTa's: a word behind a space is another token than the same word at the start."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=500, special_tokens=list(specials.values()), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*WORDS, *(f" {word}" for word in WORDS)], trainer)
    return tokenizer


def unigrams(specials):
    """Unigram over what SentencePiece makes of white space, XLM-RoBERTa's."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = UnigramTrainer(
        vocab_size=300,
        special_tokens=list(specials.values()),
        unk_token=specials["unk"],
        initial_alphabet=CHARACTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS), *WORDS], trainer)
    return tokenizer


TOKENIZERS: dict[str, Callable[[dict[str, str]], Tokenizer]] = {
    **dict.fromkeys(("roberta", "deberta", "modernbert", *DECODERS), byte_pairs),
    **dict.fromkeys(("albert", "camembert", "deberta-v2", "xlm-roberta"), unigrams),
}
"""The kind of tokenizer that a type comes with; WordPiece where it is not named."""


@cache
def tiny_tokenizer(model_type="bert"):
    """A tokenizer of the kind that a model type comes with, of a few hundred tokens."""
    specials = ROBERTA_SPECIALS if model_type in BEHIND_PADDING else BERT_SPECIALS
    specials = DECODER_SPECIALS.get(model_type, specials)
    tokenizer = TOKENIZERS.get(model_type, word_pieces)(specials)
    first, last = (
        [specials[name]] if name in specials else [] for name in FIRST_AND_LAST.get(model_type, ("cls", "sep"))
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*first, "$A", *last]),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (*first, *last)],
    )
    named = {f"{name}_token": token for name, token in specials.items()}
    side = "left" if model_type.startswith("qwen") else "right"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side=side, **named)
