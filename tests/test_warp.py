"""The forward pass: tasks side by side do not touch each other, and each read-out is what it says."""

from dataclasses import replace

import pytest
import torch
from running import refused
from tiny import query_logits, tiny_backbone, tiny_episodes, tiny_model
from torch.nn.functional import normalize

from episodes import Episode
from metawarp import Warp, WarpConfig
from metawarp.adaptation.start import read_texts, shared_parameters
from metawarp.config import GROUPS, InnerLoop
from metawarp.parameters import TaskParameters
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.table import VERBALIZERS

HALF = torch.tensor([0.5, 0.5])
TEXTS = ["set the alarm", "what is the weather today in the market, and where is the bank?", "pay my bill please", "a"]
LOOPS = {
    "no steps": InnerLoop(0, ()),
    "class embeddings": InnerLoop(3, ("class_embeddings",)),
    "adapter": InnerLoop(2, ("adapter",)),
    "both": InnerLoop(3, GROUPS),
}


def prompts_of(warp, tasks, seed=0):
    """Different prompts (T, K, d) for T tasks, being learned, so that nothing read under them is kept."""
    shape = (tasks, warp.encoder.prompt_length, warp.backbone.embedding_size)
    random = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return random.to(torch.promote_types(torch.float32, warp.backbone.dtype)).requires_grad_()


def read(warp, prompts, texts, task=None, weights=HALF):
    """Features of texts under the prompts (T, K, d) of their tasks; of the only task if none is given."""
    shared = torch.ones(len(prompts), dtype=prompts.dtype)
    parameters = TaskParameters(
        adapter=prompts, class_embeddings=shared[:, None, None], scale=shared, read_out_weights=weights
    )
    return warp.read(
        parameters, warp.encoder(texts), torch.zeros(len(texts), dtype=torch.long) if task is None else task
    )


@pytest.fixture
def passes(tiny, monkeypatch):
    """Number of texts and tokens of each pass through the layers above the adapter."""
    shapes, real = [], type(tiny).hidden_states

    def hidden_states(self, entering, *given, **named):
        shapes.append(tuple(entering.shape[:2]))
        return real(self, entering, *given, **named)

    monkeypatch.setattr(type(tiny), "hidden_states", hidden_states)
    return shapes


# T tasks side by side -----------------------------------------------------------------------------------------


def test_each_text_is_read_under_the_prompt_of_its_own_task(tiny):
    warp, _ = tiny_model(tiny)
    prompts = prompts_of(warp, 3)
    task = torch.tensor([2, 0, 1, 2])
    together = read(warp, prompts, TEXTS, task)
    for text, of, feature in zip(TEXTS, task, together, strict=True):
        alone = read(warp, prompts[of : of + 1], [text])
        assert torch.allclose(feature, alone[0], rtol=0, atol=1e-12)


def test_the_same_on_real_weights(minilm):
    warp, _ = tiny_model(minilm)
    prompts = prompts_of(warp, 3) * 0.05
    task = torch.tensor([2, 0, 1, 2])
    with torch.no_grad():
        together = read(warp, prompts, TEXTS, task)
        for text, of, feature in zip(TEXTS, task, together, strict=True):
            alone = read(warp, prompts[of : of + 1], [text])
            assert torch.allclose(feature, alone[0], atol=1e-5)


def test_the_gradient_of_a_prompt_comes_from_its_own_task_alone(tiny):
    warp, _ = tiny_model(tiny)
    prompts = prompts_of(warp, 3).requires_grad_()
    task = torch.tensor([2, 0, 1, 2])
    features = read(warp, prompts, TEXTS, task)
    (gradient,) = torch.autograd.grad(features[task == 2].sum(), prompts)
    assert gradient[2].abs().min() > 0
    assert not gradient[:2].any()


