"""YAML files from elsewhere end in one sentence, whatever they hold."""

import pytest
from commands import refusal
from running import refused

from metawarp.yaml_file import read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
BAD: dict[str, tuple[str | bytes, list[str]]] = {
    "aliases": ("a: &a [1]\nb: *a\n", ["alias (*a)", "line 2"]),
    "a bomb": (BOMB, ["alias"]),
    "deep lists": ("a: " + "[" * 100_000, ["20 levels"]),
    "deep mappings": ("".join(f"{' ' * i}a:\n" for i in range(50)), ["20 levels"]),
    "a key twice": ("a: 1\nb: 2\na: 3\n", ["line 3", "'a' is there twice"]),
    "a tag": ("a: !!python/object/apply:os.system ['true']\n", ["line 1"]),
    "many values": ("a: [" + "x, " * 50_000 + "x]", ["10,000 values"]),
    "no YAML": ("a: [1\nb: 2", ["line 2"]),
    "Latin-1": ("a: é".encode("latin-1"), ["UTF-8"]),
    "control characters": ("a: \x07", ["not YAML"]),
    "an impossible date": ("a: 2020-13-45\n", ["not YAML"]),
    "a large file": (b"# " + b"x" * 2**20, ["262,144 bytes"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_files_beyond_the_limits_are_refused(tmp_path, kind):
    content, facts = BAD[kind]
    file = tmp_path / "a.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused(file, *facts):
        read_yaml(file)


def test_aliases_that_are_allowed_have_a_limit(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\n")
    assert read_yaml(file, aliases=True) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}
    file.write_text(BOMB)
    with refused(file, "10,000 values"):
        read_yaml(file, aliases=True)
    file.write_text("a: &a [*a]\n")
    with refused(file, "contains itself"):
        read_yaml(file, aliases=True)


def test_a_configuration_file_names_all_that_is_wrong_in_it(capsys, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("tsak: tasks/one\ntext: [a]\nconfig: /etc/hostname\ntraining: {steps: 3}\n")
    refusal(
        capsys, ["predict", f"--config={file}"], "'tsak' is unknown (did you mean 'task'?)", "'config'", "'training'"
    )
    file.write_text("[a, b]")
    refusal(capsys, ["predict", "--config", file], "holds a list")
    file.write_text("training: {stepz: 3, steps: 2}\nmodel.adaptre: lora\n")
    refusal(capsys, ["train", f"--config={file}"], "'training.stepz'", "'steps'", "'adapter'")
    file.write_text("training: {steps: 1e9, lr: 1e-3}\nn_way: x\nseed: '0'\noverwrite: 1\n")
    facts = ["n_way must be a valid integer or a valid list", "seed must", "overwrite must", "training.steps must"]
    refusal(capsys, ["train", f"--config={file}"], *facts)
    refusal(capsys, ["train", f"--config={tmp_path}/none.yaml"], "none.yaml", "No such file")
