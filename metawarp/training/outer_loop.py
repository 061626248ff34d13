"""The outer loop: move the init along meta-gradients, keep the best by validation, survive being killed."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from episodes import InputError
from episodes.sampler import Sampler
from metawarp import processes
from metawarp.adaptation.memory import require_room
from metawarp.adaptation.randomness import generator_of
from metawarp.adaptation.tasks import TaskBatch
from metawarp.adaptation.temperature import Temperature
from metawarp.evaluation.calibration import best_temperature
from metawarp.evaluation.scores import metawarp_predictor, score
from metawarp.inits.init import Init
from metawarp.meta_learning.engines import gradient_by, has_modes, require_engine
from metawarp.meta_learning.meta_gradients import METHODS
from metawarp.meta_learning.outer_loss import MetaGradient, gradients_of, multi_step_weights
from metawarp.meta_learning.regularizers import REGULARIZERS
from metawarp.meta_learning.second_order import exact_mode
from metawarp.meta_learning.sharing import averaged, require_tasks
from metawarp.model.warp import State, Warp
from metawarp.training.config import RECIPE, TrainingConfig
from metawarp.training.iterates import Iterates
from metawarp.training.reparameterization import Reparameterization
from metawarp.training.run_folder import RunFolder
from metawarp.training.trackers import Report, silent

logger = logging.getLogger(__name__)

OUTER_COPIES = 8
"""Tensors of the prompt's size that a run holds: start, offset, their sum, two moments, best, state, gradient."""


class DivergenceError(InputError):
    """The loss or a meta-gradient is no finite number any more."""


