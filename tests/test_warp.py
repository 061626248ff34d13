"""The forward pass: tasks side by side do not touch each other, and each read-out is what it says."""

from dataclasses import replace

import pytest
import torch
from running import refused
from tiny import query_logits, tiny_backbone, tiny_episodes, tiny_model

from episodes import Episode, EpisodeSampler, InputError
from metawarp import Warp, WarpConfig
from metawarp.adaptation.inner_loop import InnerLoop
from metawarp.adaptation.tasks import TaskBatch

TEXTS = ["set the alarm", "what is the weather today in the market, and where is the bank?", "pay my bill please", "a"]
LOOPS = {
    "no steps": InnerLoop(0, ()),
    "rows": InnerLoop(3, ("rows",)),
    "prompt": InnerLoop(2, ("prompt",)),
    "both": InnerLoop(3, ("prompt", "rows")),
}


def prompts_of(warp, tasks, seed=0):
    """Different prompts (T, K, d) for T tasks, being learned, so that nothing read under them is kept."""
    shape = (tasks, warp.encoder.prompt_length, warp.backbone.embedding_size)
    random = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return random.to(torch.promote_types(torch.float32, warp.backbone.dtype)).requires_grad_()


def one_task(texts):
    return torch.zeros(len(texts), dtype=torch.long)


HALF = torch.tensor([0.5, 0.5])


# T tasks side by side -----------------------------------------------------------------------------------------


def test_each_text_is_read_under_the_prompt_of_its_own_task(tiny):
    warp, _ = tiny_model(tiny)
    prompts = prompts_of(warp, 3)
    task = torch.tensor([2, 0, 1, 2])
    together = warp.features(prompts, HALF, warp.encoder(TEXTS), task)
    for text, of, feature in zip(TEXTS, task, together, strict=True):
        alone = warp.features(prompts[of : of + 1], HALF, warp.encoder([text]), one_task([text]))
        assert torch.allclose(feature, alone[0], rtol=0, atol=1e-12)


def test_the_same_on_real_weights(minilm):
    warp, _ = tiny_model(minilm)
    prompts = prompts_of(warp, 3) * 0.05
    task = torch.tensor([2, 0, 1, 2])
    with torch.no_grad():
        together = warp.features(prompts, HALF, warp.encoder(TEXTS), task)
        for text, of, feature in zip(TEXTS, task, together, strict=True):
            alone = warp.features(prompts[of : of + 1], HALF, warp.encoder([text]), one_task([text]))
            assert torch.allclose(feature, alone[0], atol=1e-5)


def test_the_gradient_of_a_prompt_comes_from_its_own_task_alone(tiny):
    warp, _ = tiny_model(tiny)
    prompts = prompts_of(warp, 3).requires_grad_()
    task = torch.tensor([2, 0, 1, 2])
    features = warp.features(prompts, HALF, warp.encoder(TEXTS), task)
    (gradient,) = torch.autograd.grad(features[task == 2].sum(), prompts)
    assert gradient[2].abs().min() > 0
    assert not gradient[:2].any()


