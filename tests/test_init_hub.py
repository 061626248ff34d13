"""Inits on the Hub, through a patched client: what is uploaded, what is downloaded, and the messages of failures.

The patched client takes what the real one does: calls are bound to its signatures.
"""

import inspect
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, snapshot_download
from running import refused
from tiny import NO_STEPS, tiny_corpus

from metawarp import Init, Warp, WarpClassifier, WarpConfig, evaluate
from metawarp.cli import main
from metawarp.inits import hub
from metawarp.parameters import tensors_of


def as_the_real_one(real, fake):
    """A fake function that is called with what the real one would take, by name."""
    return lambda *given, **named: fake(**inspect.signature(real).bind(*given, **named).arguments)


class Client:
    """The Hub as a folder: repositories are folders in it."""

    root: Path

    def __init__(self, token=None):
        assert token in (None, "secret")
        self.create_repo = as_the_real_one(partial(HfApi.create_repo, self), self.create)
        self.upload_folder = as_the_real_one(partial(HfApi.upload_folder, self), self.upload)

    def create(self, *, repo_id, private, exist_ok):
        assert exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return f"https://hub.example/{repo_id}"

    def upload(self, *, repo_id, folder_path, allow_patterns, commit_message):
        assert commit_message
        for file in allow_patterns:
            shutil.copy(Path(folder_path) / file, self.root / repo_id / file)


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    Client.root = tmp_path / "hub"

    def snapshot(repo_id, *, revision, allow_patterns):
        folder = Client.root / repo_id
        if not folder.is_dir() or revision not in (None, "v1"):
            raise OSError(2, "no such repository")
        assert {file.name for file in folder.iterdir()} == set(allow_patterns)
        return str(folder)

    monkeypatch.setattr(hub, "HfApi", Client)
    monkeypatch.setattr(hub, "snapshot_download", as_the_real_one(snapshot_download, snapshot))
    monkeypatch.setattr(hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub, "hub_refusal", lambda kind, name: None)
    return Client.root


@pytest.fixture
def init(tiny):
    return Init.start(Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}")), NO_STEPS, method="prototypical")


def test_what_was_pushed_is_what_comes_back(init, hub_folder):
    assert init.push_to_hub("me/intents", token="secret") == "https://hub.example/me/intents"
    for revision in (None, "v1"):
        back = Init.from_pretrained("me/intents", revision=revision)
        tensors, downloaded = tensors_of(init.parameters), tensors_of(back.parameters)
        assert downloaded.keys() == tensors.keys()
        assert all(tensor.equal(tensors[name]) for name, tensor in downloaded.items())
        for name in ("config", "inner", "method", "backbone"):
            assert getattr(back, name) == getattr(init, name)


def test_a_classifier_and_the_command_line_take_it_by_its_name(init, tiny, made, hub_folder, tmp_path, capsys):
    init.push_to_hub("me/intents")
    model = WarpClassifier("me/intents", tiny).fit(["play music", "rain today"], ["music", "rain"])
    here = WarpClassifier(init, tiny).fit(["play music", "rain today"], ["music", "rain"])
    assert model.predict_proba(["some music"]) == pytest.approx(here.predict_proba(["some music"]))
    Init.load(made / "init").push_to_hub("me/other")
    (tmp_path / "few.csv").write_text("text,label\nplay some music,music\nrain today,weather\n")
    command = ["fit", "--init=me/other", f"--data={tmp_path}/few.csv", f"--backbone={made}/backbone"]
    main([*command, f"--output={tmp_path}/task"])
    assert "2 classes: music, weather" in capsys.readouterr().out


def test_its_card_says_what_it_is(init, tiny, hub_folder, tmp_path):
    init.save(tmp_path / "init")
    results = evaluate(
        str(tmp_path / "init"), tiny_corpus(), split="all", backbone=tiny, n_way=2, n_query=2, episodes=3,
        baselines=["prototypes"],
    )  # fmt: skip
    init.push_to_hub("me/intents", license="mit", results=results)
    card = ModelCard.load(hub_folder / "me/intents/README.md")
    assert card.data.license == "mit" and card.data.library_name == "metawarp"
    assert card.data.pipeline_tag == "text-classification" and "prototypical" in card.data.tags
    found = results["methods"]["metawarp"]
    assert f"| metawarp | {100 * found['accuracy']:.1f} ± {100 * found['ci95']:.1f} |" in card.text
    assert "| n_way | 2 |" in card.text and "| prototypes |" in card.text
    assert "numbers for the frozen backbone" in card.text
    assert 'WarpClassifier("me/intents")' in card.text and "--init me/intents " in card.text
    (tmp_path / "results.json").write_text(json.dumps(results))
    init.push_to_hub("me/again", license="mit", results=tmp_path / "results.json")
    assert ModelCard.load(hub_folder / "me/again/README.md").text == card.text.replace("me/intents", "me/again")
    with refused(str(tmp_path / "none.json"), "cannot be read"):
        init.push_to_hub("me/again", results=tmp_path / "none.json")
    with refused(str(tmp_path / "init/config.json"), "metawarp evaluate"):
        init.push_to_hub("me/again", results=tmp_path / "init" / "config.json")


def test_the_card_names_the_backbone_as_the_hub_knows_it(minilm, hub_folder):
    Init.start(Warp(minilm, WarpConfig()), NO_STEPS).push_to_hub("me/intents")
    base = ModelCard.load(hub_folder / "me/intents/README.md").data.to_dict()["base_model"]
    assert base == "sentence-transformers/all-MiniLM-L6-v2"


def test_folders_and_shipped_inits_come_first(init, tiny, hub_folder, tmp_path, monkeypatch):
    init.push_to_hub("me/intents")
    monkeypatch.chdir(tmp_path)
    Init.start(Warp(tiny, WarpConfig()), NO_STEPS).save(tmp_path / "me/intents")
    assert Init.from_pretrained("me/intents").config == WarpConfig()
    assert Init.from_pretrained("general").backbone.name == "minilm"


def test_an_init_that_the_hub_does_not_provide_is_refused(hub_folder, monkeypatch):
    with refused("init='me/none'", "no such repository"):
        Init.from_pretrained("me/none")
    monkeypatch.setattr(hub, "hub_refusal", lambda kind, name: f"the Hub has no public {kind} of this name")
    with refused("init='me/none'", "the Hub has no public model of this name"):
        Init.from_pretrained("me/none")
    with refused("no folder", "runs/of/mine", "config.json", "init.safetensors"):  # not a Hub id
        Init.from_pretrained("runs/of/mine")


def test_a_failed_upload_ends_in_one_line(init, hub_folder, monkeypatch):
    with refused("'intents'", "owner/name"):
        init.push_to_hub("intents")

    def fail(*given, **named):
        raise OSError(13, "Unauthorized")

    monkeypatch.setattr(Client, "create", fail)
    with refused("me/intents", "Unauthorized", "hf auth login"):
        init.push_to_hub("me/intents")
