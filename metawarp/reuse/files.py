"""From files to a task and from a task to predictions: what the commands fit, similar, predict and export do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from episodes import InputError
from episodes.cleaning import refuse_unusable_texts, usable_rows
from episodes.errors import listing
from episodes.reading import read_table
from metawarp import outputs
from metawarp.inits.init import Init
from metawarp.reuse.classifier import WarpClassifier
from metawarp.reuse.labels import Examples
from metawarp.reuse.similar import Suitability
from metawarp.reuse.starts import start_of
from metawarp.reuse.task import Task


def fit(
    init: str | Init | Sequence[str] | None,
    output: str,
    *,
    data: str | None = None,
    class_name: Sequence[str] = (),
    text_column: str = "text",
    label_column: str = "label",
    average: bool = False,
    backbone: str | None = None,
    any_backbone: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    overwrite: bool = False,
) -> WarpClassifier:
    """Adapt an init to a task and save the task; the arguments are those of `metawarp fit`.

    Args:
        init: what `WarpClassifier` takes.
        output: folder for the task.
        data: file of few labelled texts; None for a task from class names alone.
        class_name: classes that may be without texts.
        text_column: the column of texts.
        label_column: the column of labels.
        average: see `WarpClassifier`.
        backbone: what `Backbone.load` takes; None: the init's own.
        any_backbone: allow another backbone than the init's, of the same widths.
        device: where it runs.
        dtype: of its weights and activations; states and losses stay in float32 at least.
        overwrite: write over a task in `output`.

    Returns:
        The fitted classifier.

    Raises:
        InputError: neither data nor class names; data, init or output cannot be used; a text stands under two labels.
        ImportError: backbone "minilm" without its extra.
    """
    outputs.claim_folder(Path(output), ("task.safetensors", "config.json"), kind="task", overwrite=overwrite)
    texts: list[str] = []
    labels: list[str] = []
    if data is not None:
        texts, labels = _few(data, text_column, label_column, class_name)
    names = sorted({*labels, *class_name}) if class_name else None
    model = WarpClassifier(init, backbone, average=average, any_backbone=any_backbone, device=device, dtype=dtype)
    model.fit(texts, labels, names).save(output)
    return model


def _few(data: str, text_column: str, label_column: str, class_name: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    # Not a corpus: that has two classes at least, and here one of them may be a name alone.
    table = read_table(data, text_column, label_column)
    # Of a handful of texts none is dropped in silence: its class could be left without any.
    found, kept = usable_rows(table.texts, table.labels, table.name, refuse_conflicts=True)
    texts, labels = [table.texts[row] for row in kept], [found[row] for row in kept]
    if len({*labels, *class_name}) < 2:
        only = listing(map(repr, {*labels, *class_name}))
        raise InputError(f"{table.name} needs at least 2 classes; its classes are: {only}.")
    return texts, labels


def similar(
    init: str | Sequence[str] | None,
    data: str,
    *,
    inits: str | None = None,
    text_column: str = "text",
    label_column: str = "label",
    backbone: str | None = None,
    any_backbone: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
) -> dict[str, Suitability]:
    """How several inits suit a task, the best first; the arguments are those of `metawarp similar`.

    Args:
        init: what `WarpClassifier` takes, each.
        data: file of few labelled texts.
        inits: a folder, each folder in which is an init too.
        text_column: the column of texts.
        label_column: the column of labels.
        backbone: what `Backbone.load` takes; None: each init's own.
        any_backbone: allow another backbone than an init's, of the same widths.
        device: where it runs.
        dtype: of its weights and activations.

    Raises:
        InputError: fewer than two inits; data or inits cannot be used.
    """
    found = [init] if isinstance(init, str) else list(init or ())
    if inits is not None:
        found += sorted(str(file.parent) for file in Path(inits).glob("*/init.safetensors"))
    if len(found) < 2:
        raise InputError(
            f"inits are ranked against each other, and {len(found)} is named; give two at least, --init "
            '"[A,B]", or --inits with the folder that they are in.'
        )
    examples = Examples.of(*_few(data, text_column, label_column), None)
    start = start_of(found, examples, backbone=backbone, any_backbone=any_backbone, device=device, dtype=dtype)
    return start.suitability


def predict(
    task: str,
    *,
    texts: Sequence[str] = (),
    data: str | None = None,
    text_column: str = "text",
    backbone: str | None = None,
    any_backbone: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
) -> Iterator[dict[str, Any]]:
    """Classify texts with a saved task; the arguments are those of `metawarp predict`.

    Args:
        task: folder of the task.
        texts: texts to classify.
        data: file of more of them.
        text_column: its column of texts.
        backbone: what `Backbone.load` takes; None: the one that the task was fitted on.
        any_backbone: allow another one, of the same widths.
        device: where it runs.
        dtype: of its weights and activations; states and losses stay in float32 at least.

    Yields:
        For each text: {"text", "label", "probabilities": {class: probability}}.

    Raises:
        InputError: no texts; the task or the file cannot be used.
    """
    given = list(texts)
    if data is not None:
        table = read_table(data, text_column)
        refuse_unusable_texts(table.texts, table.name)
        given += table.texts
    if not given:
        raise InputError("there is nothing to predict; give --text or --data.")
    model = Task.load(task, backbone, any_backbone=any_backbone, device=device, dtype=dtype)
    classes = [str(label) for label in model.classes]
    for text, row in zip(given, model.predict_proba(given), strict=True):
        probabilities = {name: round(float(p), 6) for name, p in zip(classes, row, strict=True)}
        yield {"text": text, "label": classes[int(row.argmax())], "probabilities": probabilities}


def export(
    task: str, output: str, *, backbone: str | None = None, any_backbone: bool = False, overwrite: bool = False
) -> Task:
    """Write a saved task as an ONNX graph; the arguments are those of `metawarp export`.

    Args:
        task: folder of the task.
        output: file of the graph.
        backbone: what `Backbone.load` takes; None: the one that the task was fitted on.
        any_backbone: allow another one, of the same widths.
        overwrite: write over the file.

    Raises:
        InputError: the task cannot be used or exported, or the file not be written.
        ImportError: onnx is not installed.
    """
    outputs.claim_file(Path(output), overwrite=overwrite)
    model = Task.load(task, backbone, any_backbone=any_backbone)
    model.save_onnx(output)
    return model


def write_predictions(output: str, predictions: Iterator[Mapping[str, Any]], *, overwrite: bool = False) -> None:
    """Write predictions into a file, one JSON object a line, the whole file or nothing.

    Raises:
        InputError: the file is there already, or its folder cannot be written.
    """
    file = Path(output)
    outputs.claim_file(file, overwrite=overwrite)
    lines = [json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in predictions]
    outputs.write_text(file, "".join(lines))
