"""The command line as people use it: help, the four commands one after the other, configuration files."""

import json
import re
import runpy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from commands import evaluate, refusal
from running import SMALL, failure, process

from metawarp import Init, WarpClassifier
from metawarp.backbones.architectures import describe_architectures
from metawarp.cli import main

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def few(tmp_path):
    """A file with four labelled texts of two classes."""
    file = tmp_path / "few.csv"
    file.write_text("text,label\nplay the music,music\nsome music please,music\nrain today,weather\nthe sun,weather\n")
    return file


# Help -----------------------------------------------------------------------------------------------------

HELP = {
    "train": {"corpus": "required", "output": "required", "method": "default: prototypical", "seed": "default: 0",
              "backbone": "default: minilm", "n-way": "default: 5", "k-shot": "default: (0, 5)",
              "n-query": "default: 10", "training.lr": "default: 0.003", "resume": "default: False"},
    "evaluate": {"init": "required", "corpus": "required", "split": "default: test", "n-way": "default: 5",
                 "k-shot": "default: 1", "n-query": "default: 10", "episodes": "default: 600",
                 "output": "default: null", "baselines": "default: all"},
    "fit": {"init": "default: null", "data": "default: null", "output": "required", "device": "default: cpu",
            "text-column": "default: text", "label-column": "default: label"},
    "suggest": {"data": "required", "output": "required", "labelled": "default: []", "init": "default: general"},
    "predict": {"task": "required", "text": "default: []", "text-column": "default: text", "device": "default: cpu"},
}  # fmt: skip
"""Some options of each command, and the end of their explanations."""


