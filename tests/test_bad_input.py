"""What people get wrong, through the command line: one line on stderr, exit code 2, no traceback, nothing spoiled."""

import json
import shutil

import pytest
from commands import evaluate, fit, refusal, train
from tiny import tiny_corpus, tiny_folder

from metawarp import Init
from metawarp.cli import main


@pytest.fixture
def folder(made, tmp_path):
    """A copy of what `made` holds, to be spoiled."""
    shutil.copytree(made / "init", tmp_path / "init")
    shutil.copy(made / "tiny.jsonl", tmp_path)
    return tmp_path


# Data -----------------------------------------------------------------------------------------------------

BAD_DATA = {
    "columns.csv": (
        b"body,topic\na,b\n",
        ["text_column='text'", "label_column='label'", "body, topic", "(flags: --text-column, --label-column)"],
    ),
    "one.csv": (b"text,label\na,x\nb,x\n", ["at least 2 classes", "'x'"]),
    "nan.jsonl": (
        b'{"text": NaN, "label": "a"}\n{"text": null, "label": "b"}\n',
        ["texts", "row 1 is missing, row 2 is missing"],
    ),
    "latin1.csv": ("text,label\nth\xe9,a\n".encode("latin-1"), ["not UTF-8", "line 2"]),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_unusable_data_is_refused_by_every_command_that_reads_it(capsys, made, folder, name):
    content, facts = BAD_DATA[name]
    file = folder / name
    file.write_bytes(content)
    for arguments in (train(made, file, f"--output={folder}/run"), evaluate(folder, corpus=file), fit(folder, file)):
        refusal(capsys, arguments, file, *facts)


def test_a_missing_file_is_refused(capsys, made, folder):
    for arguments in (train(made, "few.csv", f"--output={folder}/run"), evaluate(folder, corpus="few.csv")):
        refusal(capsys, arguments, "no file few.csv")


def test_predict_asks_for_the_one_column_that_it_needs(capsys, folder):
    (folder / "texts.csv").write_text("body\na\n")
    main(["fit", f"--init={folder}/init", "--class-name=a", "--class-name=b", f"--output={folder}/task"])
    capsys.readouterr()
    predict = ["predict", f"--task={folder}/task"]
    refusal(capsys, [*predict, f"--data={folder}/texts.csv"], "texts.csv", "text_column='text'", "body")
    refusal(capsys, predict, "no texts", "(flags: --text, --data)")
    refusal(capsys, [*predict, "--text=a", "--text="], "texts", "row 2 is empty")


def test_fewer_texts_than_shots_and_queries_are_refused(capsys, made, folder):
    short = [f"'{name}' has 12" for name in sorted(tiny_corpus().class_names)]
    refusal(
        capsys,
        evaluate(folder, "--k-shot=8", "--n-query=5"),
        *("k_shot=8", "n_query=5", "13 texts", f"{folder}/tiny.jsonl", *short, "(flags: --k-shot, --n-query)"),
    )
    more = ["--k-shot=[1,12]", "--n-query=3", f"--output={folder}/run"]
    refusal(capsys, train(made, folder / "tiny.jsonl", *more), "15 texts", f"{folder}/tiny.jsonl[train]")


def test_more_ways_than_classes_are_refused(capsys, made, folder):
    refusal(capsys, evaluate(folder, "--n-way=7"), "n_way=7", "6 classes", "tiny.jsonl", "(flags: --n-way)")
    arguments = train(made, folder / "tiny.jsonl", "--n-way=[2,5]", f"--output={folder}/run")
    refusal(capsys, arguments, "n_way=5", "2 classes", "tiny.jsonl[train]", "(flags: --n-way)")


SPLITS = {
    "unknown": (
        {"train": ["music", "bank", "poetry"], "validation": ["order", "hotel"], "test": ["screen", "team"]},
        ["tiny.jsonl does not have", "'poetry'"],
    ),
    "no test": (
        {"train": ["music"], "validation": ["order"]},
        ["splits.json", "'train', 'validation' and 'test'", "'train', 'validation'."],
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_that_do_not_fit_the_corpus_are_refused(capsys, made, folder, name):
    content, facts = SPLITS[name]
    splits, corpus = folder / "splits.json", folder / "tiny.jsonl"
    splits.write_text(json.dumps(content))
    refusal(capsys, train(made, corpus, f"--splits={splits}", f"--output={folder}/run"), *facts)
    refusal(capsys, evaluate(folder, f"--splits={splits}", "--split=test"), *facts)


UNUSUAL = ["👩‍👩‍👧‍👦 🇺🇳", "مرحبا بالعالم", "\u202bשלום\u202c", "bell \x07 nul \x00 \x1b[31m", "word " * 100_000]


@pytest.mark.slow
def test_unusual_texts_go_through_every_command(capsys, made, folder):
    corpus = folder / "unusual.jsonl"
    rows = [{"text": f"{text} {i}", "label": f"class {i % 6}"} for i in range(24) for text in UNUSUAL[: 4 + (i == 0)]]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    main(train(made, corpus, f"--output={folder}/run"))
    main(evaluate(folder, corpus=corpus))
    main(fit(folder, corpus))
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in UNUSUAL), encoding="utf-8")
    capsys.readouterr()
    main(["predict", f"--task={folder}/task", f"--data={folder}/texts.jsonl"])
    lines = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert [json.loads(line)["text"] for line in lines] == UNUSUAL


def test_class_names_that_the_tokenizer_does_not_know_are_refused(capsys, made, folder):
    corpus = folder / "strange.jsonl"
    rows = [{"text": f"text {i}", "label": ["音楽", "🌧", "☀", "rain", "bank", "music"][i % 6]} for i in range(24)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    commands = train(made, corpus, f"--output={folder}/run"), evaluate(folder, corpus=corpus), fit(folder, corpus)
    for arguments in commands:
        refusal(capsys, arguments, "class names", "'☀', '音楽', '🌧'")


def test_too_few_or_empty_class_names_are_refused(capsys, folder):
    arguments = ["fit", f"--init={folder}/init", f"--output={folder}/task"]
    refusal(capsys, [*arguments, "--class-name=music", "--class-name= "], "class names", "empty: 0.")
    refusal(capsys, arguments, "at least 2 classes", "0: [].")
    refusal(capsys, [*arguments, "--class-name=music"], "at least 2 classes", "1: ['music'].")


def test_a_text_with_two_labels_is_refused_where_each_text_counts(capsys, folder):
    (folder / "twice.csv").write_text("text,label\nwet,rain\nwet,sun\ndry,sun\n")
    refusal(capsys, fit(folder, folder / "twice.csv"), "twice.csv", "two labels", "'wet'", "'rain' and 'sun'")


# Numbers and names ----------------------------------------------------------------------------------------

BAD_NUMBERS = {
    "--k-shot=[5,1]": ["k_shot=(5, 1)", "(low, high)"],
    "--k-shot=-1": ["k_shot=-1", "at least 0"],
    "--n-way=1": ["n_way=1", "at least 2"],
    "--n-query=0": ["n_query=0", "at least 1"],
    "--seed=-1": ["seed=-1", "at least 0"],
}


@pytest.mark.parametrize("option", BAD_NUMBERS)
def test_numbers_out_of_range_are_refused(capsys, made, folder, option):
    facts = [*BAD_NUMBERS[option], f"(flags: {option.split('=')[0]})"]
    refusal(capsys, evaluate(folder, option), *facts)
    refusal(capsys, train(made, folder / "tiny.jsonl", f"--output={folder}/run", option), *facts)


BAD_OPTIONS = {
    "--training.steps=0": ["steps=0", "at least 1", "(flags: --training.steps)"],
    "--training.meta-batch-size=0": ["meta_batch_size=0", "at least 1", "(flags: --training.meta-batch-size)"],
    "--training.lr=-1": ["lr=-1.0", "positive", "or 0", "(flags: --training.lr)"],
    "--training.warmup=2": ["warmup=2.0", "from 0 to below 1", "(flags: --training.warmup)"],
    "--inner-lr.adapter=0": ["inner_lr.adapter=0.0", "positive", "(flags: --inner-lr.adapter)"],
    "--inner-steps=-2": ["inner_steps=-2"],
    "--method=mamll": ["mamll"],
    "--model.read-out=max": ["read_out='max'", "mask, debiased_mask, mean, text, text-1", "replaced_token"],
    "--model.template={text}": ["{mask}", "template='{text}'", "read_out='mean'"],
    "--model.template={mask}": ["template='{mask}'", "0 {text}", "exactly one"],
    "--device=cudda": ["device='cudda'", "(flags: --device)"],
}


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_options_that_make_no_sense_are_refused(capsys, made, folder, option):
    arguments = train(made, folder / "tiny.jsonl", f"--output={folder}/run", option)
    refusal(capsys, arguments, *BAD_OPTIONS[option])


BAD_EVALUATIONS = {
    "--episodes=0": ["episodes=0", "at least 2"],
    "--split=dev": ["'train', 'validation', 'test', 'all'", "dev"],
    "--baselines=prototypes,svm": ["baselines=prototypes, svm", "all, none", "tuned-class-embeddings", "svm"],
    "--k-shot=0 --baselines=prototypes": ["baselines=prototypes", "support texts", "k_shot=0"],
}


@pytest.mark.parametrize("options", BAD_EVALUATIONS)
def test_unusable_settings_of_an_evaluation_are_refused(capsys, folder, options):
    refusal(capsys, evaluate(folder, *options.split()), *BAD_EVALUATIONS[options])


# Inits and tasks ------------------------------------------------------------------------------------------


def using(folder):
    """The commands that read an init."""
    data = folder / "few.csv"
    data.write_text("text,label\nplay music,a\ncold rain,b\n")
    return evaluate(folder), fit(folder, data)


def test_a_damaged_init_is_refused(capsys, folder):
    file = folder / "init" / "init.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 64
    for content in (bytes(data), data[:50]):
        file.write_bytes(content)
        for arguments in using(folder):
            refusal(capsys, arguments, file, "truncated or damaged", "sha256")


def test_a_folder_without_an_init_is_refused(capsys, folder):
    (folder / "init" / "config.json").unlink()
    for arguments in using(folder):
        refusal(capsys, arguments, f"{folder}/init", "no config.json", "init.safetensors")


def test_an_init_of_another_backbone_is_refused(capsys, folder):
    own = Init.load(folder / "init").backbone
    other, wide = tiny_folder(folder / "other", seed=1), tiny_folder(folder / "wide", hidden=48)
    capsys.readouterr()  # transformers shows how it writes them
    for arguments in using(folder):
        facts = [own.name, own.fingerprint, other, "(flags: --any-backbone)"]
        refusal(capsys, [*arguments, f"--backbone={other}"], *facts)
        refusal(capsys, [*arguments, f"--backbone={wide}"], "embedding_size 32", wide, "48", own.name)
        main([*arguments, f"--backbone={other}", "--any-backbone"])
        capsys.readouterr()


def test_a_task_is_not_an_init(capsys, folder):
    main(["fit", f"--init={folder}/init", "--class-name=a", "--class-name=b", f"--output={folder}/task"])
    capsys.readouterr()
    refusal(capsys, evaluate(folder, init=folder / "task"), f"{folder}/task", "no init.safetensors")
    refusal(capsys, ["predict", f"--task={folder}/init", "--text=a"], f"{folder}/init", "no task.safetensors")
