"""DeBERTa as it was published: heads that its config does not mention, behind the enhanced mask decoder."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers
from running import refused
from safetensors.torch import load_file, save_file
from tiny import MODELS, assert_second_order_is_exact, tiny_folder, tiny_model, tokens_with_mask
from torch.testing import assert_close

from metawarp import Backbone
from metawarp.adapters.adapter import join, split
from metawarp.config import GROUPS, InnerLearningRates, InnerLoop
from metawarp.read_outs.prompted_features import PromptedFeatures

VERSIONS = ["deberta", "deberta-v2"]


def published(folder, model_type, *, biased=False, without=(), rename=("", "")):
    """A checkpoint as Microsoft's are: no "architectures", heads under their own names, positions for the decoder."""
    config_class, _, head_class = MODELS[model_type]
    config = config_class.from_pretrained(tiny_folder(folder, model_type))
    config.legacy, config.position_biased_input = False, True
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head_class(config).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights = {name.replace(*rename): tensor for name, tensor in weights.items() if name not in without}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    file = folder / "config.json"
    settings = json.loads(file.read_text()) | {"position_biased_input": biased}
    del settings["architectures"], settings["legacy"]
    file.write_text(json.dumps(settings))
    return folder


def plain(folder):
    """The encoder, as transformers reads the folder, in float64."""
    return transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval()


def attended(attention, queries, hidden, mask, distances, relative):
    """Attention of DeBERTa 1 (B, n, h), by its equation 4."""
    heads, size = attention.num_attention_heads, attention.attention_head_size
    weight = attention.in_proj.weight.unflatten(0, (heads, 3, size)).mT  # (heads, 3, h, size)
    query = queries[:, None] @ weight[:, 0] + attention.q_bias.view(heads, 1, size)
    key = hidden[:, None] @ weight[:, 1]
    value = hidden[:, None] @ weight[:, 2] + attention.v_bias.view(heads, 1, size)
    middle = attention.max_relative_positions
    width = min(hidden.shape[1], middle)
    near, index = relative[middle - width : middle + width], (distances[0] + width).clamp(0, 2 * width - 1)
    by_position, of_position = (
        project(near).unflatten(-1, (heads, size)).transpose(0, 1)[:, index]  # (heads, n, n, size)
        for project in (attention.pos_proj, attention.pos_q_proj)
    )
    scores = query @ key.mT + torch.einsum("bhid,hijd->bhij", query, by_position)
    scores += torch.einsum("bhjd,hijd->bhij", key, of_position)
    scale = torch.tensor(float(size * (1 + len(attention.pos_att_type)))).sqrt()  # in float32, as transformers does
    scores = (scores / scale).masked_fill(~mask.bool(), torch.finfo(scores.dtype).min)
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


@torch.no_grad()
def expected_features(folder, ids, attention_mask, at):
    """What the published head makes of [MASK]: its decoder by hand over the layers of transformers."""
    model = plain(folder)
    stack, layer = model.encoder, model.encoder.layer[-1]
    weights = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}
    entering = model(ids, attention_mask, output_hidden_states=True).hidden_states[-2]
    mask, relative = stack.get_attention_mask(attention_mask), stack.get_rel_embedding()
    distances = stack.get_rel_pos(entering)
    state = entering + weights["deberta.embeddings.position_embeddings.weight"][: entering.shape[1]]
    for _ in range(2):
        if hasattr(layer.attention.self, "in_proj"):
            mixed = attended(layer.attention.self, state, entering, mask, distances, relative)
            found = layer.attention.output(mixed, state)
            state = layer.output(layer.intermediate(found), found)
        else:
            state = layer(entering, mask, query_states=state, relative_pos=distances, rel_embeddings=relative)[0]
    head = "lm_predictions.lm_head."
    state = state[torch.arange(len(at)), at] @ weights[head + "dense.weight"].T + weights[head + "dense.bias"]
    norm = weights[head + "LayerNorm.weight"], weights[head + "LayerNorm.bias"]
    return torch.nn.functional.layer_norm(torch.nn.functional.gelu(state), state.shape[-1:], *norm, eps=1e-7)


