"""Wrong input to the command line ends with one line on stderr that names the flags, and with exit code 2."""

import json

import pytest
from commands import evaluate, fit, refusal, train
from running import failure
from tiny import UNUSUAL_TEXTS, tiny_folder

from metawarp import Init
from metawarp.cli import main

TWO_NAMES = ["--class-name=music", "--class-name=rain"]


def write_corpus(file, texts, labels):
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def task(capsys, folder):
    """The folder of a fitted task; what the command prints is dropped."""
    main(["fit", f"--init={folder}/init", *TWO_NAMES, f"--output={folder}/task"])
    capsys.readouterr()
    return folder / "task"


# Data -----------------------------------------------------------------------------------------------------

BAD_DATA = {
    "columns.csv": (
        b"body,topic\na,b\n",
        ["text_column='text'", "body, topic", "(flags: --text-column, --label-column)"],
    ),
    "latin1.csv": (b"text,label\nth\xe9,a\n", ["not UTF-8"]),
    "missing.csv": (None, []),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_unusable_data_is_refused_by_every_command_that_reads_it(capsys, made, folder, name):
    content, facts = BAD_DATA[name]
    file = folder / name
    if content is not None:
        file.write_bytes(content)
    for arguments in (train(made, file, f"--output={folder}/run"), evaluate(folder, corpus=file), fit(folder, file)):
        refusal(capsys, arguments, file, *facts)


@pytest.mark.slow
def test_unusual_texts_go_through_every_command(capsys, made, folder):
    texts = [f"{text} {i}" for text in UNUSUAL_TEXTS[:-1] for i in range(24)]
    corpus = write_corpus(folder / "unusual.jsonl", texts, [f"class {i % 6}" for i in range(len(texts))])
    main(train(made, corpus, f"--output={folder}/run"))
    main(evaluate(folder, corpus=corpus))
    main(fit(folder, corpus))
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in UNUSUAL_TEXTS))
    capsys.readouterr()
    main(["predict", f"--task={folder}/task", f"--data={folder}/texts.jsonl"])
    lines = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert [json.loads(line)["text"] for line in lines] == UNUSUAL_TEXTS


def test_predict_needs_one_column_of_texts_or_a_text(capsys, task, tmp_path):
    (tmp_path / "other.csv").write_text("body\na\n")
    (tmp_path / "empty.csv").touch()
    predict = ["predict", f"--task={task}"]
    facts = ["other.csv", "text_column='text'", "columns are: body", "(flags: --text-column)"]
    refusal(capsys, [*predict, f"--data={tmp_path}/other.csv"], *facts)
    refusal(capsys, [*predict, f"--data={tmp_path}/empty.csv"], "empty.csv is empty", "'text'")
    refusal(capsys, predict, "no texts", "(flags: --text, --data)")


def test_splits_with_classes_that_the_corpus_lacks_are_refused(capsys, made, folder):
    splits, corpus = folder / "splits.json", folder / "tiny.jsonl"
    parts = {"train": ["music", "bank", "poetry"], "validation": ["order", "hotel"], "test": ["screen", "team"]}
    splits.write_text(json.dumps(parts))
    facts = ["tiny.jsonl does not have", "'poetry'"]
    refusal(capsys, train(made, corpus, f"--splits={splits}", f"--output={folder}/run"), *facts)
    refusal(capsys, evaluate(folder, f"--splits={splits}", "--split=test"), *facts)


def test_a_text_with_two_labels_and_options_of_hub_data_sets_are_refused(capsys, folder):
    conflict = write_corpus(folder / "conflict.jsonl", ["wet", "wet", "dry"], ["rain", "sun", "sun"])
    message = failure(capsys, *evaluate(folder, "--conflicts=refuse", corpus=conflict))
    assert "conflict.jsonl" in message and "'rain' and 'sun'" in message
    refusal(capsys, fit(folder, conflict), "conflict.jsonl", "two labels", "'wet'", "'rain' and 'sun'")
    for option in ("--subset=a", "--dataset-split=train"):
        refusal(capsys, evaluate(folder, option), "Hub id", f"(flags: {option.split('=')[0]})")


