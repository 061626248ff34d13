"""What commands write: claimed first, whole or not at all, over nothing that is not metawarp's own."""

import re

import pytest
from running import refused

from episodes import InputError
from metawarp import outputs


def test_a_claimed_folder_is_made_and_left_empty(tmp_path):
    outputs.claim_folder(tmp_path / "a" / "b", ["marker"], kind="task")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_another_run_is_written_over_on_request_only(tmp_path):
    (tmp_path / "marker").write_text("theirs")
    with refused(f"output folder '{tmp_path}' holds another run (marker); choose another folder, or --overwrite."):
        outputs.claim_folder(tmp_path, ["marker"], kind="task")
    with refused(
        f"marker in the folder {str(tmp_path)!r} is not of a metawarp-task and is left alone; choose another folder."
    ):
        outputs.claim_folder(tmp_path, ["marker"], kind="task", overwrite=True)
    outputs.mark(tmp_path, "task")
    outputs.claim_folder(tmp_path, ["marker"], kind="task", overwrite=True)
    outputs.claim_folder(tmp_path, ["other marker"], kind="task")
    assert (tmp_path / "marker").read_text() == "theirs"


def test_text_is_replaced_whole(tmp_path):
    file = tmp_path / "a.txt"
    outputs.write_text(file, "long text " * 10)
    outputs.write_text(file, "kürzer\n")
    assert file.read_bytes() == "kürzer\n".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_what_another_kind_of_run_wrote_is_kept_in_spite_of_overwrite(tmp_path):
    (tmp_path / "config.json").write_text('{"format": "something else"}', encoding="utf-8")
    message = (
        f"config.json in the folder {str(tmp_path)!r} is not of a metawarp-task and is left alone; "
        "choose another folder."
    )
    with pytest.raises(InputError, match=re.escape(message)):
        outputs.claim_folder(tmp_path, ["config.json"], kind="task", overwrite=True)