class Trainer:
    """One run of meta-training; build it, then `run()`.

    Args:
        init: where it starts.
        warp: the model, `init.bind(backbone)`.
        sampler: of meta-training episodes; step s takes episodes s·T … s·T + T - 1.
        validation: of validation episodes; 0 … `validation_episodes` - 1 are used each time.
        config: settings of the outer loop.
        folder: where log and checkpoint are written; it must exist.
        classes: names of all meta-training classes (for the method `multitask`).
        seed: of the rows that `multitask` starts them from.
        engine: "metawarp", or "learn2learn" for its algorithms, one task at a time. A run may be resumed by the other.
        learn_rates: whether the inner learning rates are learned (Meta-SGD, LSLR) or fixed.
        description: whatever else a resumed run must have in common with the one it continues.
    """

    def __init__(
        self,
        init: Init,
        warp: Warp,
        sampler: Sampler,
        validation: Sampler,
        config: TrainingConfig,
        folder: Path,
        *,
        classes: Sequence[str] = (),
        seed: int = 0,
        engine: str = "metawarp",
        learn_rates: bool = True,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        self.init, self.warp, self.sampler, self.validation = init, warp, sampler, validation
        self.config, self.files, self.classes = config, RunFolder(folder), classes
        self.method = METHODS[init.method]
        config.require_method(init.method, warp, init.inner)
        require_engine(engine, init.method, config.second_order)
        require_tasks(config.meta_batch)
        self.engine = engine
        self.mode: str | None = None
        start = init.to(warp.backbone)
        if self.method.class_rows:
            generator = generator_of(seed, "class rows")
            rows = torch.randn(len(classes), warp.row_size, generator=generator)
            start["class_rows"] = warp.unit(rows).to(start["prompt"])
        self.best: State = {name: tensor.clone() for name, tensor in start.items()}
        self.reparameterization = Reparameterization(config.reparameterization, warp.form, start["prompt"], seed)
        rates = config.learning_rates(start, inner_too=learn_rates) | self.reparameterization.rates(config.lr)
        start |= self.reparameterization.start()
        self.iterates = Iterates(start, rates, config.weight_decay, config.clip)
        self.step, self.best_step, self.best_accuracy, self.start_accuracy = 0, 0, -1.0, -1.0
        self.settings = {**asdict(config), "recipe": RECIPE, "method": init.method, **(description or {})}

    def run(self, *, resume: bool = False, report: Report = silent) -> Init:
        """Train to the end, or until validation has not improved for `patience` validations.

        Args:
            resume: go on from the folder's checkpoint; the result is that of an uninterrupted run, up to rounding.
            report: told the numbers of each step, and the step.

        Returns:
            The init that was best on the validation episodes.

        Raises:
            DivergenceError: loss or meta-gradient not finite; the last checkpoint stays as it is.
            InputError: the checkpoint is of a run with other settings.
        """
        own = processes.share(self.config.meta_batch)
        tasks = self._tasks(0, own if self.engine == "metawarp" else own[:1])
        second_order = self.method.order == 2
        told = require_room(self.warp, tasks, self.init.inner, beside=OUTER_COPIES, second_order=second_order)
        if told:
            logger.info("memory: %s", told)
        if resume:
            self._restore()
        else:
            if has_modes(self.engine, self.init.method, self.warp, self.init.inner):
                asked, tasks = self.config.second_order, self._tasks(0, range(self.config.meta_batch))
                self.mode = processes.by_main(lambda: exact_mode(asked, self.warp, tasks, self.init.inner))
            self.files.clear()  # resuming before the first checkpoint must not find that of the run written over
            self._save()
        if self.best_accuracy < 0:
            self.start_accuracy = self._validate()
        hidden = None if processes.is_main() else True
        bar = tqdm(total=self.config.steps, initial=self.step, desc=self.init.method, unit="step", disable=hidden)
        with bar:
            while self.step < self.config.steps and not self._is_stale():
                began = time.perf_counter()
                found = self._advance()
                tasks_per_second = self.config.meta_batch / (time.perf_counter() - began)
                entry: dict[str, Any] = {
                    "step": self.step,
                    "loss": float(found.losses.mean()),
                    "accuracy": found.accuracy,
                    "tasks_per_second": round(tasks_per_second, 3),
                }
                if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
                    entry["validation_accuracy"] = self._validate()
                self.files.log(entry)
                report(entry, self.step)
                if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                    self._save()
                bar.update()
                bar.set_postfix_str(
                    f"loss {entry['loss']:.3f}, validation {self.best_accuracy:.1%}, {tasks_per_second:.1f} tasks/s"
                )
        return self._result()

    def _is_stale(self) -> bool:
        return self.step - self.best_step >= self.config.patience * self.config.validate_every

    def _tasks(self, step: int, numbers: Iterable[int]) -> TaskBatch:
        """Some of the T tasks of one outer step."""
        first = step * self.config.meta_batch
        episodes = [self.sampler[first + i] for i in numbers]
        return TaskBatch.encode(episodes, self.warp.encoder, self.warp.backbone.device, classes=self.classes)

    def _advance(self) -> MetaGradient:
        """One outer step."""
        config = self.config
        tasks = self._tasks(self.step, processes.share(config.meta_batch))
        weights = None
        if config.multi_step_loss:
            weights = multi_step_weights(self.init.inner.steps, 2 * self.step / config.steps)
        gradient = gradient_by(self.engine, self.init.method, self.mode)
        learned = self.iterates.state()
        state = self._init_of(learned)
        found = gradient(self.warp, state, tasks, self.init.inner, weights)
        if config.regularizer != "none":
            found = self._regularized(found, state, tasks)
        found = replace(found, gradients=self.reparameterization.pulled_back(found.gradients, learned))
        found = averaged(found, len(tasks.query), config.meta_batch)
        norm = self.iterates.take(found.gradients)
        if not (torch.isfinite(found.losses).all() and torch.isfinite(norm)):
            raise DivergenceError(
                f"training diverged at step {self.step + 1} (loss {float(found.losses.mean()):.3g}, norm of the "
                f"meta-gradient {float(norm):.3g}); lower --training.lr, --inner_lr.prompt or --inner_lr.rows. "
                "Then start anew with --overwrite. The last checkpoint in "
                f"{str(self.files.folder)!r} is kept until then."
            )
        self.iterates.step(config.rate(self.step))
        self.step += 1
        return found

    def _init_of(self, learned: State) -> State:
        """What the outer loop moves, as an init whose gradients are asked for."""
        folded = self.reparameterization.folded(learned)
        return {name: tensor.detach().requires_grad_(tensor.requires_grad) for name, tensor in folded.items()}

    def _regularized(self, found: MetaGradient, state: State, tasks: TaskBatch) -> MetaGradient:
        config = self.config
        loss = REGULARIZERS[config.regularizer](self.warp, state, tasks, config.regularizer_size)
        slope = gradients_of(config.regularizer_weight * loss, state)
        return replace(found, gradients={name: own + slope[name] for name, own in found.gradients.items()})

    def _validate(self) -> float:
        """Accuracy of the mean state since the validation before, on the validation episodes; the best one is kept."""
        with torch.no_grad():
            state = self.reparameterization.folded(self.iterates.take_mean())
        predictor = metawarp_predictor(self.warp, state, self.init.inner)
        accuracy = float(score(predictor, self.validation, self.config.validation_episodes).accuracy.mean())
        if accuracy > self.best_accuracy:
            self.best, self.best_step, self.best_accuracy = state, self.step, accuracy
        return accuracy

    def _best_temperature(self) -> Temperature:
        """Of the best state, on the validation episodes."""
        predictor = metawarp_predictor(self.warp, self.best, self.init.inner)
        episodes = [self.validation[i] for i in range(self.config.validation_episodes)]
        labels, shots = zip(*((e.query_labels, float(np.mean(e.shots))) for e in episodes), strict=True)
        return best_temperature(list(predictor(episodes)), labels, shots)

    def _save(self) -> None:
        progress = {
            "step": self.step,
            "best_step": self.best_step,
            "best_accuracy": self.best_accuracy,
            "start_accuracy": self.start_accuracy,
            "mode": self.mode,  # a resumed run does not choose again: both ways agree, but not to the last bit
            "settings": self.settings,
        }
        self.files.save({"best": self.best, **self.iterates.tensors()}, progress)

    def _restore(self) -> None:
        groups, progress = self.files.load(self.warp.backbone.device)
        before, now = progress["settings"], json.loads(json.dumps(self.settings))
        if before != now:
            differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
            raise InputError(
                f"the run in {str(self.files.folder)!r} has other settings: {', '.join(differing)}; "
                "resume it with the settings that it was started with."
            )
        self.step, self.best_step, self.mode = progress["step"], progress["best_step"], progress["mode"]
        self.best_accuracy, self.start_accuracy = progress["best_accuracy"], progress["start_accuracy"]
        self.best = groups["best"]
        self.iterates.restore(groups, self.step)
        self.files.cut_log(self.step)

    def _result(self) -> Init:
        tensors = {name: tensor.float().cpu() for name, tensor in self.best.items() if name != "class_rows"}
        training = {
            **self.settings,
            "steps_run": self.step,
            "best_step": self.best_step,
            "validation_accuracy": round(self.best_accuracy, 6),
            "validation_accuracy_of_start": round(self.start_accuracy, 6),
        }
        return replace(self.init, tensors=tensors, training=training, temperature=self._best_temperature())