def printed(capsys, *arguments):
    """What an option that ends the program with exit code 0 prints."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    return out


@pytest.mark.parametrize("command", HELP)
def test_help_explains_the_options_with_their_defaults(capsys, command):
    out = printed(capsys, command, "--help")
    assert "%%" not in out
    entries = [" ".join(entry.split()) for entry in out.split("\n  --")[1:]]
    explanations = {entry.split()[0]: entry for entry in entries}
    for option, end in HELP[command].items():
        assert end in explanations[option], option


def test_help_lists_the_commands_and_the_version_is_that_of_the_package(capsys):
    out = printed(capsys, "--help")
    assert printed(capsys) == out
    assert [command for command in HELP if f"\n    {command} " not in out] == []
    assert printed(capsys, "--version") == f"metawarp {version('metawarp')}\n"


@pytest.mark.parametrize(("script", "command"), [("meta_train", "train"), ("evaluate", "evaluate"), ("adapt", "fit")])
def test_scripts_are_entries_to_the_same_commands(capsys, monkeypatch, script, command):
    if not SCRIPTS.is_dir():
        pytest.skip("installed without the repository")
    monkeypatch.setattr("sys.argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert re.search(rf"usage: \S+ (\[options\] )?{command} ", capsys.readouterr().out)


# The commands one after the other ------------------------------------------------------------------------


@pytest.mark.slow
def test_train_evaluate_fit_and_predict_on_real_text(capsys, few, tmp_path):
    init, results, task = tmp_path / "run", tmp_path / "results.json", tmp_path / "task"
    main(["train", "--corpus=everyday", *SMALL, f"--output={init}"])
    shares = r"\d+\.\d% accuracy on validation classes \(\d+\.\d% at the start\)"
    assert re.fullmatch(rf"{init}: best at step [02] of 2 with {shares}\n", capsys.readouterr().out)

    main(["evaluate", f"--init={init}", "--corpus=everyday", "--n-way=3", "--n-query=2", "--episodes=3",
          "--baselines=prototypes,warp-mask", f"--output={results}"])  # fmt: skip
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["method", "metawarp", "prototypes", "warp-mask"]
    found = json.loads(results.read_text(encoding="utf-8"))
    assert found.keys() == {"protocol", "methods", "paired"}
    assert list(found["methods"]) == ["metawarp", "prototypes", "warp-mask"]
    assert table[1].split()[1] == f"{found['methods']['metawarp']['accuracy']:.2%}"

    main(["fit", f"--init={init}", f"--data={few}", f"--output={task}"])
    assert capsys.readouterr().out == f"{task}: 2 classes: music, weather\n"

    texts = ["put on a song", "ümläut \u2028 and\nline", "it rains"]
    main(["predict", f"--task={task}", *(f"--text={text}" for text in texts)])
    lines = capsys.readouterr().out.removesuffix("\n").split("\n")
    answers = [json.loads(line) for line in lines]
    assert [answer["text"] for answer in answers] == texts
    for answer in answers:
        assert list(answer) == ["text", "label", "probabilities"]
        assert list(answer["probabilities"]) == ["music", "weather"]
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert [answers[i]["label"] for i in (0, 2)] == ["music", "weather"]


def test_predictions_of_a_file_are_written_to_a_file(capsys, made, few, tmp_path):
    main(["fit", f"--init={made}/init", f"--data={few}", f"--output={tmp_path}/task"])
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
    refusal(capsys, [*arguments, f"--output={output}"], f"output={str(output)!r}", "(flags: --output, --overwrite)")
    assert output.read_text(encoding="utf-8").splitlines() == lines
    main([*arguments, f"--output={output}", "--overwrite"])


def test_ids_get_names_on_the_command_line(capsys, made, tmp_path):
    (tmp_path / "ids.csv").write_text("text,label\nsome music,17\nplay music,17\ncold rain,3\nrain today,3\n")
    fit = ["fit", f"--init={made}/init", f"--data={tmp_path}/ids.csv"]
    names = ["--class-name=17=music", "--class-name=3=rain"]
    main([*fit, *names, "--class-name=flight", f"--output={tmp_path}/named"])
    assert capsys.readouterr().out.splitlines()[0] == f"{tmp_path}/named: 3 classes: music, rain, flight"
    config = json.loads((tmp_path / "named/config.json").read_text())
    assert (config["classes"], config["class_names"]) == (["17", "3", "flight"], ["music", "rain", "flight"])
    main([*fit, "--ignore-names", f"--output={tmp_path}/unnamed"])
    similar = ["similar", "--init=[general,untrained]", f"--data={tmp_path}/ids.csv", f"--backbone={made}/backbone"]
    rankings = []
    for more in ([], names, ["--ignore-names"]):
        capsys.readouterr()
        main([*similar, *more])
        rankings.append(capsys.readouterr().out)
    assert rankings[0] == rankings[2] != rankings[1]
    refusal(capsys, [*fit, "--class-name=18=music", f"--output={tmp_path}/x"], "'18'", "does not occur", "'17', '3'")
    refusal(capsys, [*fit, *names, "--class-name=17=rain", f"--output={tmp_path}/x"], "'17' twice")
    refusal(capsys, ["fit", f"--output={tmp_path}/x", "--class-name=one"], "data=FILE", "at least two classes")
    refusal(capsys, [*fit, *names, "--ignore-names", f"--output={tmp_path}/x"], "class_name", "--ignore-names")


def test_the_best_of_several_inits_is_named_and_so_are_the_first_of_many_classes(capsys, made, few, tmp_path):
    names = [f"--class-name=one{i}" for i in range(30)]
    inits = ["--init=[general,untrained]", f"--backbone={made}/backbone"]
    main(["fit", *inits, f"--data={few}", *names, f"--output={tmp_path}/task"])
    classes, best = capsys.readouterr().out.splitlines()[:2]
    assert re.search(r": 32 classes: .*, one25 and 12 more$", classes)
    assert re.search("^The init (general|untrained) suits the task best: with it, [0-9]+% of the texts", best)


def test_fit_says_how_far_the_encoder_was_adapted(capsys, few, tmp_path):
    main(["fit", f"--data={few}", f"--output={tmp_path}/task"])
    classes, reason = capsys.readouterr().out.splitlines()
    assert classes == f"{tmp_path}/task: 2 classes: music, weather"
    assert re.fullmatch(
        r"The encoder was adapted with 3 gradient steps, and \d+% of the change was kept\. In cross-.*", reason
    )


def test_a_task_can_have_classes_with_names_alone(capsys, made, few, tmp_path):
    fit = ["fit", f"--init={made}/init"]
    main([*fit, "--class-name=music", "--class-name=rain", f"--output={tmp_path}/names"])
    main([*fit, f"--data={few}", "--class-name=flight", f"--output={tmp_path}/both"])
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/names: 2 classes: music, rain",
        f"{tmp_path}/both: 3 classes: flight, music, weather",
    ]
    (tmp_path / "one.csv").write_text("text,label\nplay the music,music\nsome music please,music\n")
    main([*fit, f"--data={tmp_path}/one.csv", "--class-name=weather", f"--output={tmp_path}/one"])
    assert WarpClassifier.load(tmp_path / "one").classes_.tolist() == ["music", "weather"]


def test_the_untrained_start_needs_no_training(capsys, few, tmp_path):
    main(["fit", "--init=untrained", f"--data={few}", f"--output={tmp_path}/task"])
    capsys.readouterr()
    main(["predict", f"--task={tmp_path}/task", "--text=what will the weather be"])
    assert json.loads(capsys.readouterr().out)["label"] == "weather"


@pytest.mark.slow
def test_a_real_process_keeps_stdout_for_its_output(made, few, tmp_path):
    main(["fit", f"--init={made}/init", f"--data={few}", f"--output={tmp_path}/task"])
    ended = process("predict", f"--task={tmp_path}/task", "--text=music", "--text=مرحبا 😀")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [json.loads(line)["text"] for line in ended.stdout.splitlines()] == ["music", "مرحبا 😀"]


def test_evaluation_uses_the_split_that_training_wrote(capsys, made):
    main(evaluate(made, "--split=test", f"--splits={made}/init/splits.json"))
    main(evaluate(made, "--n-way=5"))
    assert "metawarp" in capsys.readouterr().out
    refusal(capsys, evaluate(made, "--split=test"), "split='test'", "(flags: --split, --splits)")


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
def test_a_printed_configuration_can_be_read_again(capsys, tmp_path, name):
    (command, *arguments), expected = PRINTED[name]
    first = printed(capsys, command, *arguments, "--print-config")
    assert holds(yaml.safe_load(first), expected)
    file = tmp_path / "config.yaml"
    file.write_text(first, encoding="utf-8")
    assert printed(capsys, command, f"--config={file}", "--print-config") == first


def test_options_take_precedence_over_those_of_a_configuration_file(made, tmp_path):
    settings = {
        "corpus": f"{made}/tiny.jsonl",
        "backbone": f"{made}/backbone",
        **{"n_way": 2, "k_shot": 1, "n_query": 2},
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


def test_all_supported_backbones_are_listed(capsys):
    main(["backbones"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [*describe_architectures(), "refused"]
    assert "  examples: roberta-base, roberta-large" in lines


def test_an_interrupted_command_says_so_in_one_line(capsys, monkeypatch, few, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(WarpClassifier, "fit", interrupted)
    message = failure(capsys, "fit", f"--data={few}", f"--output={tmp_path}/task", code=130)
    assert message.startswith("Interrupted; run the command again")


def test_a_program_that_is_interrupted_during_its_imports_says_so_in_one_line():
    code = "import os, sys; sys.meta_path.insert(0, type('', (), {'find_spec': staticmethod(stop)}))"
    stop = "def stop(name, *_):\n  if name == 'numpy.dtypes': os.kill(os.getpid(), 2)\n"
    ended = process(code=f"{stop}{code}\nfrom metawarp.__main__ import main\nmain()")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "metawarp: error: Interrupted.\n")


def test_a_tilde_is_the_home_folder(capsys, made, few, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "made").symlink_to(made)
    (tmp_path / "fit.yaml").write_text("init: ~/made/init\nbackbone: ~/made/backbone\n")
    train = ["train", "--corpus=~/made/tiny.jsonl", "--backbone=~/made/backbone", *SMALL, "--output=~/run"]
    main(train)
    main(["fit", "--config=~/fit.yaml", "--data=~/few.csv", "--output=~/task"])
    main(["predict", "--task=~/task", "--text=a", "--output=~/out.jsonl"])
    main(["similar", "--inits=~/", "--init=~/made/init", "--data=~/few.csv", "--backbone=~/made/backbone"])
    main([*evaluate(made, init="~/run", corpus="~/made/tiny.jsonl"), "--output=~/results.json"])
    made_now = {path.name for path in tmp_path.iterdir()}
    assert {"run", "task", "out.jsonl", "results.json"} <= made_now and "~" not in made_now


def test_control_characters_do_not_reach_the_terminal(capsys, made, tmp_path, caplog):
    (tmp_path / "few.csv").write_text(
        "text,label\nsome music,\x1b[31mred music\nplay music,\x1b[31mred music\nrain,rain\n"
    )
    main(["fit", f"--init={made}/init", f"--data={tmp_path}/few.csv", f"--output={tmp_path}/task"])
    assert capsys.readouterr().out.splitlines()[0] == rf"{tmp_path}/task: 2 classes: \x1b[31mred music, rain"
    main(["predict", f"--task={tmp_path}/task", "--text=a \x9b31m \x1b[0m text"])
    line = capsys.readouterr().out.removesuffix("\n")
    assert line.isprintable() and json.loads(line)["text"] == "a \x9b31m \x1b[0m text"
    refusal(capsys, ["predict", "--task=\x1b[31mred", "--text=a"], r"\x1b[31mred")


def test_a_model_card_shows_what_it_is_given(made):
    init = Init.load(made / "init")
    training = {**init.training, "corpus": "<script>alert(1)</script> | other\n# heading"}
    card = replace(init, method="`<b>`", training=training)._card()
    assert "<script>" not in card and "\n# heading" not in card and "\\| other" in card
    assert "`'<b>'`" in card
