"""Measuring one cell of a benchmark, and training what it needs; each leaves one file, which is not made again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from episodes import ClassSplit, Corpus, Episode, EpisodeSampler
from episodes.sampler import Sampler, WrongLabels, bounds
from metawarp.backbones.backbone import Backbone
from metawarp.backbones.shared import backbone_of
from metawarp.benchmark.keys import backbone_name, has_model, load, needs_training, ready_init, training_key
from metawarp.benchmark.plan import Cell, Contender, Setting
from metawarp.evaluation.baseline_table import BASELINES, Bench, build
from metawarp.evaluation.baselines import SentenceEncoder
from metawarp.evaluation.calibration import bins_of, calibration_error
from metawarp.evaluation.cost import cost_of, numbers_a_task
from metawarp.evaluation.evaluate import seen_in_training
from metawarp.evaluation.protocol import validation_sampler
from metawarp.evaluation.scores import Predictor, metawarp_predictor, score
from metawarp.inits.init import Init
from metawarp.meta_learning.meta_gradients import inner_loop
from metawarp.model.warp import Warp
from metawarp.outputs import write_text
from metawarp.training.run_folder import CHECKPOINT, read_log
from metawarp.training.train import train

COST_EPISODES = 6
"""Of which the first warms up."""


def train_for(cell: Cell, data: str, folder: Path) -> Path:
    """Train the init of a cell, or go on with it; an init that is there already is left alone."""
    output = folder / training_key(cell, data)
    if not (output / "init.safetensors").exists():
        learned = [_cut(*load(name, data), cell.contender) for name in cell.train_on]
        arguments = {**cell.contender.training, "backbone": _backbone_of(cell)}
        resume = (output / CHECKPOINT).exists()
        train(
            [corpus for corpus, _ in learned],
            str(output),
            splits=[names for _, names in learned],
            seed=cell.seed,
            resume=resume,
            overwrite=not resume,  # a run killed before its first checkpoint; by the folder's name it is no other
            **arguments,
        )
    return output


def _cut(corpus: Corpus, split: ClassSplit, contender: Contender) -> tuple[Corpus, dict[str, list[str]]]:
    """What a contender may learn from of a corpus, and the names of its classes by part."""
    rng, names = np.random.default_rng(0), split.names()
    order = [str(name) for name in rng.permutation(names["train"])]
    names["train"] = order[: contender.classes]
    kept = []
    for number, name in enumerate(corpus.class_names):
        rows = rng.permutation(corpus.rows_of(number))
        if name in names["train"]:
            kept += rows[: contender.texts].tolist()
        elif name not in order:
            kept += rows.tolist()
    kept.sort()
    cut = replace(corpus, texts=tuple(corpus.texts[row] for row in kept), labels=corpus.labels[kept])
    return cut.select_classes(name for part in names.values() for name in part), names


def measure(cells: Mapping[Path, Cell], data: str, trainings: Path) -> None:
    """Measure cells of one `reader_key`, and write the file of each."""
    first = next(iter(cells.values()))
    trained = trainings / training_key(first, data) if needs_training(first) else None
    init, warp, encode = _reader(first, data, trained)
    for file, cell in cells.items():
        (_, split), setting = load(cell.corpus, data), cell.setting
        sampler = sampler_of(split.test, setting)
        predictor, facts = _predictor(cell, split, init, warp, encode, trained)
        confusion = np.zeros((split.test.n_classes, split.test.n_classes), dtype=int)
        found = score(_counting(predictor, confusion), sampler, setting.episodes)
        # On episodes that nobody is measured on.
        cost = cost_of(predictor, [sampler[setting.episodes + i] for i in range(COST_EPISODES)])
        result = {
            **facts,
            **cost,
            "accuracy": found.accuracy.tolist(),
            "macro_f1": found.macro_f1.tolist(),
            "class_names": list(split.test.class_names),
            "confusion": confusion.tolist(),
        }
        if len(found.right):
            result["calibration_error"] = calibration_error(found.confidence, found.right)
            result["reliability"] = bins_of(found.confidence, found.right)
        write_text(file, json.dumps(result) + "\n")


def sampler_of(part: Corpus, setting: Setting) -> Sampler:
    """The episodes of a setting."""
    ways = part.n_classes if setting.n_way == "all" else setting.n_way
    sampler = EpisodeSampler(part, int(ways), setting.k_shot, setting.n_query, setting.seed, balanced=setting.balanced)
    return WrongLabels(sampler, setting.wrong_labels, setting.seed) if setting.wrong_labels else sampler


def _reader(cell: Cell, data: str, trained: Path | None) -> tuple[Init, Warp, SentenceEncoder]:
    """An init, what reads texts for it, and what reads them for baselines without a prompt."""
    (_, split), backbone = load(cell.corpus, data), _backbone_of(cell)
    init = Init.load(trained) if trained else ready_init(cell) or _fresh(backbone, cell)
    warp = init.bind(backbone)
    encode = SentenceEncoder(backbone, init.warp.max_length, init.warp.stride)
    for encoder in (warp.encoder, encode.warp.encoder):
        encoder.remember([*split.test.texts, *split.test.class_names])
    return init, warp, encode


def _predictor(
    cell: Cell, split: ClassSplit, init: Init, warp: Warp, encode: SentenceEncoder, trained: Path | None
) -> tuple[Predictor, dict[str, Any]]:
    """What predicts a cell's episodes, and what there is to say of it."""
    baseline, setting = cell.contender.baseline, cell.setting
    known = has_model(cell)  # what others read is no init's
    facts: dict[str, Any] = {
        "classes_seen_in_training": seen_in_training(init, split.test) if known else [],
        "init_sha256": init.fingerprint if known else "",
    }
    ways = split.test.n_classes if setting.n_way == "all" else int(setting.n_way)
    if baseline is None:
        inner = init.inner.with_steps(setting.inner_steps)
        facts["numbers_a_task"] = numbers_a_task(warp, inner, ways)
        facts["numbers_learned"] = sum(tensor.numel() for tensor in init.tensors.values())
        if trained is not None:
            facts["training_seconds_a_task"] = 1 / median(entry["tasks_per_second"] for entry in read_log(trained))
        return metawarp_predictor(warp, init.to(warp.backbone), inner, init.temperature), facts
    low, high = bounds(setting.k_shot)
    chosen_at = split.validation.n_classes if setting.n_way == "all" else ways
    bench = Bench(
        warp,
        init,
        range(low, high + 1),
        lambda shots: validation_sampler(split, chosen_at, shots, setting.n_query, setting.seed),
        encode,
        seed=cell.seed,
    )
    predictors, chosen = build([baseline], bench)
    facts |= {"chosen_on_validation_classes": chosen, "numbers_a_task": BASELINES[baseline].numbers(bench, ways)}
    return predictors[baseline], facts


def _fresh(backbone: Backbone, cell: Cell) -> Init:
    """The start that the training of a cell would have."""
    training = cell.contender.training
    warp, inner = Warp(backbone, training["warp"]), inner_loop(training["method"], training["inner_steps"])
    return Init.start(warp, inner, method=training["method"], seed=cell.seed, rates=training["inner_lr"])


def _counting(predictor: Predictor, confusion: np.ndarray) -> Predictor:
    """The same predictions, counted by true and predicted class of the corpus."""

    def predict(episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
        for episode, scores in zip(episodes, predictor(episodes), strict=True):
            classes = np.asarray(episode.class_indices)
            np.add.at(confusion, (classes[episode.query_labels], classes[scores.argmax(1)]), 1)
            yield scores

    return predict


def _backbone_of(cell: Cell) -> Backbone:
    training = cell.contender.training
    return backbone_of(None, backbone_name(cell), training["device"], training["dtype"], training["max_tokens"])
