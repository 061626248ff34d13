"""The forward pass: tasks that are read together do not affect each other, and each read-out is as documented."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from running import refused
from tiny import ADAPTER_SIZES, TEXTS, features, query_logits, tiny_backbone, tiny_episodes, tiny_model
from torch.nn.functional import normalize
from torch.testing import assert_close

from episodes import Episode
from metawarp import Backbone, Warp
from metawarp.adaptation.start import read_texts, shared_parameters
from metawarp.config import GROUPS, InnerLoop
from metawarp.read_outs.concatenation import Concatenation
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch
from metawarp.verbalizers.table import VERBALIZERS

LOOPS = {
    "no steps": InnerLoop(0, ()),
    "class embeddings": InnerLoop(3, ("class_embeddings",)),
    "adapter": InnerLoop(2, ("adapter",)),
    "both": InnerLoop(3, GROUPS),
}
EACH_LOOP = pytest.mark.parametrize("inner", LOOPS.values(), ids=LOOPS)


def prompts_of(warp: Warp, n_tasks: int) -> torch.Tensor:
    """Different prompts (T, K, d) of some tasks, which require gradients, so that no cache keeps their features."""
    shape = (n_tasks, warp.encoder.prompt_length, warp.backbone.embedding_size)
    random = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return random.to(torch.promote_types(torch.float32, warp.backbone.dtype)).requires_grad_()


@pytest.fixture
def passes():
    """A function that returns the number of texts and tokens of each pass through layers since its last call."""
    with patch.object(Backbone, "run_layers", autospec=True, side_effect=Backbone.run_layers) as run_layers:

        def shapes() -> list[tuple[int, int]]:
            found = [call.args[1].shape for call in run_layers.call_args_list]
            run_layers.reset_mock()
            return [(rows, width) for rows, width, _ in found]

        yield shapes


# Several tasks in one pass ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "atol"), [("tiny", 1e-12), ("minilm", 1e-5)])
def test_each_text_is_read_under_the_prompt_of_its_own_task(request, backbone, atol):
    warp, init = tiny_model(request.getfixturevalue(backbone))
    prompts = prompts_of(warp, 2)
    found = features(warp, init, TEXTS, prompts)  # under the prompts of the tasks 0, 1, 0
    alone = [features(warp, init, [text], prompts[i % 2 :][:1])[0] for i, text in enumerate(TEXTS)]
    assert_close(found, torch.stack(alone), rtol=0, atol=atol)
    (gradient,) = torch.autograd.grad(found[1].sum(), prompts)
    assert gradient[1].any() and not gradient[0].any()


@EACH_LOOP
def test_tasks_that_are_adapted_together_are_adapted_as_if_alone(tiny, inner):
    warp, init = tiny_model(tiny, inner)
    episodes = tiny_episodes(2, n_way=4, k_shot=3)
    first, second, again = query_logits(warp, init, [*episodes, episodes[0]], inner)  # the same texts in two tasks
    alone = [query_logits(warp, init, [episode], inner)[0] for episode in episodes]
    assert_close([first, second, again], [*alone, alone[0]], rtol=0, atol=1e-10)


@pytest.mark.parametrize("max_tokens", [1, 12, 40])
def test_the_size_of_a_pass_does_not_change_the_features(tiny, max_tokens):
    warp, init = tiny_model(tiny)
    divided, prompts = Warp(replace(tiny, max_tokens=max_tokens), warp.config), prompts_of(warp, 2)
    found, expected = (features(one, init, TEXTS, prompts) for one in (divided, warp))
    assert_close(found, expected, rtol=0, atol=1e-12)


def test_only_a_pass_of_one_text_exceeds_the_largest_number_of_tokens(tiny, passes):
    warp, init = tiny_model(replace(tiny, max_tokens=24), template="{prompt:2} {text} {mask}")
    texts = ["alarm", "the alarm", "my alarm", "set", "play music", " ".join(["rain"] * 40)]
    passes()
    features(warp, init, texts)
    shapes = passes()
    assert sum(rows for rows, _ in shapes) == len(texts) > len(shapes)
    assert all(rows * width <= 24 or rows == 1 for rows, width in shapes)


@pytest.mark.parametrize("template", ["{text}", "{text} {prompt:2}", "{prompt:1} {text}"])
def test_copies_have_equal_features_and_texts_with_special_tokens_their_own(tiny, template):
    warp, init = tiny_model(tiny, template=template, read_out="mean")
    texts = ["alarm", "alarm [PAD]", "alarm [SEP]", "alarm [PAD] [PAD]", "alarm [SEP] [PAD]", "alarm"]
    together = features(warp, init, texts)
    assert torch.equal(together[0], together[-1])
    alone = torch.cat([features(warp, init, [text]) for text in texts])
    assert_close(together, alone, rtol=0, atol=1e-12)


def test_a_text_is_read_once_under_a_prompt_that_is_not_learned(tiny, passes):
    (warp, init), (uncached, _) = tiny_model(tiny, cache=FeatureCache()), tiny_model(tiny)
    learned = prompts_of(warp, 1)
    fixed, texts = learned.detach(), ["the alarm", "rain", "the alarm"]
    expected = features(warp, init, texts, learned)

    def n_read():
        return sum(rows for rows, _ in passes())

    n_read()
    found = features(warp, init, texts, fixed)
    two_texts = n_read()
    assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(features(warp, init, texts, fixed), found)
    assert n_read() == 0 < two_texts
    assert not torch.allclose(features(warp, init, texts, -fixed), expected)
    assert n_read() == two_texts, "another prompt has features of its own"
    features(warp, init, ["snow", "rain"], fixed)
    assert n_read() == two_texts / 2, "one of the two texts is new"
    for _ in range(2):
        assert torch.equal(features(uncached, init, texts, fixed), found)
        assert n_read() == two_texts, "nothing is kept without a cache"


def test_encoded_tasks_can_be_read_by_any_model_of_the_same_template(tiny):
    (first, init), (other, _) = tiny_model(tiny), tiny_model(tiny, verbalizer="names")
    tasks = TaskBatch.encode(tiny_episodes(1), first.encoder)
    one, two = (read_texts(warp, shared_parameters(init), tasks.query) for warp in (first, other))
    assert torch.equal(one, two) and one.shape == (len(tasks.query), 64)


# Classes ------------------------------------------------------------------------------------------------------


@EACH_LOOP
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
    assert_close(after, before[:, order], rtol=0, atol=1e-9)
    assert not torch.allclose(after, before, atol=1e-3)


def test_logits_are_scaled_cosines():
    generator = torch.Generator().manual_seed(0)
    texts, classes = (torch.randn(n, 32, generator=generator, dtype=torch.float64) for n in (4, 3))
    expected = 7 * torch.cosine_similarity(texts[:, None], classes[None], dim=-1)
    scale = torch.full((4, 1), 7.0, dtype=torch.float64)
    for name in ("names", "support", "mix"):
        for embeddings in (classes, 100 * classes):
            found = VERBALIZERS[name].logits(normalize(texts, dim=-1), embeddings.expand(4, 3, 32), scale)
            assert_close(found, expected)


# Read-outs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["tiny", "tiny_mlm"])
def test_read_outs_are_the_feature_at_mask_means_over_the_text_and_their_concatenation(backbone, request):
    backbone, template = request.getfixturevalue(backbone), "{mask} {prompt:1} {text}"
    ids = backbone.tokenizer("[MASK] set the alarm")["input_ids"]  # [CLS] [MASK] set the alarm [SEP]
    words, text = backbone.word_embeddings[ids][None], [0, 2, 3, 4, 5]
    prompts = prompts_of(tiny_model(backbone, template=template)[0], 1)
    whole = torch.cat([words[:, :2], prompts, words[:, 2:]], dim=1)
    hidden = backbone.hidden_states(whole, torch.ones(1, 7))[0]
    bare, below = (
        backbone.run_layers(words[:, text], torch.ones(1, 5), 0, backbone.n_layers - n)[0].mean(0) for n in (0, 2)
    )
    mean = hidden[[0, 3, 4, 5, 6]].mean(0)
    expected = {"mask": backbone.mask_features(hidden[1]), "text": bare, "text-2": below, "mean": mean}
    expected = {name: normalize(feature, dim=-1) for name, feature in expected.items()}
    weights = torch.tensor([0.3, 0.2, 0.1, 0.4], dtype=torch.float64)
    weighted = [weight.sqrt() * feature for weight, feature in zip(weights, expected.values(), strict=True)]
    for read_out, feature in [*expected.items(), ("+".join(expected), torch.cat(weighted))]:
        warp, init = tiny_model(backbone, template=template, read_out=read_out)
        init = replace(init, read_out_logits=weights.log() if "+" in read_out else None)
        assert_close(features(warp, init, ["set the alarm"], prompts)[0], feature, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("adapter", "size"), ADAPTER_SIZES.items())
def test_a_debiased_feature_is_the_difference_to_that_of_the_template_alone(tiny_mlm, adapter, size):
    (plain, init), (debiased, _) = (
        tiny_model(tiny_mlm, adapter=adapter, adapter_size=size, read_out=name) for name in ("mask", "debiased_mask")
    )
    adapters = torch.stack([init.adapter, 1.2 * init.adapter])
    parameters = replace(shared_parameters(init), adapter=adapters)
    batch, task = plain.encoder(["set the alarm", "pay my bill please", ""]), torch.tensor([0, 1, 1])
    assert isinstance(plain.read_out, Concatenation)
    at_mask = plain.read_out.prompted(parameters.adapter, batch, task)["mask"]
    bias = plain.read_out.prompted(parameters.adapter, plain.encoder(["", ""]), torch.arange(2))["mask"]
    found = debiased.read(parameters, batch, task)
    assert_close(found[:2], normalize(at_mask[:2] - bias, dim=-1), rtol=0, atol=1e-10)
    assert found[2].norm() < 0.1, "only rounding errors may be left of an empty text"


def test_a_feature_of_weight_0_is_0_and_one_of_weight_1_is_unchanged(tiny_mlm):
    (warp, init), (only, _) = tiny_model(tiny_mlm), tiny_model(tiny_mlm, read_out="mean")
    first = replace(init, read_out_logits=torch.tensor([0.0, -torch.inf], dtype=torch.float64))
    found = features(warp, first, TEXTS)
    assert torch.equal(found[:, :32], features(only, replace(init, read_out_logits=None), TEXTS))
    assert not found[:, 32:].any()


def test_the_bare_text_is_read_once_for_all_prompts(tiny, passes):
    warp, init = tiny_model(tiny, read_out="text+text-1", cache=FeatureCache())
    prompts = prompts_of(warp, 1)
    passes()
    one, other = (features(warp, init, [*TEXTS, TEXTS[0]], some) for some in (prompts, 1 + prompts))
    assert torch.equal(one, other)
    assert sum(rows for rows, _ in passes()) == 2 * len(TEXTS)  # two runs of layers, each text once


def test_without_a_prompt_the_mean_read_out_is_the_sentence_embedding(minilm):
    warp, init = tiny_model(minilm, template="{text}", read_out="mean")
    encoded = minilm.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = minilm.model(**encoded).last_hidden_state
    weights = encoded["attention_mask"][..., None]
    expected = normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)
    assert_close(features(warp, init, TEXTS), expected, rtol=0, atol=1e-6)


def test_prompts_and_features_of_a_bfloat16_backbone_are_float32(tmp_path):
    found = []
    for dtype in ("float32", "bfloat16"):
        warp, init = tiny_model(tiny_backbone(tmp_path / dtype, dtype=dtype))
        prompts = prompts_of(warp, 1)
        found.append(features(warp, init, TEXTS, prompts))
        assert init.adapter.dtype == found[-1].dtype == torch.float32
        assert torch.autograd.grad(found[-1].sum(), prompts)[0].isfinite().all()
    assert (torch.cosine_similarity(*found, dim=-1) > 0.98).all()


# Configuration ------------------------------------------------------------------------------------------------


UNUSABLE: list[tuple[dict[str, object], list[str]]] = [
    ({"verbalizer": "other"}, ["verbalizer='other'", "names, support, mix, regression, replaced_token"]),
    ({"name_source": "other"}, ["name_source='other'", "template, embeddings"]),
    ({"prompt_start": "other"}, ["prompt_start='other'", "mask, vocabulary, normal"]),
    ({"adapter": "other"}, ["adapter='other'", "prompt, deep_prompt, prefix, prompt_pool, lora, biases, weights"]),
    *(
        ({"read_out": name}, [f"read_out={name!r}", "mask, debiased_mask, mean, text, text-1", "replaced_token"])
        for name in ("max", "mix", "mask+", "text+text", "text-0", "text4", "text-1/0", "mean-1", "mean + mask")
    ),
    *(
        ({"template": "{prompt:4} {text}", "read_out": name}, [f"read_out={name!r}", "{mask}", "read_out='pooled'"])
        for name in ("mask", "text+mask", "debiased_mask", "text+debiased_mask")
    ),
    ({"read_out": "pooled-1", "adapter_layer": 2}, ["'pooled-1' in read_out", "adapter_layer=2", "'text-1'"]),
    *(
        ({"template": "{text} {mask}", "max_length": n}, ["no room for text", f"at most {n} tokens"])
        for n in (0, -5, 3)
    ),
]


@pytest.mark.parametrize(("settings", "facts"), UNUSABLE, ids=str)
def test_unusable_settings_are_refused(tiny, settings, facts):
    with refused(*facts):
        tiny_model(tiny, **settings)
