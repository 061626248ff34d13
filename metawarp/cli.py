"""The command line: metawarp train | evaluate | benchmark | fit | predict | inits."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from episodes import Corpus, InputError
from metawarp import processes
from metawarp.adaptation.inner_loop import InnerRates
from metawarp.benchmark.run import REPORT, benchmark
from metawarp.cli_options import (
    Parser,
    backbone_options,
    column_options,
    corpus_options,
    device_options,
    episode_options,
    fail,
    reading_options,
)
from metawarp.evaluation.evaluate import evaluate
from metawarp.evaluation.plots import plots_available
from metawarp.evaluation.scores import format_results
from metawarp.inits.shipped import describe, shipped
from metawarp.meta_learning.engines import ENGINES
from metawarp.meta_learning.meta_gradients import DEFAULT, METHODS
from metawarp.model.warp import WarpConfig
from metawarp.reuse import files
from metawarp.training.config import TrainingConfig
from metawarp.training.learning_curve import draw_learning_curve
from metawarp.training.train import train


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: as on the command line, without the program's name; None: those of this process.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for package in ("episodes", "metawarp"):  # what was dropped from a corpus, how second order is taken
        logging.getLogger(package).setLevel(logging.INFO)
    about = "Few-shot text classification from meta-learned WARP prompts."
    parser = Parser(prog="metawarp", description=about, version=version("metawarp"))
    subcommands = parser.add_subcommands()
    for name, (build, _) in _COMMANDS.items():
        subcommands.add_subcommand(name, build(), help=build.__doc__)
    try:
        options = parser.instantiate(parser.parse_args(arguments))
        _COMMANDS[options.subcommand][1](options[options.subcommand])
    except (InputError, ImportError) as error:
        fail(str(error))
    except torch.OutOfMemoryError:
        fail("the device has not enough memory; lower --max-tokens, or --training.meta_batch, and --resume.")
    except KeyboardInterrupt:
        fail("interrupted; a training goes on from its last checkpoint with --resume, other commands start anew.")
    except BrokenPipeError:
        # Whoever read our output has seen enough (`metawarp predict … | head`).
        sys.stderr.close()
    except OSError as error:  # a full disk, a file that somebody took away: nothing that a traceback explains
        fail(f"{error.strerror or error}: {error.filename or 'no file named'}.")


def _train_parser() -> ArgumentParser:
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


def _train(options: Namespace) -> None:
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


def _evaluate_parser() -> ArgumentParser:
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


def _evaluate(options: Namespace) -> None:
    arguments = _with_corpus(options)
    arguments["baselines"] = [name.strip() for name in arguments["baselines"].split(",")]
    results = evaluate(**arguments)
    if processes.is_main():
        print(format_results(results))


def _benchmark_parser() -> ArgumentParser:
    """measure the tables of a plan: contenders, corpora, settings"""
    parser = Parser(description="Train and measure what a plan asks for and is not there yet; write the report.")
    parser.add_argument("--plan", type=str, required=True, help="YAML file, such as benchmarks/field.yaml")
    parser.add_argument("--output", type=str, required=True, help="folder for trainings, cells, results and report")
    parser.add_argument("--data", type=str, default=".", help="folder of the corpora, a folder each")
    parser.add_argument("--tables", type=list[str] | str, default=[], help="of the plan; [main,parts] for several")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each; 1: one of all threads")
    return parser


def _benchmark(options: Namespace) -> None:
    arguments = _given(options)
    tables = arguments.pop("tables")
    benchmark(**arguments, tables=[tables] if isinstance(tables, str) else tables)
    print((Path(options.output) / f"{REPORT}.md").read_text(encoding="utf-8"))


def _fit_parser() -> ArgumentParser:
    """adapt an init to a new task from a few labelled texts"""
    parser = Parser(description="Adapt an init to a task and save the task.")
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    of_init = 'folder of the init, a shipped one, or "untrained" (null: general, on another backbone untrained)'
    parser.add_argument("--init", type=str | None, help=of_init)
    parser.add_argument("--data", type=str | None, help="few labelled texts: .csv .tsv .json .jsonl .parquet")
    parser.add_argument("--class-name", action="append", default=[], help="a class without texts; may be repeated")
    parser.add_argument("--output", type=str, required=True, help="folder for the task")
    column_options(parser)
    backbone_options(parser, of="init")
    parser.add_argument("--overwrite", action="store_true", help="write over a task in the output folder")
    return parser


def _fit(options: Namespace) -> None:
    model = files.fit(**_given(options))
    print(f"{options.output}: {len(model.classes_)} classes: {', '.join(model.class_names_)}")


def _predict_parser() -> ArgumentParser:
    """classify texts with an adapted task"""
    parser = Parser(description="Classify texts; one JSON object a line: text, label, probabilities.")
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    parser.add_argument("--task", type=str, required=True, help="folder of the task, from metawarp fit")
    parser.add_argument("--text", action="append", default=[], help="a text; may be repeated")
    parser.add_argument("--data", type=str | None, help="file of texts: .csv .tsv .json .jsonl .parquet")
    parser.add_argument("--text-column", type=str, default="text", help="column of the texts")
    parser.add_argument("--output", type=str | None, help="file for the predictions (null: print them)")
    backbone_options(parser, of="task")
    parser.add_argument("--overwrite", action="store_true", help="write over the output file")
    return parser


def _predict(options: Namespace) -> None:
    arguments = _given(options)
    arguments["texts"] = arguments.pop("text")
    output, overwrite = arguments.pop("output"), arguments.pop("overwrite")
    if output is not None:
        files.write_predictions(output, files.predict(**arguments), overwrite=overwrite)
        return
    for prediction in files.predict(**arguments):
        print(json.dumps(prediction, ensure_ascii=False))


def _inits_parser() -> ArgumentParser:
    """list the inits that ship with metawarp"""
    return Parser(description="The inits that ship with metawarp; --init takes their names.")


def _inits(options: Namespace) -> None:
    for name, folder in shipped().items():
        facts = describe(folder)
        print(name, *(f"  {what}: {fact}" for what, fact in facts.items()), sep="\n")


def _with_corpus(options: Namespace) -> dict[str, Any]:
    """The options given, with the corpus itself in the place of what it is loaded by."""
    processes.connect(options.device)
    if not processes.is_main():
        for package in ("episodes", "metawarp"):  # once is enough
            logging.getLogger(package).setLevel(logging.ERROR)
    arguments = _given(options)
    source, split = arguments.pop("corpus"), arguments.pop("hub_split")
    how = {
        name: arguments.pop(name) for name in ("text_column", "label_column", "domain_column", "subset", "conflicts")
    }
    loaded = [Corpus.load(one, **how, split=split) for one in (source if isinstance(source, list) else [source])]
    arguments["corpus"] = loaded if isinstance(source, list) else loaded[0]
    return arguments


def _given(options: Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in ("config", "subcommand")}


_COMMANDS = {
    "train": (_train_parser, _train),
    "evaluate": (_evaluate_parser, _evaluate),
    "benchmark": (_benchmark_parser, _benchmark),
    "fit": (_fit_parser, _fit),
    "predict": (_predict_parser, _predict),
    "inits": (_inits_parser, _inits),
}
