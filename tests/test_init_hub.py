"""Inits on the Hub, by a client that is patched: what is uploaded, what comes back, what is said when it does not.

The patched client takes what the real one does: calls are bound to its signatures.
"""

import inspect
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, snapshot_download
from running import refused
from tiny import NO_STEPS, tiny_corpus

from metawarp import Init, Warp, WarpClassifier, WarpConfig, evaluate
from metawarp.cli import main
from metawarp.inits import hub


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
        assert back.tensors.keys() == init.tensors.keys()
        assert all(tensor.equal(init.tensors[name]) for name, tensor in back.tensors.items())
        assert (back.warp, back.inner, back.method, dict(back.backbone)) == (
            init.warp, init.inner, init.method, dict(init.backbone),
        )  # fmt: skip


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
    with refused(f"results {str(tmp_path / 'none.json')!r} cannot be read: No such file or directory"):
        init.push_to_hub("me/again", results=tmp_path / "none.json")
    with refused(
        f"{str(tmp_path / 'init/config.json')!r} is no results.json of metawarp evaluate; name the file that it wrote."
    ):
        init.push_to_hub("me/again", results=tmp_path / "init" / "config.json")


def test_the_backbone_is_named_as_the_hub_knows_it(minilm):
    init = Init.start(Warp(minilm, WarpConfig()), NO_STEPS)
    header = hub.hub_header(init._config(), "mit")
    assert yaml.safe_load(header.strip("-\n "))["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_folders_and_shipped_inits_come_first(init, tiny, hub_folder, tmp_path, monkeypatch):
    init.push_to_hub("me/intents")
    monkeypatch.chdir(tmp_path)
    Init.start(Warp(tiny, WarpConfig()), NO_STEPS).save(tmp_path / "me/intents")
    assert Init.from_pretrained("me/intents").warp == WarpConfig()
    assert Init.from_pretrained("general").backbone["name"] == "minilm"


def test_what_the_hub_does_not_hand_out_is_told_in_one_sentence(hub_folder, monkeypatch):
    with refused("init 'me/none' is neither a folder here nor a shipped one, and no such repository."):
        Init.from_pretrained("me/none")
    monkeypatch.setattr(hub, "hub_refusal", lambda kind, name: f"the Hub has no public {kind} of this name")
    with refused(
        "init 'me/none' is neither a folder here nor a shipped one, and the Hub has no public model of this name."
    ):
        Init.from_pretrained("me/none")


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub():
    with refused("There is no folder 'runs/of/mine'; a saved init is a folder with config.json and init.safetensors."):
        Init.from_pretrained("runs/of/mine")


def test_an_upload_that_fails_is_told_in_one_sentence(init, hub_folder, monkeypatch):
    with refused("'intents' is no Hub id such as 'owner/name'."):
        init.push_to_hub("intents")

    def fail(*given, **named):
        raise OSError(13, "Unauthorized")

    monkeypatch.setattr(Client, "create", fail)
    with refused(
        "init 'me/intents' could not be uploaded (Unauthorized); log in with `hf auth login`, or give a token."
    ):
        init.push_to_hub("me/intents")
