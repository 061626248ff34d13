"""Commands that train and measure: train, evaluate, benchmark."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from episodes import Corpus
from metawarp import processes
from metawarp.adaptation.inner_loop import InnerRates
from metawarp.benchmark.run import REPORT, benchmark
from metawarp.commands.options import (
    Parser,
    backbone_options,
    corpus_options,
    device_options,
    episode_options,
    given,
    reading_options,
)
from metawarp.evaluation.evaluate import evaluate
from metawarp.evaluation.plots import plots_available
from metawarp.evaluation.scores import format_results
from metawarp.meta_learning.engines import ENGINES
from metawarp.meta_learning.meta_gradients import DEFAULT, METHODS
from metawarp.model.config import WarpConfig
from metawarp.training.config import TrainingConfig
from metawarp.training.learning_curve import draw_learning_curve
from metawarp.training.train import train


def train_parser() -> ArgumentParser:
    """meta-train an init on a labelled corpus"""
    parser = corpus_options(
        "Meta-train an init: classes are split, episodes drawn, the best init by validation kept.", several=True
    )
    parser.add_argument("--output", type=str, required=True, help="folder for init, log, checkpoint and splits.json")
    parser.add_argument("--backbone", type=str, default="minilm", help='"minilm", a folder or a Hub id')
    device_options(parser)
    reading_options(parser)
    parser.add_argument("--method", type=str, default=DEFAULT, help=f"meta-gradient: {', '.join(METHODS)}")
    episode_options(parser, k_shot=(0, 5), n_query=10)
    parser.add_argument("--balanced", type=bool, default=True, help="false: each class draws its own number of shots")
    parser.add_argument(
        "--within-domains", type=float, default=0.0, help="share of episodes whose classes are all of one domain"
    )
    parser.add_argument("--steps", type=int, default=TrainingConfig.steps, help="outer steps")
    parser.add_argument("--engine", type=str, default="metawarp", help=f"of meta-gradients: {', '.join(ENGINES)}")
    parser.add_argument("--inner-steps", type=int | None, help="gradient steps on a support set (null: the method's)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    parser.add_argument("--overwrite", action="store_true", help="write over a run in the output folder")
    parser.add_argument("--log-with", type=str | None, help="tracker of Accelerate: tensorboard, wandb, trackio, …")
    parser.add_class_arguments(TrainingConfig, "training", skip={"steps"})
    parser.add_class_arguments(InnerRates, "inner_lr")
    parser.add_class_arguments(WarpConfig, "warp")
    return parser


def run_train(options: Namespace) -> None:
    """Meta-train, and say what became of it."""
    arguments = _with_corpus(options)
    arguments["training"] = replace(arguments["training"], steps=arguments.pop("steps"))
    init = train(**arguments)
    if not processes.is_main():
        return
    if plots_available():
        draw_learning_curve(options.output)
    facts = init.training
    best, start = facts["validation_accuracy"], facts["validation_accuracy_of_start"]
    print(
        f"{options.output}: {facts['steps_run']} steps, best at step {facts['best_step']} with {best:.1%} on "
        f"validation classes ({start:.1%} at the start)"
    )


def evaluate_parser() -> ArgumentParser:
    """measure an init on classes it has never seen, beside the baselines"""
    parser = corpus_options("Measure an init on episodes: accuracy, mean ± 95 % interval, beside the baselines.")
    parser.add_argument("--init", type=str, required=True, help="folder of the init, or the name of a shipped one")
    parser.add_argument("--split", type=str, default="test", help="classes to test: train, validation, test or all")
    backbone_options(parser, of="init")
    reading_options(parser)
    episode_options(parser, k_shot=1, n_query=10)
    parser.add_argument("--episodes", type=int, default=600, help="number of episodes")
    parser.add_argument("--output", type=str | None, help="JSON file for protocol and results")
    parser.add_argument("--baselines", type=str, default="all", help="all, none, or names with commas between")
    parser.add_argument("--overwrite", action="store_true", help="write over the output file")
    return parser


def run_evaluate(options: Namespace) -> None:
    """Measure, and print the table."""
    arguments = _with_corpus(options)
    arguments["baselines"] = [name.strip() for name in arguments["baselines"].split(",")]
    results = evaluate(**arguments)
    if processes.is_main():
        print(format_results(results))


def benchmark_parser() -> ArgumentParser:
    """measure the tables of a plan: contenders, corpora, settings"""
    parser = Parser(description="Train and measure what a plan asks for and is not there yet; write the report.")
    parser.add_argument("--plan", type=str, required=True, help="YAML file, such as benchmarks/field.yaml")
    parser.add_argument("--output", type=str, required=True, help="folder for trainings, cells, results and report")
    parser.add_argument("--data", type=str, default=".", help="folder of the corpora, a folder each")
    parser.add_argument("--tables", type=list[str] | str, default=[], help="of the plan; [main,parts] for several")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each; 1: one of all threads")
    return parser


def run_benchmark(options: Namespace) -> None:
    """Measure, and print the report."""
    arguments = given(options)
    tables = arguments.pop("tables")
    benchmark(**arguments, tables=[tables] if isinstance(tables, str) else tables)
    print((Path(options.output) / f"{REPORT}.md").read_text(encoding="utf-8"))


def _with_corpus(options: Namespace) -> dict[str, Any]:
    """The options given, with the corpus itself in the place of what it is loaded by."""
    processes.connect(options.device)
    if not processes.is_main():
        for package in ("episodes", "metawarp"):  # once is enough
            logging.getLogger(package).setLevel(logging.ERROR)
    arguments = given(options)
    source, split = arguments.pop("corpus"), arguments.pop("hub_split")
    how = {
        name: arguments.pop(name) for name in ("text_column", "label_column", "domain_column", "subset", "conflicts")
    }
    loaded = [Corpus.load(one, **how, split=split) for one in (source if isinstance(source, list) else [source])]
    arguments["corpus"] = loaded if isinstance(source, list) else loaded[0]
    return arguments


COMMANDS = {
    "train": (train_parser, run_train),
    "evaluate": (evaluate_parser, run_evaluate),
    "benchmark": (benchmark_parser, run_benchmark),
}