@pytest.mark.parametrize("model_type", VERSIONS)
def test_the_head_reads_the_states_of_the_enhanced_mask_decoder(model_type, tmp_path, exact):
    backbone = Backbone.load(published(tmp_path, model_type), dtype="float64")
    ids, attention, at = tokens_with_mask(backbone.tokenizer)
    embeddings = backbone.word_embeddings[ids]
    assert backbone.last_layer is not None
    found = backbone.mask_features(backbone.hidden_states(embeddings, attention, head_at=at))
    assert_close(found, expected_features(tmp_path, ids, attention, at), rtol=0, atol=1e-10)
    last = backbone.hidden_states(embeddings, attention)
    theirs = plain(tmp_path)(ids, attention).last_hidden_state
    # The states outside of the decoder are those of a plain encoder.
    assert_close(last[attention.bool()], theirs[attention.bool()], rtol=0, atol=1e-12)
    assert not torch.allclose(found, backbone.mask_features(last[torch.arange(len(at)), at]), atol=1e-3)


@pytest.mark.parametrize("adapter", ["prompt", "deep_prompt", "lora", "biases", "weights"])
@pytest.mark.parametrize("model_type", VERSIONS)
def test_every_adapter_affects_the_decoder(tmp_path, model_type, adapter, exact):
    # Soft tokens that are words: what is read at [MASK] is what the published model makes of these words.
    backbone = Backbone.load(published(tmp_path, model_type), dtype="float64")
    size = 2 if adapter == "lora" else None
    warp, init = tiny_model(backbone, adapter=adapter, adapter_size=size, read_out="mean+mask")
    words, batch = torch.tensor([40, 50, 60]), warp.encoder(["what is the weather today in the market, and where?"])
    ids, places = batch.input_ids.clone(), batch.prompt_index >= 0
    ids[places] = words[batch.prompt_index[places]]
    parts = {name: part[0] for name, part in split(warp.adapter, init.adapter[None]).items()}
    parts["prompt"] = backbone.word_embeddings[words]
    if adapter == "deep_prompt":
        entering = plain(tmp_path)(ids, output_hidden_states=True).hidden_states
        parts["later"] = torch.stack([entering[layer][places] for layer in (1, 2)])
    reader = PromptedFeatures(warp.adapter, ["mean", "mask"], None)
    found = reader(join(warp.adapter, parts)[None], batch, torch.zeros(1, dtype=torch.long))["mask"]
    expected = expected_features(tmp_path, ids, batch.attention_mask.long(), batch.mask_position)
    assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("model_type", VERSIONS)
def test_threads_that_read_at_the_same_time_do_not_change_each_other(tmp_path, model_type):
    backbone = Backbone.load(published(tmp_path, model_type))
    ids, attention, at = tokens_with_mask(backbone.tokenizer)
    inputs = [backbone.word_embeddings[ids], backbone.word_embeddings[ids.flip(0)]]
    masks, ends = [attention, attention.flip(0)], [at, at.flip(0)]

    def read(i):
        return backbone.hidden_states(inputs[i % 2], masks[i % 2], head_at=ends[i % 2])

    alone = [read(0), read(1)]
    with ThreadPoolExecutor(2) as threads:
        for i, found in enumerate(threads.map(read, range(40))):
            assert_close(found, alone[i % 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", VERSIONS)
def test_second_order_gradients_through_the_decoder_are_exact(tmp_path, model_type, exact):
    inner, rates = InnerLoop(1, GROUPS), InnerLearningRates(adapter=0.3, class_embeddings=0.2)
    backbone = Backbone.load(published(tmp_path, model_type), dtype="float64")
    warp, init = tiny_model(backbone, inner, learn=True, rates=rates, read_out="mask")
    assert_second_order_is_exact(warp, init, inner, ["adapter"])


@pytest.mark.parametrize("model_type", VERSIONS)
def test_with_positions_in_the_input_the_head_reads_the_last_layer(tmp_path, model_type):
    backbone = Backbone.load(published(tmp_path, model_type, biased=True), dtype="float64")
    ids, attention, at = tokens_with_mask(backbone.tokenizer)
    assert backbone.masked_lm_head is not None and backbone.last_layer is None
    there = backbone.hidden_states(backbone.word_embeddings[ids], attention, head_at=at)
    theirs = plain(tmp_path)(ids, attention).last_hidden_state[torch.arange(len(at)), at]
    assert_close(there, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model_type", VERSIONS)
def test_a_discriminator_is_loaded_as_a_plain_encoder(tmp_path, model_type):
    rename = ("lm_predictions.lm_head.", "mask_predictions.")
    backbone = Backbone.load(published(tmp_path, model_type, rename=rename), dtype="float64")
    assert backbone.masked_lm_head is None and backbone.last_layer is None


def test_a_head_whose_decoder_has_no_positions_is_refused(tmp_path):
    published(tmp_path, "deberta", without=["deberta.embeddings.position_embeddings.weight"])
    with refused(repr(str(tmp_path)), "deberta.embeddings.position_embeddings.weight"):
        Backbone.load(tmp_path)