def test_class_names_that_the_tokenizer_does_not_know_are_refused(capsys, made, folder):
    names = ["音楽", "🌧", "☀", "rain", "bank", "music"]
    corpus = write_corpus(folder / "strange.jsonl", [f"text {i}" for i in range(24)], names * 4)
    commands = train(made, corpus, f"--output={folder}/run"), evaluate(folder, corpus=corpus), fit(folder, corpus)
    for arguments in commands:
        refusal(capsys, arguments, "class names", "'☀', '音楽', '🌧'")


# Numbers and names ----------------------------------------------------------------------------------------

BAD_NUMBERS = {
    "--k-shot=[5,1]": ["k_shot=(5, 1)", "(low, high)"],
    "--k-shot=-1": ["k_shot=-1", "at least 0"],
    "--n-way=1": ["n_way=1", "at least 2"],
    "--n-query=0": ["n_query=0", "at least 1"],
    "--seed=-1": ["seed=-1", "at least 0"],
}


@pytest.mark.parametrize("option", BAD_NUMBERS)
def test_sizes_out_of_range_are_refused_by_training_and_evaluation(capsys, made, folder, option):
    facts = [*BAD_NUMBERS[option], f"(flags: {option.split('=')[0]})"]
    refusal(capsys, evaluate(folder, option), *facts)
    refusal(capsys, train(made, folder / "tiny.jsonl", f"--output={folder}/run", option), *facts)


BAD_TRAININGS = {
    "--k-shot=[1,12] --n-query=3": ["15 texts", "tiny.jsonl[train]"],
    "--n-way=[2,5]": ["n_way=5", "tiny.jsonl[train]", "2 classes", "(flags: --n-way)"],
    "--training.steps=0": ["steps=0", "at least 1", "(flags: --training.steps)"],
    "--training.meta-batch-size=0": ["meta_batch_size=0", "at least 1", "(flags: --training.meta-batch-size)"],
    "--training.lr=-1": ["lr=-1.0", "positive", "or 0", "(flags: --training.lr)"],
    "--training.warmup=2": ["warmup=2.0", "from 0 to below 1", "(flags: --training.warmup)"],
    "--inner-lr.adapter=0": ["inner_lr.adapter=0.0", "positive", "(flags: --inner-lr.adapter)"],
    "--inner-steps=-2": ["inner_steps=-2"],
    "--method=prototypical --inner-steps=3": ["inner_steps=3", "'prototypical'", "--inner-steps"],
    "--method=maml --inner-steps=0": ["inner_steps=0", "'maml'", "at least 1", "--inner-steps", "--method"],
    "--method=multitask --training.query-loss=multi_step": ["query_loss='multi_step'", "'multitask'", "fomaml, anil"],
    "--method=mamll": ["mamll"],
    "--model.read-out=max": ["read_out='max'", "mask, debiased_mask, mean, text, text-1", "replaced_token"],
    "--model.template={text}": ["{mask}", "template='{text}'", "read_out='pooled'"],
    "--device=cudda": ["device='cudda' is not a device; use cpu", "(flags: --device)"],
}


@pytest.mark.parametrize("options", BAD_TRAININGS)
def test_impossible_settings_of_a_training_are_refused(capsys, made, folder, options):
    arguments = train(made, folder / "tiny.jsonl", f"--output={folder}/run", *options.split())
    refusal(capsys, arguments, *BAD_TRAININGS[options])


BAD_EVALUATIONS = {
    "--k-shot=8 --n-query=5": ["k_shot=8", "n_query=5", "13 texts", "tiny.jsonl", "(flags: --k-shot, --n-query)"],
    "--n-way=7": ["n_way=7", "tiny.jsonl", "6 classes", "(flags: --n-way)"],
    "--episodes=0": ["episodes=0", "at least 2"],
    "--split=dev": ["--split must be 'train', 'validation', 'test' or 'all', not 'dev'"],
    "--baselines=prototypes,svm": ["baselines=prototypes, svm", "all, none", "tuned-class-embeddings", "svm"],
    "--k-shot=0 --baselines=prototypes": ["baselines=prototypes", "support texts", "k_shot=0"],
}


