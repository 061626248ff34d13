"""Measuring cells: accuracy, macro-F1, confusions, calibration and cost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.runner.cell import Cell
from benchmarks.runner.corpora import load_corpus
from benchmarks.runner.cost import PausableCache, cost_of
from benchmarks.runner.keys import backbone_name, existing_init, training_key
from benchmarks.runner.results_format import CellResults, Facts
from benchmarks.runner.task_size import numbers_per_baseline_task, numbers_per_task
from episodes import ClassSplit, Episode
from episodes.protocol import validation_sampler
from episodes.sampler import bounds
from episodes.writing import write_text
from metawarp.backbones.backbone import Backbone
from metawarp.backbones.store import BACKBONES
from metawarp.evaluation.baselines import BaselineContext, create_baselines
from metawarp.evaluation.calibration import calibration_error, reliability_bins
from metawarp.evaluation.evaluate import classes_seen_in_training
from metawarp.evaluation.predictors import Predictor, metawarp_predictor
from metawarp.evaluation.scores import score
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.inits.init import Init
from metawarp.meta_learning.table import inner_loop
from metawarp.training.run_folder import read_log
from metawarp.warp import Warp

COST_EPISODES = 6
"""Number of episodes that the cost is measured on, the first of which warms up."""


@dataclass(frozen=True)
class Reader:
    """What reads the texts of a group of cells.

    Attributes:
        init: the init; for baselines without a model, one that is not used.
        backbone: the frozen model.
        training_folder: folder of the training; None for an existing init.
        cache: cache for what is computed of texts.
    """

    init: Init
    backbone: Backbone
    training_folder: Path | None
    cache: PausableCache

    @classmethod
    def of(cls, cell: Cell, data: Path, trainings: Path) -> "Reader":
        """The reader of a cell."""
        arguments = cell.contender.training
        loaded = BACKBONES.get(backbone_name(cell), device=arguments.device, dtype=arguments.dtype)
        backbone = replace(loaded, max_tokens=arguments.max_tokens)
        folder = trainings / training_key(cell, data) if cell.contender.needs_training else None
        init = Init.load(folder) if folder else existing_init(cell) or _fresh_init(backbone, cell)
        return cls(init, backbone, folder, PausableCache())

    def predictor(self, cell: Cell, split: ClassSplit) -> tuple[Predictor, Facts]:
        """The predictor of a cell of a corpus with a class split, and what is known of it."""
        init, warp = self.init, self.init.bind(self.backbone, cache=self.cache)
        facts: Facts = {"classes_seen_in_training": [], "init_sha256": ""}
        if cell.contender.reads_model:
            facts["classes_seen_in_training"] = classes_seen_in_training(init, split.test)
            facts["init_sha256"] = init.fingerprint
        if cell.contender.baseline is not None:
            return self._baseline(cell.contender.baseline, cell, split, warp, facts)
        inner = init.inner.with_steps(cell.setting.inner_steps)
        facts["numbers_per_task"] = numbers_per_task(warp, inner, cell.setting.ways(split.test.n_classes))
        facts["numbers_of_init"] = init.n_numbers
        if self.training_folder:
            speeds = [entry["tasks_per_second"] for entry in read_log(self.training_folder)]
            facts["training_seconds_per_task"] = 1 / median(speeds)
        return metawarp_predictor(warp, init.on(self.backbone), inner, init.temperature), facts

    def _baseline(self, name: str, cell: Cell, split: ClassSplit, warp: Warp, facts: Facts) -> tuple[Predictor, Facts]:
        setting, config = cell.setting, self.init.config
        low, high = bounds(setting.k_shot)
        validation_ways = setting.ways(split.validation.n_classes)
        context = BaselineContext(
            warp,
            self.init,
            SentenceEncoder(self.backbone, config.max_length, config.stride, warp.cache),
            range(low, high + 1),
            lambda shots: validation_sampler(split, validation_ways, shots, setting.n_query, setting.seed),
            seed=cell.seed,
        )
        predictors, chosen = create_baselines([name], context)
        facts["chosen_on_validation_classes"] = chosen
        facts["numbers_per_task"] = numbers_per_baseline_task(name, context, setting.ways(split.test.n_classes))
        return predictors[name], facts


def measure(cells: Mapping[Path, Cell], data: Path, trainings: Path) -> None:
    """Measure cells with the same `reader_key`, and write one JSON file for each.

    Args:
        cells: cells by the file to write.
        data: folder of the corpora.
        trainings: folder of all trainings.
    """
    reader = Reader.of(next(iter(cells.values())), data, trainings)
    for file, cell in cells.items():
        (_, split), setting = load_corpus(cell.corpus, data), cell.setting
        sampler, n_classes = setting.sampler(split.test), split.test.n_classes
        predictor, facts = reader.predictor(cell, split)
        confusion = np.zeros((n_classes, n_classes), dtype=int)
        scores = score(_counting(predictor, confusion), sampler, setting.episodes)
        with reader.cache.paused():  # on episodes that nobody's accuracy is measured on
            cost = cost_of(predictor, [sampler[setting.episodes + i] for i in range(COST_EPISODES)])
        results: CellResults = {
            **facts,
            **cost,
            "accuracy": scores.accuracy.tolist(),
            "macro_f1": scores.macro_f1.tolist(),
            "class_names": list(split.test.class_names),
            "confusion": confusion.tolist(),
        }
        if len(scores.correct):
            results["calibration_error"] = calibration_error(scores.confidence, scores.correct)
            results["reliability"] = [
                {"number": int(b["number"]), "confidence": b["confidence"], "accuracy": b["accuracy"]}
                for b in reliability_bins(scores.confidence, scores.correct)
            ]
        write_text(file, json.dumps(results) + "\n")


def _fresh_init(backbone: Backbone, cell: Cell) -> Init:
    """The start of the training that a cell would have."""
    arguments = cell.contender.training
    inner = inner_loop(arguments.method, arguments.inner_steps, arguments.inner_loss)
    warp = Warp(backbone, arguments.model)
    return Init.start(warp, inner, method=arguments.method, seed=cell.seed, rates=arguments.inner_lr)


def _counting(predictor: Predictor, confusion: np.ndarray) -> Predictor:
    """The same predictions, counted in a matrix of true and predicted classes of the corpus."""

    def predict(episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
        for episode, scores in zip(episodes, predictor(episodes), strict=True):
            classes = np.asarray(episode.class_indices)
            np.add.at(confusion, (classes[episode.query_labels], classes[scores.argmax(1)]), 1)
            yield scores

    return predict
