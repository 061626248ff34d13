"""The command predict: texts of the command line, a file or standard input; predictions as JSON lines or a table."""

import csv
import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from jsonargparse import Namespace

from episodes.cleaning import is_blank, require_texts
from episodes.errors import InputError
from episodes.files import FileFormat, decoded
from episodes.paths import user_path
from episodes.writing import write_text
from metawarp import outputs
from metawarp.commands.options import MODEL, MODEL_TYPES, OVERWRITE_HELP, add_columns, model_of, table_of
from metawarp.commands.parser import Parser, add_options, command_parser
from metawarp.tasks.task import Task

_CONTROL = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that a terminal could obey, or an editor take for the end of a line; JSON escapes all other ones."""

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""The separators of tables, by the ending of the output."""

LINES = (".jsonl", ".ndjson", ".json", ".txt", "")
"""Endings of an output with one JSON object per line."""

STANDARD_INPUT = "-"
"""The name of standard input, from which each line is a text."""


def predict_parser() -> Parser:
    """classify texts with an adapted task"""
    about = "Classify texts; each line of the output is a JSON object: text, label, probabilities."
    parser = command_parser(f"{about} A text without content has no label, unless unknown texts are rejected.")
    parser.add_argument("--task", type=str, required=True, help="folder of the task, from metawarp fit")
    parser.add_argument("--text", action="append", default=[], help="text to classify; may be repeated")
    data_help = 'file of texts: .csv, .tsv, .json, .jsonl or .parquet; "-": the lines of standard input'
    parser.add_argument("--data", type=str | None, help=data_help)
    add_columns(parser, "text")
    output_help = "file for the predictions, a table if it ends in .csv or .tsv (null: print them)"
    parser.add_argument("--output", type=str | None, help=output_help)
    reject_help = (
        'probability of belonging to any class below which the label is "unknown" (null: as the task was fitted)'
    )
    parser.add_argument("--reject", type=float | None, help=reject_help)
    parser.add_argument("--top", type=int | None, help="number of the most likely classes that are given (null: all)")
    add_options(parser, Task.load, MODEL, types=MODEL_TYPES)
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)
    return parser


def run_predict(options: Namespace) -> None:
    """Print the predictions, or write them into a file, whole or not at all."""
    if options.output is not None:
        if options.data is not None and user_path(options.output).resolve() == user_path(options.data).resolve():
            raise InputError(f"output={options.output!r} is the file of the texts; name another file.")
        ending = Path(options.output).suffix.lower()
        if ending not in (*SEPARATORS, *LINES):
            raise InputError(f"output={options.output!r} must end in .csv or .tsv for a table, or in .jsonl.")
        outputs.claim_file(user_path(options.output), overwrite=options.overwrite)
    if options.top is not None and options.top < 1:
        raise InputError(f"top={options.top} must be at least 1.")
    texts = [*options.text, *_texts_of_file(options)]
    if not texts:
        raise InputError("There are no texts to predict; give text=TEXT or data=FILE.")
    require_texts(texts, "texts", blanks=True)
    task = Task.load(options.task, **model_of(options))
    task.warp.warn_about_truncation(texts)
    if options.reject is not None:
        task = task.rejecting(options.reject)
    predictions = Predictions.of(task, texts)
    separator = SEPARATORS.get(Path(options.output or "").suffix.lower())
    content = predictions.table(options.top, separator) if separator else predictions.lines(options.top)
    if options.output is None:
        print(content, end="")
    else:
        write_text(user_path(options.output), content)


def _texts_of_file(options: Namespace) -> list[str]:
    """The texts of the file, or of standard input; a missing one is a text without content."""
    if options.data is None:
        return []
    if options.data == STANDARD_INPUT:
        if options.delimiter is not None or options.no_header:
            raise InputError("delimiter and no_header are for files; each line of standard input is a text.")
        if sys.stdin is None:
            raise InputError("data='-' reads standard input, but there is none.")
        encoding = FileFormat(encoding=options.encoding).encoding
        text = decoded(sys.stdin.buffer.read(), "Standard input", encoding)
        lines = text.removesuffix("\n").split("\n")
        return [line.removesuffix("\r") for line in lines] if lines != [""] else []
    table = table_of(options)
    texts = ["" if text is None else text for text in table.texts]
    require_texts(texts, table.name, blanks=True)
    return texts


@dataclass(frozen=True)
class Predictions:
    """The predictions of a task for n texts.

    Attributes:
        texts: the texts.
        labels: label of each text; None for a text without content, unless unknown texts are rejected.
        classes: names of the columns of the probabilities.
        probabilities: (n, C) probabilities.
        known: (n,) probability of belonging to any class; None if no text is rejected.
    """

    texts: Sequence[str]
    labels: Sequence[str | None]
    classes: Sequence[str]
    probabilities: np.ndarray
    known: np.ndarray | None

    @classmethod
    def of(cls, task: Task, texts: Sequence[str]) -> Self:
        """The predictions of a task."""
        (probabilities, known), rejects = task.predictions(texts), task.reject is not None
        labels = zip(texts, task.labels(probabilities, known), strict=True)
        shown = [str(label) if rejects or not is_blank(text) else None for text, label in labels]
        return cls(texts, shown, [str(label) for label in task.classes], probabilities, known if rejects else None)

    def lines(self, top: int | None) -> str:
        """A JSON object for each text: text, label, probabilities by class, the most likely ones first with `top`, and
        the probability of being known if unknown texts are rejected."""
        lines = []
        for i, (text, label, row) in enumerate(zip(self.texts, self.labels, self.probabilities, strict=True)):
            order = _most_likely(row)[:top] if top else range(len(self.classes))
            probabilities = {self.classes[c]: round(float(row[c]), 6) for c in order}
            prediction: dict[str, Any] = {"text": text, "label": label, "probabilities": probabilities}
            if self.known is not None:
                prediction["known"] = round(float(self.known[i]), 6)
            lines.append(_CONTROL.sub(_escape, json.dumps(prediction, ensure_ascii=False)) + "\n")
        return "".join(lines)

    def table(self, top: int | None, separator: str) -> str:
        """A table: text, label, probability of the likeliest class, the same of the next ones with `top`, and the
        probability of being known if unknown texts are rejected."""
        number, file = min(top or 1, len(self.classes)), io.StringIO(newline="")
        writer = csv.writer(file, delimiter=separator)
        names = [name for i in range(1, number + 1) for name in _columns(i)]
        writer.writerow(["text", *names, *([] if self.known is None else ["known"])])
        for i, (text, label, row) in enumerate(zip(self.texts, self.labels, self.probabilities, strict=True)):
            cells: list[Any] = [text]
            for rank, c in enumerate(_most_likely(row)[:number]):
                cells += [label if rank == 0 or label is None else self.classes[c], round(float(row[c]), 6)]
            writer.writerow([*cells, *([] if self.known is None else [round(float(self.known[i]), 6)])])
        return file.getvalue()


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _columns(rank: int) -> tuple[str, str]:
    return ("label", "probability") if rank == 1 else (f"label_{rank}", f"probability_{rank}")


def _most_likely(row: np.ndarray) -> np.ndarray:
    """The indices of the classes, the most likely one first."""
    return np.argsort(-row, kind="stable")


COMMANDS = {"predict": (predict_parser, run_predict)}