@pytest.mark.parametrize("options", BAD_EVALUATIONS)
def test_impossible_settings_of_an_evaluation_are_refused(capsys, folder, options):
    refusal(capsys, evaluate(folder, *options.split()), *BAD_EVALUATIONS[options])


BAD_COMMAND_LINES = {
    "learn": "There is no command 'learn'",
    "fitt --data=a.csv": "(did you mean 'fit'?)",
    "fit --adpt=3 --output=o": "There is no option --adpt (did you mean '--adapt'?)",
    "fit --adapt=yes --output=o": "--adapt must be a valid integer or 'auto' or 'none', not 'yes'",
    "train": "required: --corpus, --output ",
    "train --corpus=everyday --output=o --training.steps=many": "--training.steps must be a valid integer, not 'many'",
    "train --corpus=everyday --output=o --seeds=3": "--seeds (did you mean '--seed'?)",
    "train --corpus=everyday --output=o --k-shot=a": "--k-shot must be a valid integer",
    "evaluate --corpus=everyday": "init",
    "predict": "task",
    "fit --init=untrained": "output",
}


@pytest.mark.parametrize("arguments", BAD_COMMAND_LINES)
def test_a_wrong_command_line_is_refused_with_the_command_that_helps(capsys, arguments):
    refusal(capsys, arguments.split(), BAD_COMMAND_LINES[arguments], "(see metawarp", "--help)")


BAD_FILES = {
    "seeds: 3\n": "'seeds'",
    "seed: many\n": "many",
    "seed: [\n": "is not YAML at line",
    "training:\n  lrr: 1\n": "'training.lrr'",
    None: "config.yaml",
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_wrong_configuration_file_is_refused(capsys, tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    arguments = ["train", f"--config={tmp_path}/config.yaml", "--corpus=everyday", f"--output={tmp_path}/run"]
    refusal(capsys, arguments, BAD_FILES[content])
    assert not (tmp_path / "run").exists()


# Inits and tasks ------------------------------------------------------------------------------------------


def test_an_init_of_another_backbone_is_refused(capsys, folder):
    own = Init.load(folder / "init").backbone
    other, wide = tiny_folder(folder / "other", seed=1), tiny_folder(folder / "wide", hidden=48)
    capsys.readouterr()  # transformers shows how it writes them
    fitting = ["fit", f"--init={folder}/init", *TWO_NAMES, f"--output={folder}/task"]
    for arguments in (evaluate(folder), fitting):
        facts = [own.name, own.fingerprint, other, "(flags: --any-backbone)"]
        refusal(capsys, [*arguments, f"--backbone={other}"], *facts)
        refusal(capsys, [*arguments, f"--backbone={wide}"], "embedding_size 32", wide, "48", own.name)
        main([*arguments, f"--backbone={other}", "--any-backbone"])
        capsys.readouterr()


def test_a_task_is_not_an_init(capsys, folder, task):
    refusal(capsys, evaluate(folder, init=task), task, "no init.safetensors")
    refusal(capsys, ["predict", f"--task={folder}/init", "--text=a"], f"{folder}/init", "no task.safetensors")


@pytest.mark.parametrize("option", ["output", "data", "backbone"])
def test_an_empty_name_is_not_the_current_folder(capsys, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    message = failure(capsys, "fit", "--class-name=a", "--class-name=b", "--output=x", f"--{option}=")
    assert message.startswith(f"--{option} is empty") and not list(tmp_path.iterdir())


def test_options_of_files_do_not_go_with_standard_input(capsys, task):
    refusal(capsys, ["predict", f"--task={task}", "--data=-", "--delimiter=;"], "delimiter", "standard input")
    refusal(capsys, ["predict", f"--task={task}", "--data=-", "--no-header"], "no_header", "standard input")


def test_predictions_do_not_replace_the_texts(capsys, task, tmp_path):
    (tmp_path / "texts.csv").write_text("text\nplay music\n")
    options = [f"--data={tmp_path}/texts.csv", f"--output={tmp_path}/../{tmp_path.name}/texts.csv", "--overwrite"]
    refusal(capsys, ["predict", f"--task={task}", *options], "file of the texts")
    assert (tmp_path / "texts.csv").read_text() == "text\nplay music\n"
