"""What the campaigns start from."""

import pytest
from running import SMALL, write_rows
from tiny import tiny_corpus, tiny_folder

from metawarp.cli import main


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A folder with a corpus, a backbone, a file of labelled texts, an init and a task; its tests may change it."""
    folder = tmp_path_factory.mktemp("material")
    write_rows(folder / "tiny.jsonl", tiny_corpus())
    tiny_folder(folder / "backbone")
    (folder / "few.csv").write_text("text,label\nplay music,music\nmusic now,music\nrain today,rain\ncold rain,rain\n")
    train = ["train", f"--corpus={folder}/tiny.jsonl", f"--backbone={folder}/backbone", *SMALL]
    main([*train, "--model.template={prompt:2} {start} {text} {mask}", f"--output={folder}/init"])
    main(["fit", f"--init={folder}/init", f"--data={folder}/few.csv", f"--output={folder}/task"])
    return folder
