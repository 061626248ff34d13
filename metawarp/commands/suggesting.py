"""The command suggest: which texts of a file to label next, with the label that is predicted for each."""

import csv
import io
from pathlib import Path

from jsonargparse import Namespace

from episodes.cleaning import usable_rows
from episodes.errors import InputError
from episodes.paths import user_path
from episodes.writing import write_text
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
from metawarp.commands.predicting import SEPARATORS
from metawarp.suggestions.suggest import Suggestions, suggestions
from metawarp.tasks.classifier import WarpClassifier


def suggest_parser() -> Parser:
    """choose the texts of a file that are most worth labelling"""
    about = "Choose the texts of a file that are most worth labelling, and write them into a table, best first."
    parser = command_parser(f"{about} Its labels are predicted: correct them, and use the table with --labelled.")
    parser.add_argument("--data", type=str, required=True, help="file of texts: .csv, .tsv, .json, .jsonl or .parquet")
    helps = "file with texts that have a label, such as those of earlier rounds; repeatable"
    parser.add_argument("--labelled", action="append", default=[], help=helps)
    add_class_names(parser)
    parser.add_argument("-n", "--n", type=int, default=10, help="number of texts")
    output_help = "file for the table, .csv or .tsv: text, label and its probability"
    parser.add_argument("--output", type=str, required=True, help=output_help)
    add_columns(parser, "text", "label")
    helps = "init of the classifier: its folder, the name of a shipped init, or a Hub id"
    parser.add_argument("--init", type=str, default="general", help=helps)
    add_options(parser, WarpClassifier, (*START, "adapt"), types=MODEL_TYPES)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)
    return parser


def run_suggest(options: Namespace) -> None:
    """Write the table, and say how many texts it has."""
    output = user_path(options.output)
    separator = SEPARATORS.get(Path(options.output).suffix.lower())
    if separator is None:
        raise InputError(f"output={options.output!r} must end in .csv or .tsv.")
    if "" in options.labelled:
        raise InputError("labelled='' names no file; give a name, or leave the option out.")
    for source in (options.data, *options.labelled):
        if output.resolve() == user_path(source).resolve():
            raise InputError(f"output={options.output!r} is a file that texts are read from; name another file.")
    outputs.claim_file(output, overwrite=options.overwrite)
    texts = ["" if text is None else text for text in table_of(options).texts]
    labels = _labels_by_text(options)
    index = {text.strip(): i for i, text in reversed(list(enumerate(texts))) if isinstance(text, str)}
    for text in labels:
        if text not in index:  # it still shows what need not be labelled again
            index[text] = len(texts)
            texts.append(text)
    labelled = {index[text]: label for text, label in labels.items()}
    names = class_names_of(options, list(labels.values()))
    classifier = WarpClassifier(options.init, adapt=options.adapt, **model_of(options, START))
    chosen = suggestions(texts, names, labelled, options.n, classifier)
    write_text(output, _table(texts, chosen, separator))
    advice = "correct the labels" if chosen.labels is not None else "add the labels"
    print(f"{output}: number of texts to label: {len(chosen.indices)}, best first; {advice}.")


def _labels_by_text(options: Namespace) -> dict[str, str]:
    """The label of each text of the files with labels, without surrounding white space."""
    tables = [table_of(options, options.label_column, source) for source in options.labelled]
    if not tables:
        return {}
    texts = [text for table in tables for text in table.texts]
    source = ", ".join(table.name for table in tables)
    labels, kept = usable_rows(texts, [one for table in tables for one in table.labels], source, refuse_conflicts=True)
    return {texts[row].strip(): labels[row] for row in kept}


def _table(texts: list[str], chosen: Suggestions, separator: str) -> str:
    """The table of the texts; label and probability are empty if the classes are not known."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator)
    writer.writerow(["text", "label", "probability"])
    for place, row in enumerate(chosen.indices):
        if chosen.labels is None or chosen.probabilities is None:
            writer.writerow([texts[row], "", ""])
        else:
            writer.writerow([texts[row], chosen.labels[place], round(float(chosen.probabilities[place]), 6)])
    return file.getvalue()


COMMANDS = {"suggest": (suggest_parser, run_suggest)}
