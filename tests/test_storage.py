"""Folders of learned numbers: what is saved is loaded, and nothing else is."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from running import refused
from safetensors.torch import save_file

from metawarp.inits import storage

TENSORS = {
    "double": torch.tensor([1 / 3, -0.0, 1e300, 5e-324], dtype=torch.float64),
    "single": torch.tensor([[1 / 3], [-1e-45]]),
    "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "scalar": torch.tensor(0.1),
    "nothing": torch.zeros(0, 4),
}


@pytest.fixture
def saved(tmp_path):
    storage.save(tmp_path, "thing", TENSORS, {"name": "Ä"})
    return tmp_path


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_what_is_saved_is_loaded_bit_by_bit(saved):
    tensors, config = storage.load(saved, "thing")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert tensor.shape == TENSORS[name].shape
        assert tensor.reshape(-1).view(torch.uint8).equal(TENSORS[name].reshape(-1).view(torch.uint8))
    assert config["name"] == "Ä"


def test_files_can_be_read_by_whoever_may_read_other_files_there(saved):
    (saved / "other").touch()
    modes = {file.stat().st_mode for file in saved.iterdir()}
    assert len(modes) == 1


def test_a_folder_holds_two_files_and_config_vouches_for_the_other(saved):
    assert sorted(file.name for file in saved.iterdir()) == ["config.json", "thing.safetensors"]
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    assert config["format"] == "metawarp-thing"
    assert config["format_version"] == 2
    assert config["sha256"] == storage.save(saved / "again", "thing", TENSORS, {})


def test_tensors_that_share_memory_or_need_gradients_are_saved_as_they_are(tmp_path):
    rows = torch.arange(6.0).reshape(2, 3).requires_grad_()
    storage.save(tmp_path, "thing", {"rows": rows, "columns": rows.T, "expanded": rows[:1].expand(2, 3)}, {})
    tensors, _ = storage.load(tmp_path, "thing")
    assert tensors["columns"].equal(rows.T)
    assert tensors["expanded"].equal(rows[:1].expand(2, 3))
    assert not tensors["rows"].requires_grad


@pytest.mark.parametrize("name", ["config.json", "thing.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with refused(str(saved), f"holds no {name}", "config.json", "thing.safetensors"):
        storage.load(saved, "thing")


def test_a_missing_folder_is_named(tmp_path):
    folder = tmp_path / "nowhere"
    with refused("no folder", str(folder), "config.json", "thing.safetensors"):
        storage.load(folder, "thing")


def changed_byte(data, position):
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(saved, kept):
    refuse_damage(saved, lambda data: data[:kept])


@pytest.mark.parametrize("position", [0, 20, -1])
def test_one_changed_byte_is_refused(saved, position):
    refuse_damage(saved, lambda data: changed_byte(data, position))


def refuse_damage(saved, damage):
    file = saved / "thing.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with refused(str(file), "truncated or damaged", "config.json"):
        storage.load(saved, "thing")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_and_named(tmp_path, number):
    bad = torch.tensor([1.0, number])
    storage.save(tmp_path, "thing", {"good": torch.ones(2), "worse": bad, "bad": bad.clone()}, {})
    with refused(str(tmp_path / "thing.safetensors"), "not finite", "bad, worse"):
        storage.load(tmp_path, "thing")


def test_a_file_of_another_format_is_refused_even_if_its_hash_is_right(saved):
    file = saved / "thing.safetensors"
    file.write_bytes(b"not at all")
    change_config(saved, sha256=hashlib.sha256(b"not at all").hexdigest())
    with refused(str(file), "not a safetensors file"):
        storage.load(saved, "thing")


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_an_unknown_format_version_is_refused(saved, version):
    change_config(saved, format_version=version)
    with refused(str(saved / "config.json"), f"version {version!r}", "version 2"):
        storage.load(saved, "thing")


def test_another_kind_is_refused(saved):
    save_file({"a": torch.ones(1)}, saved / "other.safetensors")
    with refused(str(saved / "config.json"), "metawarp-thing", "metawarp-other"):
        storage.load(saved, "other")


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b'{"format": "meta', ["not JSON"]),
        (b"", ["not JSON"]),
        ('{"name": "Ä"}'.encode("latin-1"), ["not JSON in UTF-8"]),
        (b"[1, 2]", ["'list'", "metawarp-thing"]),
        (b"{}", ["None", "metawarp-thing"]),
    ],
)
def test_a_damaged_config_is_refused(saved, content, facts):
    (saved / "config.json").write_bytes(content)
    with refused(str(saved / "config.json"), *facts):
        storage.load(saved, "thing")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with refused(str(tmp_path / "file" / "below"), "cannot be written", "Not a directory"):
        storage.save(tmp_path / "file" / "below", "thing", TENSORS, {})


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that root cannot write to either")
def test_a_folder_that_cannot_be_written_to_is_refused():
    with refused("/proc/self", "cannot be written"):
        storage.save(Path("/proc/self"), "thing", TENSORS, {})


def test_no_source_reads_or_writes_pickle():
    root = Path(__file__).parent.parent
    sources = [file for package in ("metawarp", "episodes") for file in (root / package).rglob("*.py")]
    assert len(sources) > 20
    forbidden = ("torch.save", "torch.load", "import pickle", "from pickle", "joblib", "cloudpickle", "allow_pickle")
    found = [(file.name, word) for file in sources for word in forbidden if word in file.read_text(encoding="utf-8")]
    assert found == []


@pytest.mark.parametrize(("kind", "card"), [("task", None), ("init", "a card")])
def test_files_of_another_kind_are_not_replaced(tmp_path, kind, card):
    name = "config.json" if card is None else "README.md"
    if card is None:
        storage.save(tmp_path, "init", {"adapter": torch.zeros(1)}, {})
    else:
        (tmp_path / name).write_text("mine")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with refused(name, str(tmp_path), f"metawarp-{kind}", "not replaced"):
        storage.save(tmp_path, kind, {"adapter": torch.zeros(1)}, {}, card=card)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
