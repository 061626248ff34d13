"""Prompts that are saved as adapters of PEFT, and adapters of PEFT that inits are made of."""

import json
import sys
from typing import Any

import pytest
import torch
from marks import slow_except
from running import refused
from tiny import MODELS, NO_STEPS, query_logits, tiny_backbone, tiny_episodes
from torch.testing import assert_close

from metawarp import Init, Warp, WarpConfig
from metawarp.adapters.adapter import split
from metawarp.inits.peft_adapter import load_adapter, save_adapter

peft = pytest.importorskip("peft")
# PEFT asks transformers 5 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
TEXTS = ["set the alarm", "what is the weather today in the market, and where?", "pay my bill please"]
SETTINGS: dict[str, Any] = {"read_out": "mean+mask", "prompt_start": "normal"}


def fresh(backbone, **config):
    settings = {"template": "{prompt:3} {start} {text} was {mask}", **SETTINGS, **config}
    return Init.start(Warp(backbone, WarpConfig(**settings)), NO_STEPS, seed=2)


@pytest.mark.parametrize("model_type", slow_except("roberta", MODELS))
def test_peft_loads_a_saved_adapter_and_computes_the_same_hidden_states(tmp_path, model_type):
    backbone = tiny_backbone(tmp_path / "model", model_type)
    init = fresh(backbone)
    save_adapter(init, backbone, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(backbone.model, str(tmp_path / "adapter")).double().eval()
    warp = init.bind(backbone)
    batch = warp.encoder(TEXTS)
    assert (batch.prompt_index[:, :3] == torch.arange(3)).all()
    parts = split(warp.adapter, init.on(backbone).adapter[None])
    with torch.no_grad():
        ours = warp.adapter.hidden_states(parts, batch, torch.zeros(3, dtype=torch.long))
        found = theirs(input_ids=batch.input_ids[:, 3:], attention_mask=batch.attention_mask[:, 3:].long())
    there = batch.attention_mask
    assert_close(found.last_hidden_state[there], ours[there], rtol=0, atol=1e-6)


def test_a_saved_adapter_is_loaded_again_and_not_overwritten(tiny, tmp_path):
    init = fresh(tiny)
    save_adapter(init, tiny, tmp_path)
    back = load_adapter(tmp_path, tiny, template="{text} was {mask}", **SETTINGS)
    assert back.config == init.config
    once, again = (query_logits(one.bind(tiny), one.on(tiny), tiny_episodes()) for one in (init, back))
    assert_close(once, again, rtol=0, atol=0)
    with refused(f"output={str(tmp_path)!r}", "adapter_config.json"):
        save_adapter(init, tiny, tmp_path)


def test_an_adapter_is_not_written_through_a_link(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/adapter_config.json").symlink_to(tmp_path / "elsewhere")
    save_adapter(fresh(tiny), tiny, tmp_path / "out")
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "out/adapter_config.json").is_symlink()


def test_an_adapter_that_peft_made_becomes_an_init(tiny, tmp_path):
    config = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=4)
    theirs = peft.get_peft_model(tiny.model, config)
    prompt = theirs.get_prompt_embedding_to_save("default").clone()
    theirs.save_pretrained(str(tmp_path))
    init = load_adapter(tmp_path, tiny)
    assert_close(init.parameters.adapter, prompt.float())
    assert init.config.template == "{prompt:4} {start} {text} {mask}"
    assert not any(weight.requires_grad for weight in tiny.model.parameters())


def test_a_prompt_before_the_field_start_stands_before_the_first_special_token(tiny):
    batch = fresh(tiny).bind(tiny).encoder(["alarm"])
    tokens = tiny.tokenizer.convert_ids_to_tokens(batch.input_ids[0].tolist())
    assert tokens == ["[PAD]"] * 3 + ["[CLS]", "alarm", "was", "[MASK]", "[SEP]"]
    assert batch.text_mask[0].int().tolist() == [0, 0, 0, 1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    "config",
    [
        {"template": "{prompt:3} {text} {mask}"},
        {"template": "{prompt:3} {start} {text} {prompt:1} {mask}"},
        {"template": "so {prompt:3} {start} {text} {mask}"},
        {"template": "{start} {text} {mask}"},
        {"adapter": "deep_prompt"},
        {"adapter_layer": 1},
    ],
    ids=str,
)
def test_an_init_that_peft_cannot_express_is_refused(tiny, tmp_path, config):
    with refused("adapter='prompt', adapter_layer=0", "{start}", "this init has"):
        save_adapter(fresh(tiny, **config), tiny, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_without_peft_the_extra_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with refused('pip install "metawarp[peft]"', error=ImportError):
        save_adapter(fresh(tiny), tiny, tmp_path)


def test_a_folder_without_a_fitting_adapter_is_refused(tiny, tmp_path):
    with refused(str(tmp_path), "adapter_config.json", "adapter_model.safetensors"):
        load_adapter(tmp_path, tiny)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with refused(str(tmp_path), "'LORA'", "PROMPT_TUNING"):
        load_adapter(tmp_path, tiny)
    save_adapter(fresh(tiny), tiny, tmp_path / "fits")
    other = tiny_backbone(tmp_path / "wide", hidden=48)
    with refused("(3, 32)", repr(other.name), "(3, 48)"):
        load_adapter(tmp_path / "fits", other)
    with refused("template='{prompt:2} {text}'", "{start}"):
        load_adapter(tmp_path / "fits", tiny, template="{prompt:2} {text}")
    with refused("PROMPT_TUNING", "adapter_layer"):
        load_adapter(tmp_path / "fits", tiny, adapter_layer=1)
