"""Files of inits and tasks: tensors are loaded bit by bit, and damaged, foreign or unwritable files are refused."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from running import refused
from safetensors.torch import save_file

from episodes import InputError
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


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_is_saved_is_loaded_bit_by_bit(saved):
    tensors, config = storage.load(saved, "thing")
    assert config["name"] == "Ä"
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert (tensor.dtype, tensor.shape) == (TENSORS[name].dtype, TENSORS[name].shape)
        assert tensor.reshape(-1).view(torch.uint8).equal(TENSORS[name].reshape(-1).view(torch.uint8))


def test_a_folder_holds_a_tensor_file_and_a_config_with_its_hash_readable_like_other_files(saved):
    assert contents(saved).keys() == {"config.json", "thing.safetensors"}
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    assert (config["format"], config["format_version"]) == ("metawarp-thing", 2)
    assert config["sha256"] == storage.save(saved / "again", "thing", TENSORS, {})
    (saved / "other").touch()
    assert len({file.stat().st_mode for file in saved.iterdir() if file.is_file()}) == 1


def test_tensors_that_share_memory_or_need_gradients_are_saved(tmp_path):
    rows = torch.arange(6.0).reshape(2, 3).requires_grad_()
    storage.save(tmp_path, "thing", {"rows": rows, "columns": rows.T, "expanded": rows[:1].expand(2, 3)}, {})
    tensors, _ = storage.load(tmp_path, "thing")
    assert tensors["columns"].equal(rows.T)
    assert tensors["expanded"].equal(rows[:1].expand(2, 3))
    assert not tensors["rows"].requires_grad


# Files that cannot be read ------------------------------------------------------------------------------------


def test_a_missing_file_or_folder_is_named(saved):
    with refused("no folder", saved / "nowhere", "config.json", "thing.safetensors"):
        storage.load(saved / "nowhere", "thing")
    for name in ("thing.safetensors", "config.json"):
        (saved / name).unlink()
        with refused(saved, f"holds no {name}", "config.json", "thing.safetensors"):
            storage.load(saved, "thing")


def with_changed_byte(data, position):
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def test_a_truncated_or_changed_file_is_refused(saved):
    file = saved / "thing.safetensors"
    good = file.read_bytes()
    changed = [with_changed_byte(good, position) for position in (0, 20, -1)]
    for damaged in (b"", good[:7], good[:100], good[:-1], *changed):
        file.write_bytes(damaged)
        with refused(file, "truncated or damaged", "config.json"):
            storage.load(saved, "thing")


def test_no_changed_bit_of_the_settings_is_believed(saved):
    """The folder is refused, or the settings are the same; a file without a checksum is of an earlier release."""
    file, (_, expected) = saved / "config.json", storage.load(saved, "thing")
    good = file.read_bytes()
    refusals = 0
    for position in range(len(good)):
        for bit in range(0, 8, 3):
            changed = bytearray(good)
            changed[position] ^= 1 << bit
            file.write_bytes(changed)
            try:
                _, settings = storage.load(saved, "thing")
                assert {name: value for name, value in settings.items() if name in expected} == expected
            except InputError:
                refusals += 1
    assert refusals > 2 * len(good)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_and_named(tmp_path, number):
    bad = torch.tensor([1.0, number])
    storage.save(tmp_path, "thing", {"good": torch.ones(2), "worse": bad, "bad": bad.clone()}, {})
    with refused(tmp_path / "thing.safetensors", "not finite", "bad, worse"):
        storage.load(tmp_path, "thing")


def test_a_file_of_another_format_is_refused_even_if_its_hash_is_right(saved):
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    (saved / "thing.safetensors").write_bytes(b"not at all")
    config["sha256"] = hashlib.sha256(b"not at all").hexdigest()
    del config[storage.CHECKSUM]
    (saved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with refused(saved / "thing.safetensors", "not a safetensors file"):
        storage.load(saved, "thing")


def test_another_kind_is_refused(saved):
    save_file({"a": torch.ones(1)}, saved / "other.safetensors")
    with refused(saved / "config.json", "metawarp-thing", "metawarp-other"):
        storage.load(saved, "other")


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b'{"format": "meta', ["not JSON"]),
        (b"", ["not JSON"]),
        ('{"name": "Ä"}'.encode("latin-1"), ["not JSON in UTF-8"]),
        (b"[1, 2]", ["'list'", "metawarp-thing"]),
        (b"{}", ["None", "metawarp-thing"]),
        *(
            (json.dumps({"format": "metawarp-thing", "format_version": version}).encode(), [repr(version), "version 2"])
            for version in (0, 1, 3, "2", None)
        ),
    ],
)
def test_a_damaged_config_and_one_of_another_version_are_refused(saved, content, facts):
    (saved / "config.json").write_bytes(content)
    with refused(saved / "config.json", *facts):
        storage.load(saved, "thing")


# Files that cannot be written ---------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with refused(tmp_path / "file" / "below", "cannot be written", "Not a directory"):
        storage.save(tmp_path / "file" / "below", "thing", TENSORS, {})


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that root cannot write to either")
def test_a_folder_that_cannot_be_written_to_is_refused():
    with refused("/proc/self", "cannot be written"):
        storage.save(Path("/proc/self"), "thing", TENSORS, {})


def test_files_of_another_kind_are_not_replaced(tmp_path):
    storage.save(tmp_path / "init", "init", {"adapter": torch.zeros(1)}, {})
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("mine")
    for name, kind, card, kept in (("init", "task", None, "config.json"), ("card", "init", "a card", "README.md")):
        before = contents(tmp_path / name)
        with refused(kept, tmp_path / name, f"metawarp-{kind}", "not replaced"):
            storage.save(tmp_path / name, kind, {"adapter": torch.zeros(1)}, {}, card=card)
        assert contents(tmp_path / name) == before


def test_no_source_reads_or_writes_pickle():
    root = Path(__file__).parent.parent
    sources = [file for package in ("metawarp", "episodes") for file in (root / package).rglob("*.py")]
    assert len(sources) > 20
    forbidden = ("torch.save", "torch.load", "import pickle", "from pickle", "joblib", "cloudpickle", "allow_pickle")
    found = [(file.name, word) for file in sources for word in forbidden if word in file.read_text(encoding="utf-8")]
    assert found == []
