"""Folders of learned numbers: what goes in comes out, and nothing else comes out."""

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
    assert config["format_version"] == 1
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
    with refused(f"'{saved}' holds no {name}; a saved thing is a folder with config.json and thing.safetensors."):
        storage.load(saved, "thing")


def test_a_missing_folder_is_named(tmp_path):
    folder = tmp_path / "nowhere"
    with refused(f"There is no folder '{folder}'; a saved thing is a folder with config.json and thing.safetensors."):
        storage.load(folder, "thing")


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(saved, kept):
    file = saved / "thing.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with refused(f"'{file}' is truncated or damaged: its sha256 is not the one in config.json."):
        storage.load(saved, "thing")


@pytest.mark.parametrize("position", [0, 20, -1])
def test_one_changed_byte_is_refused(saved, position):
    file = saved / "thing.safetensors"
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)
    with refused(f"'{file}' is truncated or damaged: its sha256 is not the one in config.json."):
        storage.load(saved, "thing")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_and_named(tmp_path, number):
    bad = torch.tensor([1.0, number])
    storage.save(tmp_path, "thing", {"good": torch.ones(2), "worse": bad, "bad": bad.clone()}, {})
    with refused(f"'{tmp_path / 'thing.safetensors'}' holds numbers that are not finite in bad, worse."):
        storage.load(tmp_path, "thing")


def test_a_file_that_is_no_safetensors_is_refused_even_where_its_hash_is_right(saved):
    import hashlib

    file = saved / "thing.safetensors"
    file.write_bytes(b"not at all")
    change_config(saved, sha256=hashlib.sha256(b"not at all").hexdigest())
    with refused(f"'{file}' is no safetensors file."):
        storage.load(saved, "thing")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_format_version_is_refused(saved, version):
    change_config(saved, format_version=version)
    with refused(
        f"'{saved / 'config.json'}' has format version {version!r}; this metawarp reads version 1: "
        "install a newer metawarp."
    ):
        storage.load(saved, "thing")


def test_another_kind_is_refused(saved):
    save_file({"a": torch.ones(1)}, saved / "other.safetensors")
    with refused(f"'{saved / 'config.json'}' is of format 'metawarp-thing'; a metawarp-other is needed."):
        storage.load(saved, "other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": "meta', "'{}' is damaged: it is no JSON in UTF-8."),
        (b"", "'{}' is damaged: it is no JSON in UTF-8."),
        ('{"name": "Ä"}'.encode("latin-1"), "'{}' is damaged: it is no JSON in UTF-8."),
        (b"[1, 2]", "'{}' is of format 'list'; a metawarp-thing is needed."),
        (b"{}", "'{}' is of format None; a metawarp-thing is needed."),
    ],
)
def test_a_damaged_config_is_refused(saved, content, message):
    (saved / "config.json").write_bytes(content)
    with refused(message.format(saved / "config.json")):
        storage.load(saved, "thing")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "below"
    with refused(f"folder '{folder}' cannot be written: Not a directory."):
        storage.save(folder, "thing", TENSORS, {})


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that root cannot write to either")
def test_a_folder_that_cannot_be_written_to_is_refused():
    with pytest.raises(storage.InputError, match=r"^folder '/proc/self' cannot be written: "):
        storage.save(Path("/proc/self"), "thing", TENSORS, {})


def test_no_source_reads_or_writes_pickle():
    root = Path(__file__).parent.parent
    sources = [file for package in ("metawarp", "episodes") for file in (root / package).rglob("*.py")]
    assert len(sources) > 20
    forbidden = ("torch.save", "torch.load", "import pickle", "from pickle", "joblib", "cloudpickle", "allow_pickle")
    found = [(file.name, word) for file in sources for word in forbidden if word in file.read_text(encoding="utf-8")]
    assert found == []


def test_nothing_is_saved_over_something_of_another_kind(tmp_path):
    storage.save(tmp_path, "init", {"prompt": torch.zeros(1)}, {})
    before = (tmp_path / "config.json").read_bytes()
    with refused(
        f"config.json in the folder {str(tmp_path)!r} is not of a metawarp-task and is left "
        "alone; choose another folder."
    ):
        storage.save(tmp_path, "task", {"rows": torch.zeros(1)}, {})
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_readme_that_is_no_model_card_is_kept(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with refused(
        f"README.md in the folder {str(tmp_path)!r} is not of a metawarp-init and is left alone; choose another folder."
    ):
        storage.save(tmp_path, "init", {"prompt": torch.zeros(1)}, {}, card="a card")
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"
