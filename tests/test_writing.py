"""Files are written whole, and what killed processes left beside them is removed."""

import json
import os

from episodes import writing
from episodes.writing import write_text


def test_text_is_replaced_whole(tmp_path):
    file = tmp_path / "a.txt"
    write_text(file, "long text " * 10)
    write_text(file, "kürzer\n")
    assert file.read_bytes() == "kürzer\n".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_characters_that_utf_8_lacks_are_written_as_escapes(tmp_path):
    write_text(tmp_path / "a.json", json.dumps({"corpus": "caf\udce9.csv"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text()) == {"corpus": "caf\udce9.csv"}


def test_what_a_killed_process_left_is_removed_though_its_number_lives_again(tmp_path):
    own = f"{os.getpid()}-{writing._start_of(os.getpid())}-1"
    for name in (f"a.{own}.part", f"a.{os.getpid()}-5-1.part", "a.999999999-5-1.part", "a.of-somebody.part"):
        (tmp_path / name).touch()
    write_text(tmp_path / "a", "text")
    assert {file.name for file in tmp_path.iterdir()} == {"a", f"a.{own}.part", "a.of-somebody.part"}
