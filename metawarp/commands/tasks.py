"""The commands for tasks of one's own: fit, similar and export."""

from collections.abc import Iterable

from jsonargparse import Namespace

from episodes.cleaning import usable_rows
from episodes.errors import InputError, listing, printable, quoted
from episodes.paths import user_path
from metawarp import outputs
from metawarp.commands.options import (
    MODEL_TYPES,
    OVERWRITE_HELP,
    START,
    add_class_names,
    add_columns,
    class_names_of,
    model_of,
    table_of,
)
from metawarp.commands.parser import Parser, add_options, command_parser
from metawarp.output_folder import require_own
from metawarp.tasks.classifier import WarpClassifier
from metawarp.tasks.examples import Examples
from metawarp.tasks.start_choice import choose_start
from metawarp.tasks.task import TASK_FILES, Task

INIT = list[str] | str | None
INIT_HELP = 'folder of an init, name of a shipped init, Hub id, or "untrained"; "[A,B]" for several'
MAX_SHOWN = 20
"""Largest number of classes that a command names on one line."""

DATA_HELP = "file with labelled texts: .csv, .tsv, .json, .jsonl or .parquet"


def fit_parser() -> Parser:
    """fit a classifier on a few labelled texts, and save it"""
    parser = command_parser("Fit a classifier on a few labelled texts, and save it to a folder.")
    parser.add_argument("--init", type=INIT, help=f'{INIT_HELP}, of which the best is used (null: "adaptive")')
    parser.add_argument("--data", type=str | None, help=f"{DATA_HELP}; not needed for a task from class names alone")
    add_class_names(parser)
    parser.add_argument("--unlabelled", type=str | None, help="file with further texts that have no label")
    parser.add_argument("--output", type=str, required=True, help="folder for the task")
    add_columns(parser, "text", "label")
    add_options(parser, WarpClassifier, (*START, "adapt", "reject", "unknown"), types={**MODEL_TYPES, "unknown": str})
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)
    return parser


def run_fit(options: Namespace) -> None:
    """Adapt, save, name the classes, and say how far the encoder was adapted."""
    if options.data is None and len(options.class_name) < 2:
        raise InputError("A task needs data=FILE, or the names of at least two classes, each as class_name=NAME.")
    folder = user_path(options.output)
    outputs.claim_folder(folder, TASK_FILES, kind="task", overwrite=options.overwrite)
    require_own(folder, "task")
    texts, labels = ([], []) if options.data is None else _labelled_texts(options)
    names = class_names_of(options, labels)
    classifier = WarpClassifier(options.init, **model_of(options, (*START, "adapt", "reject", "unknown")))
    classifier.fit(texts, labels, names, _unlabelled_texts(options)).save(folder, overwrite=options.overwrite)
    print(f"{folder}: {len(classifier.classes_)} classes: {_shown(classifier.task_.class_names)}")
    if ranking := classifier.suitability_:
        best, suitability = next(iter(ranking.items()))
        accuracy = f"{suitability.accuracy:.0%} of the texts were classified correctly from the others"
        print(f"The init {best} suits the task best: with it, {accuracy}.")
    if (record := classifier.adaptation_) is not None and record.losses:
        print(record.reason)


def similar_parser() -> Parser:
    """rank inits by how they suit a few labelled texts"""
    parser = command_parser("Rank inits for a task, by the similarity of their prompts and by leaving texts out.")
    parser.add_argument("--init", type=INIT, help=INIT_HELP)
    parser.add_argument("--inits", type=str | None, help="folder whose subfolders are inits")
    parser.add_argument("--data", type=str, required=True, help=DATA_HELP)
    add_columns(parser, "text", "label")
    add_class_names(parser)
    add_options(parser, WarpClassifier, START, types=MODEL_TYPES)
    return parser


def run_similar(options: Namespace) -> None:
    """Print the ranking, best first."""
    inits = [options.init] if isinstance(options.init, str) else list(options.init or ())
    if options.inits is not None:
        inits += sorted(str(file.parent) for file in user_path(options.inits).glob("*/init.safetensors"))
    if len(inits) < 2:
        advice = 'name them with init="[A,B]", or the folder that they are in with inits=FOLDER'
        raise InputError(f"A ranking needs at least two inits, but there are {len(inits)}; {advice}.")
    texts, labels = _labelled_texts(options)
    examples = Examples.of(texts, labels, class_names_of(options, labels))
    _, _, ranking = choose_start(inits, examples, **model_of(options, START))
    print(f"{'score':>6} {'prompt similarity':>18} {'log-likelihood':>15} {'accuracy':>9}   init")
    for name, one in ranking.items():
        figures = f"{one.score:>6.3f} {one.prompt_similarity:>18.3f} {one.log_likelihood:>15.3f} {one.accuracy:>9.1%}"
        print(f"{figures}   {name}")


def export_parser() -> Parser:
    """write an adapted task as an ONNX graph"""
    parser = command_parser("Write a task with its backbone as one ONNX graph: token ids in, probabilities out.")
    parser.add_argument("--task", type=str, required=True, help="folder of the task, from metawarp fit")
    parser.add_argument("--output", type=str, required=True, help="file of the graph, such as task.onnx")
    add_options(parser, Task.load, ("backbone", "any_backbone"), types=MODEL_TYPES)
    add_options(parser, Task.save_onnx, ("quantize",))
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)
    return parser


def run_export(options: Namespace) -> None:
    """Write the graph, and name the classes."""
    outputs.claim_file(user_path(options.output), overwrite=options.overwrite)
    task = Task.load(options.task, options.backbone, any_backbone=options.any_backbone)
    task.save_onnx(options.output, quantize=options.quantize)
    print(f"{options.output}: probabilities of {_shown(task.classes)}")


def _shown(names: Iterable[object]) -> str:
    """Names of classes for a line in the terminal."""
    return listing((printable(str(name)) for name in names), MAX_SHOWN)


def _labelled_texts(options: Namespace) -> tuple[list[str], list[str]]:
    """The texts and labels of a file; not a corpus, since a class may have a name but no text."""
    table = table_of(options, options.label_column)
    # None of a handful of texts is dropped silently: its class could be left without any.
    names, kept = usable_rows(table.texts, table.labels, table.name, refuse_conflicts=True)
    texts, labels = [table.texts[row] for row in kept], [names[row] for row in kept]
    if len(classes := {*labels, *(name for name in options.class_name if "=" not in name)}) < 2:
        raise InputError(f"{table.name} needs at least 2 classes; its classes are: {quoted(classes)}.")
    return texts, labels


def _unlabelled_texts(options: Namespace) -> list[str] | None:
    """The texts of the file without labels; a missing one is a text without content."""
    if options.unlabelled is None:
        return None
    table = table_of(options, source=options.unlabelled)
    return ["" if text is None else text for text in table.texts]


COMMANDS = {"fit": (fit_parser, run_fit), "similar": (similar_parser, run_similar)}
COMMANDS |= {"export": (export_parser, run_export)}