@pytest.mark.parametrize("inner", LOOPS.values(), ids=LOOPS)
def test_adapting_tasks_in_one_pass_is_adapting_them_one_by_one(tiny, inner):
    warp, init = tiny_model(tiny, inner)
    episodes = tiny_episodes(4, n_way=4, k_shot=3)
    shared = set(episodes[0].support_texts) & set(episodes[1].support_texts + episodes[2].support_texts)
    assert shared, "some text must stand in several tasks: that it is read once must not mix their gradients"
    together = query_logits(warp, init, episodes, inner)
    for episode, logits in zip(episodes, together, strict=True):
        assert torch.allclose(logits, query_logits(warp, init, [episode], inner)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("inner", LOOPS.values(), ids=LOOPS)
def test_two_tasks_with_the_same_texts_adapt_alike(tiny, inner):
    warp, init = tiny_model(tiny, inner)
    (episode,) = tiny_episodes(1)
    first, second = query_logits(warp, init, [episode, episode], inner)
    assert torch.allclose(first, second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("max_tokens", [1, 12, 40, 100_000])
def test_the_size_of_a_pass_changes_nothing(tiny, max_tokens):
    warp, _ = tiny_model(tiny)
    cut = Warp(replace(tiny, max_tokens=max_tokens), warp.config)
    prompts, task = prompts_of(warp, 3), torch.tensor([2, 0, 1, 2])
    expected = read(warp, prompts, TEXTS, task)
    assert torch.allclose(read(cut, prompts, TEXTS, task), expected, rtol=0, atol=1e-12)


def test_a_pass_has_no_more_tokens_than_it_may_unless_one_text_does(tiny, passes):
    warp = Warp(replace(tiny, max_tokens=24), WarpConfig(template="{prompt:2} {text} {mask}", read_out="mean"))
    texts = ["alarm", "the alarm", "my alarm", "set", "play music", " ".join(["rain"] * 40)]
    read(warp, prompts_of(warp, 1), texts, weights=None)
    assert sum(rows for rows, _ in passes) == len(texts)
    assert all(rows * width <= 24 or rows == 1 for rows, width in passes)
    assert len(passes) < len(texts)


def test_a_text_that_stands_twice_has_the_same_feature_twice(tiny):
    warp, _ = tiny_model(tiny)
    texts = ["set the alarm", "the bank", "set the alarm"]
    prompts = prompts_of(warp, 1)
    features = read(warp, prompts, texts)
    assert torch.equal(features[0], features[2])
    alone = read(warp, prompts, texts[1:2])
    assert torch.allclose(features[1:2], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("template", ["{text}", "{text} {prompt:2}", "{prompt:1} {text}"])
def test_texts_that_hold_special_tokens_are_not_taken_for_one_another(tiny, template):
    warp, _ = tiny_model(tiny, template=template, read_out="mean")
    texts = ["alarm", "alarm [PAD]", "alarm [SEP]", "alarm [PAD] [PAD]", "alarm [SEP] [PAD]"]
    prompts = prompts_of(warp, 1)
    together = read(warp, prompts, texts, weights=None)
    for text, feature in zip(texts, together, strict=True):
        alone = read(warp, prompts, [text], weights=None)
        assert torch.allclose(feature, alone[0], rtol=0, atol=1e-12), text


def test_texts_under_a_prompt_that_is_not_learned_are_read_once(tiny, passes):
    warp, _ = tiny_model(tiny, cache=FeatureCache())
    learned = prompts_of(warp, 1)
    fixed, texts = learned.detach(), ["the alarm", "rain", "the alarm"]
    expected = read(warp, learned, texts)

    def n_read():
        number = sum(rows for rows, _ in passes)
        passes.clear()
        return number

    n_read()
    found = read(warp, fixed, texts)
    once = n_read()
    assert once > 0
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(read(warp, fixed, texts), found) and n_read() == 0
    assert not torch.allclose(read(warp, -fixed, texts), expected)  # nothing of the first prompt is taken for another
    assert n_read() == once
    read(warp, fixed, ["snow", "rain"])
    assert n_read() == once / 2  # two texts before, one of these two now
    uncached, _ = tiny_model(tiny)
    assert all(torch.equal(read(uncached, fixed, texts), found) and n_read() == once for _ in range(2))


# Classes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("verbalizer", ["names", "support", "mix", "regression"])
def test_relabelling_the_classes_permutes_the_logits(tiny, verbalizer, inner):
    warp, init = tiny_model(tiny, inner, verbalizer=verbalizer)
    (episode,) = tiny_episodes(1, n_way=4)
    order = [2, 0, 3, 1]  # class c of the new episode is class order[c] of the old one
    new_label = torch.tensor(order).argsort().numpy()
    relabelled = Episode(
        episode.corpus,
        episode.class_indices[order],
        episode.support,
        new_label[episode.support_labels],
        episode.query,
        new_label[episode.query_labels],
    )
    (before,), (after,) = (query_logits(warp, init, [e], inner) for e in (episode, relabelled))
    assert torch.allclose(after, before[:, order], rtol=0, atol=1e-9)
    assert not torch.allclose(after, before, atol=1e-3)


# Read-outs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["tiny", "tiny_mlm"])
def test_read_outs_are_the_feature_at_mask_means_over_the_text_and_all_side_by_side(backbone, request):
    backbone = request.getfixturevalue(backbone)
    text, template = "set the alarm", "{mask} {prompt:1} {text}"
    ids = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    first, last, mask = (backbone.tokenizer.convert_tokens_to_ids(t) for t in ("[CLS]", "[SEP]", "[MASK]"))
    warp, _ = tiny_model(backbone, template=template)
    prompts = prompts_of(warp, 1)
    words = backbone.word_embeddings[[first, mask, *ids, last]]
    embeddings = torch.cat([words[:2], prompts[0], words[2:]])[None]
    hidden = backbone.hidden_states(embeddings, torch.ones(embeddings.shape[:2]))[0]
    at_mask = backbone.mask_features(hidden[1])
    mean = hidden[[0, *range(3, 3 + len(ids)), -1]].mean(0)

    alone = torch.cat([words[:1], words[2:]])[None]
    everywhere = torch.ones(alone.shape[:2])
    bare = backbone.hidden_states(alone, everywhere)[0].mean(0)
    below = backbone.run_layers(alone, everywhere, 0, backbone.n_layers - 2)[0].mean(0)

    def found(read_out, weights=None):
        model, _ = tiny_model(backbone, template=template, read_out=read_out)
        return read(model, prompts, [text], weights=weights)[0]

    weights = torch.tensor([0.3, 0.2, 0.1, 0.4], dtype=torch.float64)
    features = {"mask": at_mask, "text": bare, "text-2": below, "mean": mean}
    for name, feature in features.items():
        assert torch.allclose(found(name), normalize(feature, dim=-1), rtol=0, atol=1e-12), name
    together = found("+".join(features), weights)
    expected = [w.sqrt() * normalize(feature, dim=-1) for w, feature in zip(weights, features.values(), strict=True)]
    assert torch.allclose(together, torch.cat(expected), rtol=0, atol=1e-12)
    assert float(together.detach().norm()) == pytest.approx(1)


def test_the_debiased_mask_is_the_difference_to_an_empty_text(tiny):
    warp, _ = tiny_model(tiny, read_out="debiased_mask")
    batch, prompts = warp.encoder([*TEXTS, ""]), prompts_of(warp, 1)
    entering = torch.where(
        batch.prompt_index[..., None] >= 0,
        prompts[0][batch.prompt_index.clamp(min=0)],
        tiny.embed_tokens(batch.input_ids),
    )
    at_mask = tiny.hidden_states(entering, batch.attention_mask)[torch.arange(len(batch)), batch.mask_position]
    expected = normalize(at_mask[:-1] - at_mask[-1], dim=-1)
    assert torch.allclose(read(warp, prompts, TEXTS, weights=None), expected, rtol=0, atol=1e-10)


def test_a_feature_without_weight_counts_for_nothing_and_the_only_one_is_itself(tiny_mlm):
    warp, _ = tiny_model(tiny_mlm)
    only, _ = tiny_model(tiny_mlm, read_out="mean")
    prompts = prompts_of(warp, 1)
    found = read(warp, prompts, TEXTS, weights=torch.tensor([1.0, 0.0]))
    assert torch.equal(found[:, :32], read(only, prompts, TEXTS, weights=None))
    assert not found[:, 32:].any()


def test_the_bare_text_is_read_once_whatever_the_prompt(tiny, monkeypatch):
    warp, _ = tiny_model(tiny, read_out="text+text-1", cache=FeatureCache())
    n_read, real = [], type(tiny).run_layers

    def run_layers(self, entering, *given, **named):
        n_read.append(len(entering))
        return real(self, entering, *given, **named)

    monkeypatch.setattr(type(tiny), "run_layers", run_layers)
    prompts = prompts_of(warp, 1)
    one, other = (read(warp, some, [*TEXTS, TEXTS[0]]) for some in (prompts, 1 + prompts))
    assert torch.equal(one, other)
    assert sum(n_read) == 2 * len(TEXTS)  # the layers in two runs, each text once


def test_without_prompt_the_mean_read_out_is_the_sentence_embedding(minilm):
    warp = Warp(minilm, WarpConfig(template="{text}", read_out="mean"))
    encoded = minilm.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = minilm.model(**encoded).last_hidden_state
        found = read(warp, torch.zeros(1, 0, 384), TEXTS, weights=None)
    weights = encoded["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_logits_are_scaled_cosines():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 32, generator=generator, dtype=torch.float64)
    classes = torch.randn(3, 32, generator=generator, dtype=torch.float64)
    expected = 7 * torch.cosine_similarity(features[:, None], classes[None], dim=-1)
    scale = torch.full((4, 1), 7.0, dtype=torch.float64)
    for name in ("names", "support", "mix"):
        for embeddings in (classes, 100 * classes):
            found = VERBALIZERS[name].logits(normalize(features, dim=-1), embeddings.expand(4, 3, 32), scale)
            assert torch.allclose(found, expected)


def test_a_lower_precision_backbone_keeps_prompts_and_features_in_fp32(tmp_path):
    exact, low = (tiny_backbone(tmp_path / dtype, dtype=dtype) for dtype in ("float32", "bfloat16"))
    found = []
    for backbone in (exact, low):
        warp, init = tiny_model(backbone)
        assert init.adapter.dtype == torch.float32
        prompt = prompts_of(warp, 1).requires_grad_()
        features = read(warp, prompt, TEXTS)
        assert features.dtype == torch.float32
        assert torch.autograd.grad(features.sum(), prompt)[0].isfinite().all()
        found.append(features)
    assert (torch.cosine_similarity(*found, dim=-1) > 0.98).all()


def test_encoded_tasks_can_be_read_by_any_model_of_the_same_template(tiny):
    (first, init), (other, _) = tiny_model(tiny), tiny_model(tiny, verbalizer="names")
    tasks = TaskBatch.encode(tiny_episodes(1), first.encoder)
    one, two = (read_texts(warp, shared_parameters(init), tasks.query) for warp in (first, other))
    assert torch.equal(one, two) and one.shape == (len(tasks.query), 64)


# Configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("verbalizer", "names, support, mix, regression, replaced_token"),
        ("name_source", "template, embeddings"),
        ("prompt_start", "mask, vocabulary, normal"),
        ("adapter", "prompt, deep_prompt, prefix, prompt_pool, lora, weights"),
    ],
)
def test_an_unknown_choice_names_the_known_ones(name, choices):
    with refused(f"{name}='other'", choices):
        WarpConfig(**{name: "other"})


@pytest.mark.parametrize("read_out", ["max", "mix", "mask+", "text+text", "text-0", "text4", "mean + mask"])
def test_a_read_out_of_unknown_features_is_refused(read_out):
    with refused(f"read_out={read_out!r}", "mask, debiased_mask, mean, text, text-1", "replaced_token"):
        WarpConfig(read_out=read_out)


def test_a_read_out_below_the_first_layer_is_refused(tiny):
    with refused("read_out='text-3'", "below the first layer", "3 layers"):
        Warp(tiny, WarpConfig(read_out="text-3"))


@pytest.mark.parametrize("max_length", [0, -5, 3])
def test_a_length_without_room_for_text_is_refused(tiny, max_length):
    with refused("no room for text", f"at most {max_length} tokens"):
        Warp(tiny, WarpConfig(template="{text} {mask}", max_length=max_length))
