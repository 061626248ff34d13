"""dtype="auto": the faster data type is measured once per machine, and remembered."""

import json

import pytest
from tiny import tiny_folder

from metawarp import Backbone
from metawarp.backbones import fastest_dtype


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METAWARP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("bfloat16", "expected"), [(0.5, "bfloat16"), (0.95, "float32"), (2.0, "float32")])
def test_the_faster_data_type_is_used_if_it_is_clearly_faster(tmp_path, cache, monkeypatch, bfloat16, expected):
    monkeypatch.setattr(fastest_dtype, "_seconds", lambda _: {"float32": 1.0, "bfloat16": bfloat16})
    backbone = Backbone.load(tiny_folder(tmp_path / "model"), dtype="auto")
    assert str(backbone.dtype) == f"torch.{expected}"
    (file,) = cache.iterdir()
    assert json.loads(file.read_text(encoding="utf-8"))["dtype"] == expected


def test_the_measurement_is_remembered_and_a_damaged_file_is_made_again(tmp_path, cache):
    folder = tiny_folder(tmp_path / "model")
    first = Backbone.load(folder, dtype="auto")
    (file,) = cache.iterdir()
    other = "bfloat16" if str(first.dtype) == "torch.float32" else "float32"
    file.write_text(json.dumps({"dtype": other}), encoding="utf-8")
    assert str(Backbone.load(folder, dtype="auto").dtype) == f"torch.{other}"
    file.write_text("{", encoding="utf-8")
    assert str(Backbone.load(folder, dtype="auto").dtype) in ("torch.float32", "torch.bfloat16")
    assert set(json.loads(file.read_text(encoding="utf-8"))["seconds"]) == {"float32", "bfloat16"}


def test_a_cache_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METAWARP_CACHE", str(tmp_path / "file" / "cache"))
    assert Backbone.load(tiny_folder(tmp_path / "model"), dtype="auto").dtype is not None
