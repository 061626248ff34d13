"""The command predict: where texts come from, and what becomes of the predictions."""

import csv
import io
import json

import pytest
from commands import fit, refusal
from running import process

from metawarp.cli import main

TEXTS = ["play a song", "it rains", "some music"]


@pytest.fixture
def task(made, tmp_path):
    data = tmp_path / "few.csv"
    data.write_text("text,label\nplay some music,music\nmusic now,music\nrain today,weather\ncold rain,weather\n")
    main(fit(made, data, f"--output={tmp_path}/task"))
    return tmp_path / "task"


def predictions(capsys, task, *options):
    capsys.readouterr()
    main(["predict", f"--task={task}", *options])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_line_of_standard_input_is_a_text(capsys, task, monkeypatch):
    expected = predictions(capsys, task, *(f"--text={text}" for text in TEXTS))
    for content in ("\n".join(TEXTS), "\ufeff" + "\r\n".join(TEXTS) + "\r\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        assert predictions(capsys, task, "--data=-") == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("thé".encode("cp1252"))))
    refusal(capsys, ["predict", f"--task={task}", "--data=-"], "Standard input", "--encoding")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    refusal(capsys, ["predict", f"--task={task}", "--data=-"], "no texts")


@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("tsv", "\t")])
def test_the_ending_of_the_output_makes_it_a_table(capsys, task, tmp_path, ending, separator):
    texts = ['a "song"', "rain,\nrain", "music"]
    options = [f"--text={text}" for text in texts]
    expected = predictions(capsys, task, *options)
    for top in ([], ["--top=5"]):
        main(["predict", f"--task={task}", *options, *top, f"--output={tmp_path}/out.{ending}", "--overwrite"])
        with open(tmp_path / f"out.{ending}", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter=separator))
        assert [row["text"] for row in rows] == texts
        for row, one in zip(rows, expected, strict=True):
            assert row["label"] == one["label"]
            assert float(row["probability"]) == one["probabilities"][one["label"]]
            assert list(row) == ["text", "label", "probability", "label_2", "probability_2"][: 5 if top else 3]
            if top:
                assert {row["label"], row["label_2"]} == {"music", "weather"}


def test_an_ending_that_cannot_be_written_is_refused(capsys, task, tmp_path):
    capsys.readouterr()
    refusal(
        capsys, ["predict", f"--task={task}", "--text=a", f"--output={tmp_path}/o.xlsx"], "o.xlsx", ".csv", "--output"
    )
    assert not (tmp_path / "o.xlsx").exists()


def test_the_most_likely_classes_come_first(capsys, task):
    for one in predictions(capsys, task, "--text=music now", "--text=rain", "--top=1"):
        assert list(one["probabilities"]) == [one["label"]]
    (both,) = predictions(capsys, task, "--text=rain", "--top=9")
    assert list(both["probabilities"].values()) == sorted(both["probabilities"].values(), reverse=True)
    refusal(capsys, ["predict", f"--task={task}", "--text=a", "--top=0"], "top=0", "--top")


def test_texts_without_content_have_no_label(capsys, task, tmp_path):
    (tmp_path / "some.jsonl").write_text('{"text": ""}\n{"text": null}\n{"text": " \\u200b"}\n{"text": "rain"}\n')
    found = predictions(capsys, task, f"--data={tmp_path}/some.jsonl")
    assert [one["label"] for one in found[:3]] == [None] * 3 and found[3]["label"] in ("music", "weather")
    assert found[0]["probabilities"] == {"music": 0.5, "weather": 0.5}
    main(["predict", f"--task={task}", f"--data={tmp_path}/some.jsonl", f"--output={tmp_path}/out.csv"])
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == ",,0.5"
    (tmp_path / "bad.jsonl").write_text('{"text": 5}\n{"text": "rain"}\n')
    refusal(capsys, ["predict", f"--task={task}", f"--data={tmp_path}/bad.jsonl"], "row 1 is of type int")
    refusal(capsys, ["predict", f"--task={task}", "--text=caf\ud83d"], "row 1 is not valid Unicode")


def test_texts_that_lose_their_end_are_counted(capsys, task, caplog):
    predictions(capsys, task, f"--text={'rain ' * 300}", "--text=rain")
    assert "1 of 2 texts are longer" in caplog.text


TERMINALS = [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]


@pytest.mark.slow
@pytest.mark.parametrize("environment", TERMINALS, ids=["cp1252", "ASCII"])
def test_terminals_that_lack_characters_show_escapes(made, tmp_path, environment):
    data = tmp_path / "few.csv"
    data.write_text("text,label\nrain,rain дождь\ncold,rain дождь\nmusic,音楽 song\nsong,音楽 song\n", encoding="utf-8")
    ended = process(*fit(made, data, f"--output={tmp_path}/task"), **environment)
    assert ended.returncode == 0 and r"\u97f3\u697d" in ended.stdout.lower()
    ended = process("predict", f"--task={tmp_path}/task", "--text=rain", **environment)
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["label"] in ("rain дождь", "音楽 song")  # JSON has the same escapes
    assert process("predict", "--help", **environment).returncode == 0
