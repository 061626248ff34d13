"""The store of backbones: one backbone per folder and settings, and at most as many as its capacity."""

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
from tiny import tiny_folder

from metawarp import Backbone
from metawarp.backbones.store import BackboneStore


@pytest.fixture
def loaded():
    """A function that returns the names of the backbones that are loaded, in order."""
    with patch.object(Backbone, "load", side_effect=Backbone.load) as load:
        yield lambda: [call.args[0] for call in load.call_args_list]


def test_different_spellings_of_a_folder_are_one_backbone(tmp_path, monkeypatch, loaded):
    folder = tiny_folder(tmp_path / "one")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = BackboneStore()
    first = store.get(folder)
    for name in (str(folder), f"{folder}/", "one", "./one", "link", "~/one", tmp_path / "one" / ".." / "one"):
        assert store.get(name) is first, name
    assert store.get(first) is first
    assert len(loaded()) == 1


def test_other_settings_are_another_backbone(tmp_path):
    folder, store = tiny_folder(tmp_path), BackboneStore(capacity=4)
    first = store.get(folder)
    assert store.get(folder, dtype="float64") is not first
    assert store.get(folder, device="cpu", dtype="float32") is first


def test_the_least_recently_used_backbone_is_released(tmp_path, loaded):
    one, two, three = (tiny_folder(tmp_path / name, layers=1) for name in ("one", "two", "three"))
    store = BackboneStore(capacity=2)
    first = store.get(one)
    store.get(two)
    assert store.get(one) is first
    store.get(three)
    assert store.get(one) is first
    store.get(two)
    assert [str(name) for name in loaded()] == [str(folder) for folder in (one, two, three, two)]


def test_threads_that_need_a_backbone_at_the_same_time_share_it(tmp_path, loaded):
    folder, store = tiny_folder(tmp_path), BackboneStore()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(store.get, [folder] * 16))
    assert len(set(map(id, found))) == len(loaded()) == 1


def test_a_folder_with_other_weights_than_before_is_loaded_again(tmp_path):
    store = BackboneStore()
    first = store.get(tiny_folder(tmp_path))
    assert store.get(tmp_path) is first
    again = store.get(tiny_folder(tmp_path, seed=1))
    assert again.fingerprint != first.fingerprint


def test_a_backbone_that_was_named_by_a_relative_path_is_found_from_everywhere(tmp_path, monkeypatch):
    tiny_folder(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    assert BackboneStore().get("one").name == str(tmp_path / "one")