@pytest.mark.parametrize("inner", LOOPS.values(), ids=LOOPS)
def test_adapting_tasks_in_one_pass_is_adapting_them_one_by_one(tiny, inner):
    warp, state = tiny_model(tiny, inner)
    episodes = tiny_episodes(4, n_way=4, k_shot=3)
    shared = set(episodes[0].support_texts) & set(episodes[1].support_texts + episodes[2].support_texts)
    assert shared, "some text must stand in several tasks: that it is read once must not mix their gradients"
    together = query_logits(warp, state, episodes, inner)
    for episode, logits in zip(episodes, together, strict=True):
        assert torch.allclose(logits, query_logits(warp, state, [episode], inner)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("inner", LOOPS.values(), ids=LOOPS)
def test_two_tasks_with_the_same_texts_adapt_alike(tiny, inner):
    warp, state = tiny_model(tiny, inner)
    (episode,) = tiny_episodes(1)
    first, second = query_logits(warp, state, [episode, episode], inner)
    assert torch.allclose(first, second, rtol=0, atol=1e-12)


def test_one_pass_is_one_by_one_on_real_weights_and_texts(minilm, everyday):
    inner = InnerLoop(1, ("prompt", "rows"))
    warp, state = tiny_model(minilm, inner, prompt_start="mask")
    sampler = EpisodeSampler(everyday.test, 3, 1, 1, seed=0)
    episodes = [sampler[i] for i in range(2)]
    together = query_logits(warp, state, episodes, inner)
    for episode, logits in zip(episodes, together, strict=True):
        assert torch.allclose(logits, query_logits(warp, state, [episode], inner)[0], atol=1e-4)


@pytest.mark.parametrize("max_tokens", [1, 12, 40, 100_000])
def test_the_size_of_a_pass_changes_nothing(tiny, max_tokens):
    warp, _ = tiny_model(tiny)
    cut = Warp(replace(tiny, max_tokens=max_tokens), warp.config)
    prompts, task = prompts_of(warp, 3), torch.tensor([2, 0, 1, 2])
    expected = warp.features(prompts, HALF, warp.encoder(TEXTS), task)
    assert torch.allclose(cut.features(prompts, HALF, cut.encoder(TEXTS), task), expected, rtol=0, atol=1e-12)


def test_a_pass_holds_no_more_tokens_than_it_may_unless_one_text_does(tiny, monkeypatch):
    warp = Warp(replace(tiny, max_tokens=24), WarpConfig(template="{prompt:2} {text} {mask}", read_out="mean+mask"))
    passes = []
    real = type(tiny).hidden_states
    monkeypatch.setattr(
        type(tiny),
        "hidden_states",
        lambda self, x, *given, **named: (passes.append(x.shape[:2]), real(self, x, *given, **named))[1],
    )
    texts = ["alarm", "the alarm", "my alarm", "set", "play music", " ".join(["rain"] * 40)]
    warp.features(prompts_of(warp, 1), HALF, warp.encoder(texts), one_task(texts))
    assert sum(rows for rows, _ in passes) == len(texts)
    assert all(rows * width <= 24 or rows == 1 for rows, width in passes)
    assert len(passes) < len(texts)


def test_a_text_that_stands_twice_has_the_same_feature_twice(tiny):
    warp, _ = tiny_model(tiny)
    texts = ["set the alarm", "the bank", "set the alarm"]
    prompts = prompts_of(warp, 1)
    features = warp.features(prompts, HALF, warp.encoder(texts), one_task(texts))
    assert torch.equal(features[0], features[2])
    alone = warp.features(prompts, HALF, warp.encoder(texts[1:2]), one_task(texts[1:2]))
    assert torch.allclose(features[1:2], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("template", ["{text}", "{text} {prompt:2}", "{prompt:1} {text}"])
def test_texts_that_hold_special_tokens_are_not_taken_for_one_another(tiny, template):
    warp, _ = tiny_model(tiny, template=template, read_out="mean")
    texts = ["alarm", "alarm [PAD]", "alarm [SEP]", "alarm [PAD] [PAD]", "alarm [SEP] [PAD]"]
    prompts = prompts_of(warp, 1)
    together = warp.features(prompts, None, warp.encoder(texts), one_task(texts))
    for text, feature in zip(texts, together, strict=True):
        alone = warp.features(prompts, None, warp.encoder([text]), one_task([text]))
        assert torch.allclose(feature, alone[0], rtol=0, atol=1e-12), text


def test_padding_changes_nothing(tiny):
    warp, _ = tiny_model(tiny)
    prompts = prompts_of(warp, 1)
    short = warp.prompted._pass(prompts, warp.encoder(["the alarm"]), one_task([0]))
    padded = warp.prompted._pass(prompts, warp.encoder(["the alarm", " ".join(["rain"] * 50)]), one_task([0, 0]))
    assert torch.allclose(padded[:1], short, rtol=0, atol=1e-12)


def test_texts_under_a_prompt_that_is_not_learned_are_read_once(tiny, monkeypatch):
    warp, _ = tiny_model(tiny, read_out="mean+mask")
    learned = prompts_of(warp, 1)
    fixed, texts = learned.detach(), ["the alarm", "rain", "the alarm"]
    read, real = [], warp.prompted._pass
    monkeypatch.setattr(warp.prompted, "_pass", lambda p, some, task: (read.append(len(some)), real(p, some, task))[1])
    expected = warp.features(learned, HALF, warp.encoder(texts), one_task(texts))
    read.clear()
    for _ in range(2):
        found = warp.features(fixed, HALF, warp.encoder(texts), one_task(texts))
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert sum(read) == 2  # two texts, once each
    other = warp.features(-fixed, HALF, warp.encoder(texts), one_task(texts))
    assert sum(read) == 4 and not torch.allclose(other, expected)  # another prompt, nothing of the first is taken
    warp.features(fixed, HALF, warp.encoder(["snow", "rain"]), one_task([0, 0]))
    assert sum(read) == 6


# Classes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("rows", ["names", "support", "mix"])
def test_relabelling_the_classes_permutes_the_logits(tiny, rows, inner):
    warp, state = tiny_model(tiny, inner, rows=rows)
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
    (before,), (after,) = (query_logits(warp, state, [e], inner) for e in (episode, relabelled))
    assert torch.allclose(after, before[:, order], rtol=0, atol=1e-12)
    assert not torch.allclose(after, before, atol=1e-3)


# Read-outs and similarities -------------------------------------------------------------------------------------


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
    below = backbone.through(alone, everywhere, 0, backbone.n_layers - 2)[0].mean(0)

    def found(similarity, read_out, weights=None):
        model, _ = tiny_model(backbone, template=template, read_out=read_out, similarity=similarity)
        return model.features(prompts, weights, model.encoder([text]), one_task([text]))[0]

    def unit(vector):
        return vector / vector.norm()

    weights = torch.tensor([0.3, 0.2, 0.1, 0.4], dtype=torch.float64)
    parts = {"mask": at_mask, "text": bare, "text-2": below, "mean": mean}
    for name, part in parts.items():
        assert torch.allclose(found("dot", name), part, rtol=0, atol=1e-12), name
        assert torch.allclose(found("cosine", name), unit(part), rtol=0, atol=1e-12), name
    together = found("cosine", "+".join(parts), weights)
    expected = torch.cat([w.sqrt() * unit(part) for w, part in zip(weights, parts.values(), strict=True)])
    assert torch.allclose(together, expected, rtol=0, atol=1e-12)
    assert float(together.detach().norm()) == pytest.approx(1)


def test_a_part_without_weight_counts_for_nothing_and_the_only_one_is_itself(tiny_mlm):
    warp, _ = tiny_model(tiny_mlm)
    part, _ = tiny_model(tiny_mlm, read_out="mean")
    prompts, batch = prompts_of(warp, 1), warp.encoder(TEXTS)
    found = warp.features(prompts, torch.tensor([1.0, 0.0]), batch, one_task(TEXTS))
    assert torch.equal(found[:, :32], part.features(prompts, None, batch, one_task(TEXTS)))
    assert not found[:, 32:].any()


def test_the_text_alone_is_read_once_whatever_the_prompt(tiny, monkeypatch):
    warp, _ = tiny_model(tiny, read_out="text+text-1")
    read, real = [], type(tiny).through

    def through(self, entering, mask, first, end):
        read.append(len(entering))
        return real(self, entering, mask, first, end)

    monkeypatch.setattr(type(tiny), "through", through)
    one, other = (
        warp.features(prompts, HALF, warp.encoder([*TEXTS, TEXTS[0]]), one_task([*TEXTS, TEXTS[0]]))
        for prompts in (prompts_of(warp, 1), 1 + prompts_of(warp, 1))
    )
    assert torch.equal(one, other)
    assert sum(read) == 2 * len(TEXTS)  # two stacks of layers, each text once


def test_without_prompt_the_mean_read_out_is_the_sentence_embedding(minilm):
    warp = Warp(minilm, WarpConfig(template="{text}", read_out="mean"))
    encoded = minilm.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = minilm.model(**encoded).last_hidden_state
        found = warp.features(torch.zeros(1, 0, 384), None, warp.encoder(TEXTS), one_task(TEXTS))
    weights = encoded["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_logits_are_scaled_cosines_or_dot_products(tiny):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 32, generator=generator, dtype=torch.float64)
    rows = torch.randn(3, 32, generator=generator, dtype=torch.float64)
    scale = torch.tensor(7.0, dtype=torch.float64)
    cosine, _ = tiny_model(tiny, similarity="cosine")
    dot, _ = tiny_model(tiny, similarity="dot")
    assert torch.allclose(dot.logits(features, rows, scale), 7 * features @ rows.T)
    expected = 7 * torch.cosine_similarity(features[:, None], rows[None], dim=-1)
    assert torch.allclose(cosine.logits(cosine.unit(features), rows, scale), expected)
    assert torch.allclose(cosine.logits(cosine.unit(features), 100 * rows, scale), expected)


def test_a_lower_precision_backbone_keeps_prompts_and_features_in_fp32(tmp_path):
    exact, low = (tiny_backbone(tmp_path / dtype, dtype=dtype) for dtype in ("float32", "bfloat16"))
    found = []
    for backbone in (exact, low):
        warp, state = tiny_model(backbone)
        assert state["prompt"].dtype == torch.float32
        prompt = prompts_of(warp, 1).requires_grad_()
        features = warp.features(prompt, HALF, warp.encoder(TEXTS), one_task(TEXTS))
        assert features.dtype == torch.float32
        assert torch.autograd.grad(features.sum(), prompt)[0].isfinite().all()
        found.append(features)
    assert (torch.cosine_similarity(*found, dim=-1) > 0.98).all()


# Configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("rows", "names, support, mix, regression, random"),
        ("name_source", "template, embeddings"),
        ("similarity", "cosine, dot"),
        ("prompt_start", "mask, vocabulary, normal"),
    ],
)
def test_an_unknown_choice_names_the_known_ones(name, choices):
    with refused(f"{name} is 'other'; it can be {choices}."):
        WarpConfig(**{name: "other"})


@pytest.mark.parametrize("read_out", ["max", "mix", "mask+", "text+text", "text-0", "text4", "mean + mask"])
def test_a_read_out_of_unknown_parts_is_refused(read_out):
    with refused(
        f"read_out is {read_out!r}; it can be mask, mean, text, text-1, text-2, …, or several of them, each once, "
        "with + between; or original."
    ):
        WarpConfig(read_out=read_out)


def test_a_read_out_below_the_first_layer_is_refused(tiny):
    with pytest.raises(InputError, match=r"^read-out 'text-3' lies below the first layer; backbone '.+' has 3\.$"):
        Warp(tiny, WarpConfig(read_out="text-3"))


@pytest.mark.parametrize("max_length", [0, -5, 3])
def test_a_length_without_room_for_text_is_refused(tiny, max_length):
    with pytest.raises(InputError, match=f"leaves no room for text; an input has {max_length} tokens at most"):
        Warp(tiny, WarpConfig(template="{text} {mask}", max_length=max_length))


def test_encoded_tasks_can_be_read_by_any_warp_of_the_same_template(tiny):
    warp, state = tiny_model(tiny)
    tasks = TaskBatch.encode(tiny_episodes(1), warp.encoder)
    features = warp.features(state["prompt"][None], HALF, tasks.query.batch, tasks.query.task)
    assert features.shape == (len(tasks.query), 64)
