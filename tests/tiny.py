"""Tiny random backbones of every supported model type, created on the spot and small enough for float64."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers
from tiny_tokenizers import DECODERS, WORDS, tiny_tokenizer
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close

from episodes import Corpus, EpisodeSampler
from metawarp import Backbone, Init, Warp, WarpConfig
from metawarp.adaptation.start import logits_of, losses_of, read_texts, shared_parameters
from metawarp.adaptation.trajectory import inner_steps, trajectory
from metawarp.config import InnerLoop
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import mapped, tensors_of
from metawarp.texts.task_batch import TaskBatch

NO_STEPS = InnerLoop()

UNUSUAL_TEXTS = [
    "👩‍👩‍👧‍👦 family 🇺🇳 😀",
    "مرحبا بالعالم \u202bשלום\u202c עולם",
    "bell \x07, nul \x00, escape \x1b[31m, line\u2028separator, next\x85line",
    "[MASK] [SEP] {text} {mask}",
    "\u200b",
    "word " * 100_000,
]
"""Emoji, writing from right to left, control characters, special tokens, an invisible character, and a long text."""

TEXTS = ["set the alarm", "what is the weather today in the market, and where?", "pay my bill please"]
"""Texts of different lengths, so that all but one are padded in a batch."""

MODELS = {
    "albert": (transformers.AlbertConfig, transformers.AlbertModel, transformers.AlbertForMaskedLM),
    "bert": (transformers.BertConfig, transformers.BertModel, transformers.BertForMaskedLM),
    "camembert": (transformers.CamembertConfig, transformers.CamembertModel, transformers.CamembertForMaskedLM),
    "deberta": (transformers.DebertaConfig, transformers.DebertaModel, transformers.DebertaForMaskedLM),
    "deberta-v2": (transformers.DebertaV2Config, transformers.DebertaV2Model, transformers.DebertaV2ForMaskedLM),
    "distilbert": (transformers.DistilBertConfig, transformers.DistilBertModel, transformers.DistilBertForMaskedLM),
    "electra": (transformers.ElectraConfig, transformers.ElectraModel, transformers.ElectraForMaskedLM),
    "gemma3_text": (transformers.Gemma3TextConfig, transformers.Gemma3TextModel, None),
    "llama": (transformers.LlamaConfig, transformers.LlamaModel, None),
    "mistral": (transformers.MistralConfig, transformers.MistralModel, None),
    "modernbert": (transformers.ModernBertConfig, transformers.ModernBertModel, transformers.ModernBertForMaskedLM),
    "mpnet": (transformers.MPNetConfig, transformers.MPNetModel, transformers.MPNetForMaskedLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2Model, None),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3Model, None),
    "roberta": (transformers.RobertaConfig, transformers.RobertaModel, transformers.RobertaForMaskedLM),
    "xlm-roberta": (transformers.XLMRobertaConfig, transformers.XLMRobertaModel, transformers.XLMRobertaForMaskedLM),
}

WITH_HEAD = sorted(set(MODELS) - set(DECODERS))
"""Types that come with a masked-LM head."""

TYPES_AND_HEADS = [(name, head) for name in sorted(MODELS) for head in (False, True)[: 1 + (name in WITH_HEAD)]]
"""Each type without a head, and with one if there is one."""

RELATIVE = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["c2p", "p2c"]}
GROUPED = {"num_key_value_heads": 1, "head_dim": 16}
OWN_SIZES = {
    "albert": {"embedding_size": 16, "num_hidden_groups": 2},
    "deberta": {**RELATIVE, "max_relative_positions": 8},
    "deberta-v2": {**RELATIVE, "position_buckets": 4, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3},
    "electra": {"embedding_size": 16},
    "gemma3_text": {
        **GROUPED,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 4},
    "qwen2": GROUPED,
    "qwen3": GROUPED,
    "modernbert": {"local_attention": 4, "global_attn_every_n_layers": 2},
}
"""Settings that are characteristic of a type: factorized embeddings, relative positions, local attention, keys and
values that heads share."""


def tiny_folder(folder, model_type="bert", *, head=False, seed=0, hidden=32, layers=3, positions=160):
    """Config, random weights and tokenizer of a tiny model, as `Backbone.load` takes them; returns the folder."""
    config_class, encoder_class, head_class = MODELS[model_type]
    tokenizer = tiny_tokenizer(model_type)
    if model_type == "distilbert":
        sizes = {"dim": hidden, "hidden_dim": 2 * hidden, "n_layers": layers, "n_heads": 2}
    else:
        sizes = {
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
        }
    sizes |= OWN_SIZES.get(model_type, {})
    if "layer_types" in sizes:
        sizes["layer_types"] = sizes["layer_types"][:layers]
    # Wide enough weights for attention to be far from uniform: what depends on the text must be seen to.
    config = config_class(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id if model_type in DECODERS else tokenizer.cls_token_id,
        eos_token_id=tokenizer.eos_token_id if model_type in DECODERS else tokenizer.sep_token_id,
        max_position_embeddings=positions,
        initializer_range=0.2,
        **sizes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = (head_class if head else encoder_class)(config)
        with torch.no_grad():  # Biases and the decoder's bias start at zero, which would hide their absence.
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def tiny_backbone(folder, model_type="bert", *, dtype="float64", **settings):
    """A tiny random backbone, written to a folder and loaded from it."""
    return Backbone.load(tiny_folder(folder, model_type, **settings), dtype=dtype)


def tiny_corpus(n_classes=6, n_texts=12, seed=0, name="tiny"):
    """Random sentences of `WORDS`, each class with favourite words of its own; class names are words too."""
    generator = torch.Generator().manual_seed(seed)
    texts, labels = {}, []
    for c in range(n_classes):
        favourites = WORDS[30 + 5 * c : 35 + 5 * c]
        while len(labels) < (c + 1) * n_texts:
            length = int(torch.randint(3, 9, (1,), generator=generator))
            pool = favourites if torch.rand(1, generator=generator) < 0.5 else WORDS
            some = [pool[int(i)] for i in torch.randint(len(pool), (length,), generator=generator)]
            text = " ".join([favourites[len(labels) % 5], *some])
            if text not in texts:
                texts[text] = c
                labels.append(c)
    return Corpus(tuple(texts), np.array(labels), tuple(WORDS[30 + 5 * c] for c in range(n_classes)), name)


def tiny_model(backbone, inner=NO_STEPS, *, learn=False, rates=None, cache=None, **config):
    """A small model on a backbone, and the parameters of a fresh init in the backbone's dtype.

    With `learn` the parameters require gradients, as those of a training do.
    """
    settings = {"template": "{prompt:2} {text} {prompt:1} {mask}", "prompt_start": "normal", "read_out": "mean+mask"}
    warp = Warp(backbone, WarpConfig(**{"verbalizer": "mix", **settings, **config}), cache)
    init = Init.start(warp, inner, rates=rates).on(backbone)
    return warp, mapped(init, lambda tensor: tensor.clone().requires_grad_(learn))


ADAPTER_SIZES = {
    "prompt": None,
    "deep_prompt": None,
    "prefix": None,
    "prompt_pool": 2,
    "lora": 2,
    "biases": None,
    "weights": None,
}
"""A small size for each kind of adapter."""


def tiny_episodes(number=3, n_way=3, k_shot=2, n_query=3, seed=0, balanced=True):
    """Episodes of one tiny corpus, so that some texts are in several of them."""
    sampler = EpisodeSampler(tiny_corpus(), n_way, k_shot, n_query, seed, balanced=balanced)
    return [sampler[i] for i in range(number)]


def without_names(episodes):
    """The same episodes, with class names that carry no meaning."""
    return [replace(episode, corpus=replace(episode.corpus, named=False)) for episode in episodes]


def tokens_with_mask(tokenizer):
    """Ids of `TEXTS`, padded on the right, their attention mask, and the positions of [MASK] in front of the last
    special token; those of the last token where there is no [MASK]."""
    mask_token = tokenizer.mask_token or ""
    rows = [torch.tensor(tokenizer(f"{text} {mask_token}")["input_ids"]) for text in TEXTS]
    ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id or 0)
    attention = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    if tokenizer.mask_token is None:
        return ids, attention.long(), attention.sum(1) - 1
    return ids, attention.long(), (ids == tokenizer.mask_token_id).int().argmax(1)


def features(warp, init, texts, adapters=None):
    """Features of texts under an init; with `adapters` (A, …), text i is read with adapter i modulo A."""
    parameters = shared_parameters(init)
    adapters = parameters.adapter if adapters is None else adapters
    task = torch.arange(len(texts), device=adapters.device) % len(adapters)
    return warp.read(replace(parameters, adapter=adapters), warp.encoder(texts), task)


def query_logits(warp, init, episodes, inner=NO_STEPS):
    """Logits of the queries of adapted tasks, one (Q, C) tensor for each episode, without absent classes."""
    tasks = TaskBatch.encode(episodes, warp.encoder)
    adapted, _ = inner_steps(warp, init, tasks, inner).finish(trajectory(warp, init, tasks, inner).states[-1])
    logits = logits_of(warp, adapted, read_texts(warp, adapted, tasks.query), tasks.query, tasks)
    return [logits[tasks.query.task == i, : episode.n_way].detach() for i, episode in enumerate(episodes)]


def query_loss(warp, init, tasks, inner, loss_weights=None):
    """Mean query loss of the tasks after adaptation, whose gradient is the meta-gradient."""
    frozen = mapped(init, torch.Tensor.detach)
    finish = inner_steps(warp, frozen, tasks, inner).finish
    states = [finish(state)[0] for state in trajectory(warp, frozen, tasks, inner).states]
    weights = loss_weights or [0.0] * inner.inner_steps + [1.0]
    losses = [losses_of(warp, state, read_texts(warp, state, tasks.query), tasks.query, tasks) for state in states]
    return sum(weight * float(loss.detach().mean()) for weight, loss in zip(weights, losses, strict=True))


def central_differences(warp, init, tasks, inner, name, loss_weights=None, entries=6, by=1e-5):
    """Indices of some entries of one tensor of the init, and the derivative of `query_loss` for each."""
    tensors = tensors_of(init)
    chosen = np.random.default_rng(0).choice(tensors[name].numel(), min(tensors[name].numel(), entries), replace=False)
    derivatives = []
    for entry in chosen:
        ends = []
        for sign in (1, -1):
            moved = {key: tensor.detach().clone() for key, tensor in tensors.items()}
            moved[name].view(-1)[entry] += sign * by
            ends.append(query_loss(warp, type(init)(**moved), tasks, inner, loss_weights))
        derivatives.append((ends[0] - ends[1]) / (2 * by))
    return chosen, torch.tensor(derivatives, dtype=torch.float64)


def assert_second_order_is_exact(warp, init, inner, names, *, n_tasks=1, modes=("unroll",)):
    """Check MAML's gradients of some tensors, in each second-order mode, against central differences."""
    tasks = TaskBatch.encode(tiny_episodes(n_tasks), warp.encoder)
    batch = MetaBatch(warp, tasks, inner, last_step(inner.inner_steps))
    maml = METHODS["maml"].meta_gradient
    gradients = [tensors_of(maml(init, replace(batch, second_order=mode)).gradients) for mode in modes]
    for name in names:
        entries, derivatives = central_differences(warp, init, tasks, inner, name, entries=4)
        assert derivatives.abs().max() > 1e-7, f"{name} has no effect, so the comparison means nothing"
        for found in gradients:
            assert_close(found[name].reshape(-1)[torch.from_numpy(entries)], derivatives, rtol=1e-5, atol=1e-9)


def assert_queries_are_independent(predict, episode, atol=1e-9):
    """Check that a prediction depends on no other query, on no order of the queries, and on no query label."""
    (whole,) = predict([episode])
    assert np.ptp(whole, axis=0).max() > 1e-4, "all queries have the same prediction, so the comparison means nothing"
    for rows in (np.random.default_rng(0).permutation(len(whole)), [0], [1, 5, 2]):
        part = replace(episode, query=episode.query[rows], query_labels=np.zeros_like(episode.query_labels[rows]))
        np.testing.assert_allclose(next(iter(predict([part]))), whole[rows], rtol=0, atol=atol)
