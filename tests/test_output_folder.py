"""Folders that are replaced as a whole, under kills, readers, other writers and links."""

import json
import resource
import threading

import pytest
from classifiers import LABELS, TEXTS, tiny_classifier
from running import refused

from metawarp import Task, WarpClassifier
from metawarp.output_folder import LOCK, UNFINISHED, begin, commit, finish, locked, new_version, read_whole
from metawarp.outputs import mark_folder


def write(folder, **files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content(folder):
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in (LOCK, "config.json")]
    return {str(file.relative_to(folder)): file.read_text() for file in files}


@pytest.fixture
def folder(tmp_path):
    """A folder with an old version and with files of somebody else."""
    with new_version(tmp_path / "out", "thing") as part:
        write(part, one="old", two="old", **{"sub/three": "old"})
    write(tmp_path / "out", notes="mine", **{"sub/notes": "mine"})
    return tmp_path / "out"


MINE = {"notes": "mine", "sub/notes": "mine"}
OLD = {"one": "old", "two": "old", "sub/three": "old"}
NEW = {"one": "new", "sub/three": "new", "four": "new"}


def test_a_new_version_takes_the_place_of_the_old_one(folder):
    with new_version(folder, "thing") as part:
        write(part, **NEW)
        assert content(folder) == MINE | OLD | {f"{UNFINISHED}/{name}": text for name, text in NEW.items()}
    assert content(folder) == MINE | OLD | NEW
    assert not (folder / UNFINISHED).exists()


def test_stale_files_are_removed(folder):
    with locked(folder):
        write(begin(folder, "thing"), **NEW)
        commit(folder, stale=["two", "one", "never there"])
    assert content(folder) == MINE | NEW


def test_a_block_that_fails_changes_nothing(folder):
    with pytest.raises(KeyError), new_version(folder, "thing") as part:
        write(part, **NEW)
        raise KeyError
    assert content(folder) == MINE | OLD and not (folder / UNFINISHED).exists()


def test_the_rest_of_an_interrupted_run_is_removed(folder):
    mark_folder(folder / UNFINISHED, "thing")
    write(folder / UNFINISHED, one="never finished")
    with new_version(folder, "thing") as part:
        assert content(part) == {}
    assert content(folder) == MINE | OLD


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_what_a_killed_process_has_not_moved_is_moved_by_the_next_reader(folder, moved, monkeypatch):
    with locked(folder):
        write(begin(folder, "thing"), **NEW)
        with monkeypatch.context() as context:
            context.setattr("metawarp.output_folder._move", lambda _: None)
            commit(folder, stale=["two"])
    for name in list(NEW)[:moved]:
        (folder / UNFINISHED / name).replace(folder / name)
    assert read_whole(folder, lambda: content(folder)) == MINE | NEW
    assert not (folder / UNFINISHED).exists()


@pytest.mark.parametrize(
    "listed", ["{", '{"files": ["/etc/hostname"], "stale": []}', '{"files": [], "stale": ["../notes"]}']
)
def test_a_damaged_list_moves_and_removes_nothing(folder, listed):
    write(folder.parent, notes="theirs")
    write(folder / UNFINISHED, **{"files.json": listed})
    with refused("files.json", "damaged"), locked(folder):
        finish(folder)
    assert (folder.parent / "notes").read_text() == "theirs"


def test_a_list_that_leads_out_of_the_folder_through_a_link_moves_and_removes_nothing(folder):
    write(folder.parent / "home", secret="theirs")
    (folder / "link").symlink_to(folder.parent / "home")
    for listed in ({"files": [], "stale": ["link/secret"]}, {"files": ["link/secret"], "stale": []}):
        write(folder / UNFINISHED, **{"files.json": json.dumps(listed), "link/secret": "replaced"})
        with refused("files.json", "damaged"):
            read_whole(folder, lambda: None)
    assert (folder.parent / "home/secret").read_text() == "theirs"


def test_a_link_in_place_of_the_subfolder_or_the_lock_is_not_followed(folder):
    mark_folder(folder.parent / "home", "thing")
    write(folder.parent / "home", notes="theirs", **{"files.json": '{"files": [], "stale": []}'})
    (folder / UNFINISHED).symlink_to(folder.parent / "home")
    read_whole(folder, lambda: None)
    with refused(UNFINISHED), new_version(folder, "thing"):
        pass
    (folder / UNFINISHED).unlink()
    (folder / LOCK).unlink()
    (folder / LOCK).symlink_to(folder.parent / "home" / "notes")
    with refused(LOCK, "is a link"), new_version(folder, "thing"):
        pass
    assert content(folder.parent / "home") == {"notes": "theirs", "files.json": '{"files": [], "stale": []}'}


