"""The commands train and evaluate."""

import logging
from functools import partial
from typing import Any

from jsonargparse import Namespace

from episodes import Corpus
from metawarp.commands.parser import Parser, add_options, command_parser
from metawarp.config import InnerLearningRates, WarpConfig
from metawarp.evaluation.evaluate import evaluate
from metawarp.evaluation.plots import plots_available
from metawarp.evaluation.scores import format_results
from metawarp.processes import Processes
from metawarp.training.config import TrainingConfig
from metawarp.training.learning_curve import draw_learning_curve
from metawarp.training.train import train

CORPUS_HELP = '"everyday", "varied", "lengthy", a .csv, .tsv, .json, .jsonl or .parquet file, or a Hub id'
COLUMNS = ("text_column", "label_column", "domain_column", "subset", "dataset_split", "conflicts", "ignore_names")
COLUMNS += ("delimiter", "encoding", "no_header")
CONFIGS = {"training": TrainingConfig, "model": WarpConfig, "inner_lr": InnerLearningRates}


def train_parser() -> Parser:
    """meta-train an init on a labelled corpus"""
    parser = command_parser("Meta-train an init on episodes, and keep the one that is best on the validation classes.")
    types, several = {"corpus": list[str] | str, "backbone": str}, '; "[a.csv,b.csv]" for several'
    types |= {"splits": list[str] | str | None, "start": str | None}
    helps = {
        "corpus": CORPUS_HELP + several,
        "splits": 'splits.json with the class names of each part; "[a.json,b.json]" for several',
    }
    helps["backbone"] = 'language model: "minilm", a folder, or a Hub id'
    add_options(parser, train, skip=(*CONFIGS, "processes"), types=types, helps=helps)
    add_options(parser, Corpus.load, COLUMNS)
    for name, config in CONFIGS.items():
        add_options(parser, config, prefix=f"{name}.")
    return parser


def run_train(options: Namespace) -> None:
    """Meta-train, and report the result."""
    processes, arguments = _connected(options)
    configs = {name: config(**vars(arguments.pop(name))) for name, config in CONFIGS.items()}
    record = train(**arguments, **configs, processes=processes).training
    if not processes.is_main:
        return
    if plots_available():
        draw_learning_curve(options.output)
    best, start = record["validation_accuracy"], record["validation_accuracy_of_start"]
    steps = f"best at step {record['best_step']} of {record['steps_run']}"
    print(f"{options.output}: {steps} with {best:.1%} accuracy on validation classes ({start:.1%} at the start)")


def evaluate_parser() -> Parser:
    """evaluate an init on classes it has never seen, beside baselines"""
    parser = command_parser("Evaluate an init on episodes: mean accuracy ± 95 % interval, beside baselines.")
    types = {"init": str, "corpus": str, "splits": str | None, "backbone": str | None, "baselines": str}
    helps = {"init": "folder of the init, name of a shipped init, or Hub id", "corpus": CORPUS_HELP}
    helps["baselines"] = "all, none, or names of baselines separated by commas"
    add_options(parser, evaluate, skip=("processes",), types=types, helps=helps)
    parser.set_defaults(baselines="all")
    add_options(parser, Corpus.load, COLUMNS)
    return parser


def run_evaluate(options: Namespace) -> None:
    """Evaluate, and print the table."""
    processes, arguments = _connected(options)
    arguments["baselines"] = [name.strip() for name in arguments["baselines"].split(",")]
    results = evaluate(**arguments, processes=processes)
    if processes.is_main:
        print(format_results(results))


def _connected(options: Namespace) -> tuple[Processes, dict[str, Any]]:
    """The processes of the run, and the arguments of the command with its corpora loaded."""
    processes = Processes.connect(options.device)
    if not processes.is_main:
        for package in ("episodes", "metawarp"):  # one process logs
            logging.getLogger(package).setLevel(logging.ERROR)
    arguments = {name: value for name, value in vars(options).items() if name not in ("config", "subcommand")}
    load, source = partial(Corpus.load, **{name: arguments.pop(name) for name in COLUMNS}), arguments["corpus"]
    arguments["corpus"] = [load(one) for one in source] if isinstance(source, list) else load(source)
    return processes, arguments


COMMANDS = {"train": (train_parser, run_train), "evaluate": (evaluate_parser, run_evaluate)}
