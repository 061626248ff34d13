"""The command line as people use it: help, the four commands one after the other, configuration files."""

import json
import math
import re
import runpy
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from running import SMALL, failure, process

from metawarp import Init, WarpClassifier
from metawarp.backbones.architectures import describe_architectures
from metawarp.cli import main

SCRIPTS = Path(__file__).parent.parent / "scripts"


def few(file):
    file.write_text("text,label\nplay the music,music\nsome music please,music\nrain today,weather\nthe sun,weather\n")
    return file


# Help -----------------------------------------------------------------------------------------------------

OPTIONS = {
    "train": ["--corpus", "--splits", "--backbone", "--method", "--n-way", "--k-shot", "--n-query",
              "--training.steps", "--seed", "--output", "--resume", "--overwrite", "--config"],
    "evaluate": ["--init", "--corpus", "--splits", "--split", "--n-way", "--k-shot", "--n-query", "--episodes",
                 "--seed", "--output", "--baselines"],
    "fit": ["--init", "--data", "--output"],
    "predict": ["--task", "--text", "--data", "--output"],
}  # fmt: skip
DEFAULTS = {
    "train": {"backbone": "minilm", "n-way": "5", "n-query": "10", "seed": "0", "training.lr": "0.003"},
    "evaluate": {"split": "test", "n-way": "5", "k-shot": "1", "n-query": "10", "episodes": "600", "baselines": "all"},
    "fit": {"text-column": "text", "label-column": "label", "device": "cpu"},
    "predict": {"text-column": "text", "device": "cpu"},
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_explains_every_option_with_its_default(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "%%" not in out
    explained = re.sub(r"\s+", " ", out[out.index("\noptions:") :])
    for option in OPTIONS[command]:
        assert f" {option} " in explained, option
    for option, default in DEFAULTS[command].items():
        assert re.search(rf" --{option} [^-]*?default: {re.escape(default)}\)", explained), option


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert [command for command in OPTIONS if f"\n    {command} " not in out] == []


@pytest.mark.parametrize(("script", "command"), [("meta_train", "train"), ("evaluate", "evaluate"), ("adapt", "fit")])
def test_scripts_are_entries_to_the_same_commands(capsys, monkeypatch, script, command):
    if not SCRIPTS.is_dir():
        pytest.skip("installed without the repository")
    monkeypatch.setattr("sys.argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert re.search(rf"usage: \S+ (\[options\] )?{command} ", capsys.readouterr().out)


# One after the other --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_train_evaluate_fit_and_predict_on_real_text(capsys, tmp_path):
    init, results, task = tmp_path / "run", tmp_path / "results.json", tmp_path / "task"
    main(["train", "--corpus=everyday", *SMALL, f"--output={init}"])
    shares = r"\d+\.\d% accuracy on validation classes \(\d+\.\d% at the start\)"
    assert re.fullmatch(rf"{init}: 2 steps, best at step [02] with {shares}\n", capsys.readouterr().out)

    main(["evaluate", f"--init={init}", "--corpus=everyday", "--n-way=3", "--n-query=2", "--episodes=3",
          "--baselines=prototypes,warp-mask", f"--output={results}"])  # fmt: skip
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["method", "metawarp", "prototypes", "warp-mask"]
    found = json.loads(results.read_text(encoding="utf-8"))
    assert found.keys() == {"protocol", "methods", "paired"}
    assert list(found["methods"]) == ["metawarp", "prototypes", "warp-mask"]
    assert table[1].split()[1] == f"{found['methods']['metawarp']['accuracy']:.2%}"

    main(["fit", f"--init={init}", f"--data={few(tmp_path / 'few.csv')}", f"--output={task}"])
    assert capsys.readouterr().out == f"{task}: 2 classes: music, weather\n"

    texts = ["put on a song", "ümläut \u2028 and\nline", "it rains"]
    main(["predict", f"--task={task}", *(f"--text={text}" for text in texts)])
    lines = capsys.readouterr().out.removesuffix("\n").split("\n")
    answers = [json.loads(line) for line in lines]
    assert [answer["text"] for answer in answers] == texts
    for answer in answers:
        assert list(answer) == ["text", "label", "probabilities"]
        assert list(answer["probabilities"]) == ["music", "weather"]
        assert math.isclose(sum(answer["probabilities"].values()), 1, abs_tol=1e-5)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert answers[0]["label"] == "music"
    assert answers[2]["label"] == "weather"


def test_predictions_of_a_file_go_to_a_file(capsys, made, tmp_path):
    main(["fit", f"--init={made}/init", f"--data={few(tmp_path / 'few.csv')}", f"--output={tmp_path}/task"])
    data, output = tmp_path / "texts.csv", tmp_path / "new" / "out.jsonl"
    data.write_text('id,body\n1,some music\n2,"rain, rain"\n')
    arguments = ["predict", f"--task={tmp_path}/task", f"--data={data}", "--text-column=body", "--text=the sun"]
    capsys.readouterr()
    main([*arguments, f"--output={output}"])
    assert capsys.readouterr().out == ""
    lines = output.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["the sun", "some music", "rain, rain"]
    main(arguments)
    assert capsys.readouterr().out.splitlines() == lines
    message = failure(capsys, *arguments, f"--output={output}")
    assert f"output={str(output)!r} exists" in message and message.endswith("(flags: --output, --overwrite)")
    assert output.read_text(encoding="utf-8").splitlines() == lines
    main([*arguments, f"--output={output}", "--overwrite"])


def test_a_task_can_be_made_of_names_alone_and_of_both(capsys, made, tmp_path):
    main(["fit", f"--init={made}/init", "--class-name=music", "--class-name=rain", f"--output={tmp_path}/names"])
    assert capsys.readouterr().out == f"{tmp_path}/names: 2 classes: music, rain\n"
    data = few(tmp_path / "few.csv")
    main(["fit", f"--init={made}/init", f"--data={data}", "--class-name=flight", f"--output={tmp_path}/both"])
    assert capsys.readouterr().out == f"{tmp_path}/both: 3 classes: flight, music, weather\n"
    assert WarpClassifier.load(tmp_path / "both").predict_proba(["a"]).shape == (1, 3)


def test_the_untrained_start_needs_no_training(capsys, tmp_path):
    main(["fit", "--init=untrained", f"--data={few(tmp_path / 'few.csv')}", f"--output={tmp_path}/task"])
    capsys.readouterr()
    main(["predict", f"--task={tmp_path}/task", "--text=what will the weather be"])
    assert json.loads(capsys.readouterr().out)["label"] == "weather"


@pytest.mark.slow
def test_a_real_process_keeps_stdout_for_its_output(made, tmp_path):
    main(["fit", f"--init={made}/init", f"--data={few(tmp_path / 'few.csv')}", f"--output={tmp_path}/task"])
    ended = process("predict", f"--task={tmp_path}/task", "--text=music", "--text=مرحبا 😀")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [json.loads(line)["text"] for line in ended.stdout.splitlines()] == ["music", "مرحبا 😀"]


def test_texts_alone_need_no_label_column(capsys, made, tmp_path):
    main(["fit", f"--init={made}/init", "--class-name=music", "--class-name=rain", f"--output={tmp_path}/task"])
    capsys.readouterr()
    (tmp_path / "empty.csv").touch()
    message = failure(capsys, "predict", f"--task={tmp_path}/task", f"--data={tmp_path}/empty.csv")
    assert re.search(r"empty\.csv is empty.*'text'", message)
    (tmp_path / "other.csv").write_text("body\nsome music\n")
    message = failure(capsys, "predict", f"--task={tmp_path}/task", f"--data={tmp_path}/other.csv")
    assert re.search(r"other\.csv.*text_column='text'.*columns are: body.*\(flags: --text-column\)$", message)


def test_how_a_corpus_is_read_can_be_said(capsys, made, tmp_path):
    rows = (made / "tiny.jsonl").read_text()
    text = json.loads(rows.splitlines()[0])["text"]
    (tmp_path / "conflict.jsonl").write_text(rows + json.dumps({"text": text, "label": "another"}) + "\n")
    arguments = ["evaluate", f"--init={made}/init", "--split=all", "--n-way=2", "--n-query=2", "--episodes=2"]
    message = failure(capsys, *arguments, f"--corpus={tmp_path}/conflict.jsonl", "--conflicts=refuse")
    assert re.search(r"conflict\.jsonl: 1 text.* two labels.* and 'another'", message)
    for option in ("--subset=a", "--dataset-split=train"):
        message = failure(capsys, *arguments, f"--corpus={made}/tiny.jsonl", option)
        assert "Hub id" in message and message.endswith(f"(flags: {option.split('=')[0]})")


def test_evaluation_uses_the_split_that_training_wrote(capsys, made):
    arguments = ["evaluate", f"--init={made}/init", f"--corpus={made}/tiny.jsonl", "--n-way=2", "--n-query=2",
                 "--episodes=2", "--baselines=none"]  # fmt: skip
    main([*arguments, f"--splits={made}/init/splits.json"])
    main([*arguments, "--split=all", "--n-way=5"])
    assert "metawarp" in capsys.readouterr().out
    assert re.search(r"split='test'.*\(flags: --split, --splits\)$", failure(capsys, *arguments))


# Configuration files --------------------------------------------------------------------------------------


PRINTED = {
    "ranges": (
        ["train", "--corpus=a.csv", "--output=o", "--k-shot=[2,4]", "--training.lr=0.5", "--model.verbalizer=names"],
        {"corpus": "a.csv", "k_shot": [2, 4], "training": {"lr": 0.5}, "model": {"verbalizer": "names"}, "n_way": 5},
    ),
    "a number": (["train", "--corpus=a.csv", "--output=o", "--k-shot=3"], {"k_shot": 3}),
    "the default range": (["train", "--corpus=a.csv", "--output=o"], {"k_shot": [0, 5], "inner_steps": None}),
    "evaluate": (["evaluate", "--corpus=a.csv", "--init=i", "--n-way=[3,8]"], {"n_way": [3, 8], "episodes": 600}),
    "lists": (
        ["fit", "--init=i", "--output=o", "--class-name=one", "--class-name=two words"],
        {"class_name": ["one", "two words"], "data": None},
    ),
    "texts": (["predict", "--task=t", "--text=it is: a [text]", "--text=null"], {"text": ["it is: a [text]", "null"]}),
}


def holds(found, expected):
    return all(holds(found[k], v) if isinstance(v, dict) else found[k] == v for k, v in expected.items())


@pytest.mark.parametrize("name", PRINTED)
def test_what_print_config_prints_config_reads(capsys, tmp_path, name):
    (command, *arguments), expected = PRINTED[name]

    def printed(*given):
        with pytest.raises(SystemExit) as ended:
            main([command, *given, "--print-config"])
        assert ended.value.code == 0
        return capsys.readouterr().out

    first = printed(*arguments)
    assert holds(yaml.safe_load(first), expected)
    file = tmp_path / "config.yaml"
    file.write_text(first, encoding="utf-8")
    assert printed(f"--config={file}") == first


def test_a_run_from_a_file_is_that_of_its_options_and_options_win(made, tmp_path):
    settings = {
        "corpus": f"{made}/tiny.jsonl",
        "backbone": f"{made}/backbone",
        "n_way": 2,
        "k_shot": 1,
        "n_query": 2,
        "training": {"steps": 7, "meta_batch_size": 1, "validate_every": 2, "validation_episodes": 2},
        "model": {"template": "{prompt:2} {text} {mask}"},
        "output": f"{tmp_path}/run",
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    main(["train", f"--config={file}", "--training.steps=2"])
    found, expected = Init.load(tmp_path / "run"), Init.load(made / "init")
    assert found.fingerprint == expected.fingerprint
    assert found.training == expected.training


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("seeds: 3\n", "'seeds'"),
        ("seed: many\n", "many"),
        ("seed: [\n", "Problems parsing config"),
        ("training:\n  lrr: 1\n", "'training.lrr'"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(capsys, tmp_path, content, part):
    file = tmp_path / "config.yaml"
    file.write_text(content)
    message = failure(capsys, "train", f"--config={file}", "--corpus=everyday", f"--output={tmp_path}/run")
    assert re.search(rf"{part}.* \(see metawarp( train)? --help\)$", message)
    assert not (tmp_path / "run").exists()


def test_a_missing_file_is_refused_in_one_line(capsys, tmp_path):
    assert f"{tmp_path}/config.yaml" in failure(capsys, "train", f"--config={tmp_path}/config.yaml")


# Wrong command lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "subcommand"),
        (["learn"], "learn"),
        (["train"], "required: --corpus, --output "),
        (["train", "--corpus=everyday"], "required: --output "),
        (["train", "--corpus=everyday", "--output=o", "--training.steps=many"], "steps"),
        (["train", "--corpus=everyday", "--output=o", "--seeds=3"], "seeds"),
        (["train", "--corpus=everyday", "--output=o", "--k-shot=a"], "k_shot|k-shot"),
        (["evaluate", "--corpus=everyday"], "init"),
        (["predict"], "task"),
        (["fit", "--init=untrained"], "output"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(capsys, arguments, part):
    message = failure(capsys, *arguments)
    assert re.search(part, message)
    assert re.search(r"\(see metawarp( (train|evaluate|fit|predict))? --help\)$", message)


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out == f"metawarp {version('metawarp')}\n"


def test_a_class_with_texts_and_one_with_a_name_alone_make_a_task(made, tmp_path):
    (tmp_path / "one.csv").write_text("text,label\nplay the music,music\nsome music please,music\n")
    paths = [f"--init={made}/init", f"--data={tmp_path}/one.csv", f"--output={tmp_path}/task"]
    main(["fit", *paths, "--class-name=weather"])
    assert WarpClassifier.load(tmp_path / "task").classes_.tolist() == ["music", "weather"]


INNER = {
    "--method=prototypical --inner-steps=3": ["inner_steps=3", "'prototypical'", "no inner loop", "--inner-steps"],
    "--method=reptile --inner-steps=0": ["inner_steps=0", "'reptile'", "at least 1", "--inner-steps", "--method"],
    "--method=maml --inner-steps=0": ["inner_steps=0", "'maml'", "at least 1", "--inner-steps", "--method"],
    "--method=multitask --training.query-loss=multi_step": [
        "query_loss='multi_step'",
        "'multitask'",
        "maml, fomaml, anil",
        "--training.query-loss",
    ],
}


@pytest.mark.parametrize("options", INNER)
def test_settings_of_the_inner_loop_without_effect_are_refused(capsys, made, tmp_path, options):
    corpus, output = f"--corpus={made}/tiny.jsonl", f"--output={tmp_path}/run"
    message = failure(capsys, "train", corpus, output, *SMALL, *options.split())
    assert re.search(".*".join(map(re.escape, INNER[options])), message)


def test_backbones_are_listed_as_the_loader_knows_them(capsys):
    main(["backbones"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == list(describe_architectures())
    assert "  examples: roberta-base, roberta-large" in lines