def test_a_subfolder_of_somebody_else_is_kept(folder):
    write(folder / UNFINISHED, poem="mine")
    with refused(UNFINISHED, "metawarp-thing", "not replaced"), new_version(folder, "thing"):
        pass
    (folder / UNFINISHED / "poem").unlink()
    mark_folder(folder / UNFINISHED, "other")
    with refused(UNFINISHED, "metawarp-thing", "not replaced"), new_version(folder, "thing"):
        pass
    (folder / UNFINISHED).rename(folder.parent / "elsewhere")
    (folder / UNFINISHED).symlink_to(folder.parent / "elsewhere")
    with refused(UNFINISHED), new_version(folder, "thing"):
        pass


def test_files_are_not_written_through_links(folder):
    write(folder.parent, secret="theirs")
    (folder / "one").unlink()
    (folder / "one").symlink_to(folder.parent / "secret")
    with new_version(folder, "thing") as part:
        write(part, one="new")
    assert (folder.parent / "secret").read_text() == "theirs"
    assert not (folder / "one").is_symlink() and (folder / "one").read_text() == "new"


def test_a_second_writer_is_refused(folder):
    messages = []

    def write_too():
        try:
            with locked(folder):
                messages.append("written")
        except ValueError as error:
            messages.append(str(error))

    with locked(folder):
        other = threading.Thread(target=write_too)
        other.start()
        other.join()
    assert messages == [f"Another process is writing into {str(folder)!r}; wait until it has ended, or choose "
                        "another folder."]  # fmt: skip
    write_too()
    assert messages[1] == "written"


def test_of_two_writers_that_may_not_overwrite_the_second_is_refused(tmp_path):
    names = ("one", "config.json")
    with new_version(tmp_path, "thing", names, overwrite=False) as part:
        write(part, one="first")
    with (
        refused(str(tmp_path), "earlier run", "overwrite=True"),
        new_version(tmp_path, "thing", names, overwrite=False),
    ):
        raise AssertionError("the second one has begun")
    assert content(tmp_path) == {"one": "first"}


def test_a_reader_sees_the_old_task_or_the_new_one(tiny, tmp_path):
    models = [tiny_classifier(tiny).fit(TEXTS, [f"{prefix}{label}" for label in LABELS]) for prefix in ("", "other ")]
    folder, ended = tmp_path / "task", threading.Event()
    models[0].save(folder)

    def save():
        while not ended.is_set():
            for model in models:
                model.save(folder)

    writer = threading.Thread(target=save)
    writer.start()
    try:
        read = [Task.load(folder, tiny) for _ in range(40)]
    finally:
        ended.set()
        writer.join()
    expected = [model.classes_.tolist() for model in models]
    assert all(task.classes.tolist() in expected for task in read)
    for task in read:
        model = models[expected.index(task.classes.tolist())]
        assert task.predict(TEXTS).tolist() == model.predict(TEXTS).tolist()


def test_a_task_does_not_replace_the_unfinished_training_in_its_folder(tiny, tmp_path):
    model: WarpClassifier = tiny_classifier(tiny).fit(TEXTS, LABELS)
    mark_folder(tmp_path / UNFINISHED, "init")
    (tmp_path / UNFINISHED / "checkpoint.safetensors").write_text("hours of work")
    with refused(UNFINISHED, "metawarp-task"):
        model.save(tmp_path)
    assert json.loads((tmp_path / UNFINISHED / "config.json").read_text())["format"] == "metawarp-init"


def test_a_full_disk_leaves_the_old_task(tiny, tmp_path):
    one, two = (tiny_classifier(tiny).fit(TEXTS, [f"{prefix}{label}" for label in LABELS]) for prefix in ("", "other "))
    one.save(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 100, 700, 1500):  # a file larger than this cannot be written
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with refused(str(tmp_path), "cannot be written", "File too large"):
                two.save(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert Task.load(tmp_path, tiny).classes.tolist() == one.classes_.tolist()
        assert not (tmp_path / UNFINISHED).exists()
    two.save(tmp_path)
    assert Task.load(tmp_path, tiny).classes.tolist() == two.classes_.tolist()


def test_files_of_somebody_else_in_the_folder_of_the_init_are_kept(tiny, tmp_path):
    write(tmp_path, **{"fitted_from/README.md": "mine"})
    with refused("fitted_from/README.md"):
        tiny_classifier(tiny).fit(TEXTS, LABELS).save(tmp_path, overwrite=False)
    with refused("fitted_from/README.md"):
        tiny_classifier(tiny).fit(TEXTS, LABELS).save(tmp_path)
    assert (tmp_path / "fitted_from/README.md").read_text() == "mine"
