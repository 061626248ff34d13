"""Output files: they are claimed before any work, written whole, and never replace files of something else."""

import json
import os

import pytest
from running import refused

from metawarp import outputs


def test_an_earlier_run_in_it_is_replaced_on_request_only(tmp_path):
    outputs.claim_folder(tmp_path / "a" / "b", ["marker"], kind="task")
    assert not (tmp_path / "a").exists(), "nothing is made before the work begins"
    (tmp_path / "marker").write_text("theirs")
    outputs.mark_folder(tmp_path, "task")
    with refused(f"output={str(tmp_path)!r}", "marker", "overwrite=True"):
        outputs.claim_folder(tmp_path, ["marker"], kind="task")
    outputs.claim_folder(tmp_path, ["marker"], kind="task", overwrite=True)
    outputs.claim_folder(tmp_path, ["other marker"], kind="task")
    assert (tmp_path / "marker").read_text() == "theirs"


@pytest.mark.parametrize(("name", "content"), [("marker", "theirs"), ("config.json", '{"format": "something else"}')])
def test_files_of_something_else_are_kept_in_spite_of_overwrite(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with refused(name, str(tmp_path), "metawarp-task", "not replaced"):
        outputs.claim_folder(tmp_path, [name], kind="task", overwrite=True)


def test_a_file_is_claimed_like_a_folder(tmp_path):
    (tmp_path / "results.json").write_text("mine")
    with refused(str(tmp_path / "results.json"), "overwrite=True"):
        outputs.claim_file(tmp_path / "results.json")
    with refused(str(tmp_path), "is a folder"):
        outputs.claim_file(tmp_path)
    outputs.claim_file(tmp_path / "results.json", overwrite=True)
    outputs.claim_file(tmp_path / "new" / "results.json")
    assert (tmp_path / "results.json").read_text() == "mine" and not (tmp_path / "new").exists()
    outputs.write_text(tmp_path / "new" / "results.json", "mine")


def test_text_is_replaced_whole(tmp_path):
    file = tmp_path / "a.txt"
    outputs.write_text(file, "long text " * 10)
    outputs.write_text(file, "kürzer\n")
    assert file.read_bytes() == "kürzer\n".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_characters_that_utf_8_lacks_are_written_as_escapes(tmp_path):
    outputs.write_text(tmp_path / "a.json", json.dumps({"corpus": "caf\udce9.csv"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text()) == {"corpus": "caf\udce9.csv"}


def test_what_a_killed_process_left_is_removed_though_its_number_lives_again(tmp_path):
    own = f"{os.getpid()}-{outputs._start_of(os.getpid())}-1"
    for name in (f"a.{own}.part", f"a.{os.getpid()}-5-1.part", "a.999999999-5-1.part", "a.of-somebody.part"):
        (tmp_path / name).touch()
    outputs.write_text(tmp_path / "a", "text")
    assert {file.name for file in tmp_path.iterdir()} == {"a", f"a.{own}.part", "a.of-somebody.part"}
