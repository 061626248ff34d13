"""Inits on the Hub: uploads, downloads and failures, with a folder in the place of the Hub."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard, snapshot_download
from running import refused
from tiny import NO_STEPS, tiny_corpus
from trainings import equal, tensors

from metawarp import Init, Warp, WarpClassifier, WarpConfig, evaluate
from metawarp.cli import main
from metawarp.inits import hub


def as_the_real_one(real, fake):
    """A fake function whose arguments are bound to the signature of the real one, by name."""
    return lambda *given, **named: fake(**inspect.signature(real).bind(*given, **named).arguments)


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """A folder in the place of the Hub: repositories are folders in it."""
    root = tmp_path / "hub"

    def create(self, *, repo_id, private, exist_ok):
        assert exist_ok and self.token in (None, "secret")
        (root / repo_id).mkdir(parents=True, exist_ok=True)
        return f"https://hub.example/{repo_id}"

    def upload(self, *, repo_id, folder_path, allow_patterns, commit_message):
        assert commit_message
        for file in allow_patterns:
            shutil.copy(Path(folder_path) / file, root / repo_id / file)

    def snapshot(repo_id, *, revision, allow_patterns):
        folder = root / repo_id
        if not folder.is_dir() or revision not in (None, "v1"):
            raise OSError(2, "no such repository")
        assert {file.name for file in folder.iterdir()} == set(allow_patterns)
        return str(folder)

    monkeypatch.setattr(HfApi, "create_repo", as_the_real_one(HfApi.create_repo, create))
    monkeypatch.setattr(HfApi, "upload_folder", as_the_real_one(HfApi.upload_folder, upload))
    monkeypatch.setattr(hub, "snapshot_download", as_the_real_one(snapshot_download, snapshot))
    monkeypatch.setattr(hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub, "hub_refusal", lambda kind, name: None)
    return root


@pytest.fixture
def init(tiny):
    return Init.start(Warp(tiny, WarpConfig(template="{prompt:2} {text} {mask}")), NO_STEPS, method="prototypical")


def test_a_downloaded_init_equals_the_uploaded_one(init, hub_folder):
    assert init.push_to_hub("me/intents", token="secret") == "https://hub.example/me/intents"
    for revision in (None, "v1"):
        back = Init.from_pretrained("me/intents", revision=revision)
        assert equal(tensors(back), tensors(init))
        assert (back.config, back.inner, back.method) == (init.config, init.inner, init.method)
        assert back.backbone == init.backbone


def test_a_classifier_and_the_command_line_accept_a_hub_id(init, tiny, made, hub_folder, tmp_path, capsys):
    init.push_to_hub("me/intents")
    model = WarpClassifier("me/intents", tiny).fit(["play music", "rain today"], ["music", "rain"])
    here = WarpClassifier(init, tiny).fit(["play music", "rain today"], ["music", "rain"])
    assert model.predict_proba(["some music"]) == pytest.approx(here.predict_proba(["some music"]))
    Init.load(made / "init").push_to_hub("me/other")
    (tmp_path / "few.csv").write_text("text,label\nplay some music,music\nrain today,weather\n")
    command = ["fit", "--init=me/other", f"--data={tmp_path}/few.csv", f"--backbone={made}/backbone"]
    main([*command, f"--output={tmp_path}/task"])
    assert "2 classes: music, weather" in capsys.readouterr().out


def test_the_model_card_describes_the_init_and_its_results(init, tiny, hub_folder, tmp_path):
    init.save(tmp_path / "init")
    sizes: dict[str, Any] = {"n_way": 2, "n_query": 2, "episodes": 3, "baselines": ["prototypes"]}
    results = evaluate(str(tmp_path / "init"), tiny_corpus(), split="all", backbone=tiny, **sizes)
    init.push_to_hub("me/intents", license="mit", results=results)
    card = ModelCard.load(hub_folder / "me/intents/README.md")
    data = card.data.to_dict()
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("mit", "metawarp", "text-classification")
    assert "prototypical" in data["tags"]
    found = results["methods"]["metawarp"]
    assert f"| metawarp | {100 * found['accuracy']:.1f} ± {100 * found['ci95']:.1f} |" in card.text
    assert "| n_way | 2 |" in card.text and "| prototypes |" in card.text
    assert "parameters for the frozen backbone" in card.text
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


def test_folders_and_shipped_inits_take_precedence_over_hub_ids(init, tiny, hub_folder, tmp_path, monkeypatch):
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
    with refused("init='runs/of/mine' is no folder", "no init of this name ships"):  # not a Hub id
        Init.from_pretrained("runs/of/mine")
    with refused("init='genral'", "did you mean 'general'?", "metawarp inits"):
        Init.from_pretrained("genral")


def test_a_failed_upload_ends_in_one_line(init, hub_folder, monkeypatch):
    with refused("'intents'", "owner/name"):
        init.push_to_hub("intents")

    def fail(*given, **named):
        raise OSError(13, "Unauthorized")

    monkeypatch.setattr(HfApi, "create_repo", fail)
    with refused("me/intents", "Unauthorized", "hf auth login"):
        init.push_to_hub("me/intents")
