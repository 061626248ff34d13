"""Output files: they are claimed before any work, and never replace files of something else."""

import pytest
from running import refused

from episodes.writing import write_text
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
    write_text(tmp_path / "new" / "results.json", "mine")
