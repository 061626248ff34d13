"""The outer loop: the init moves along meta-gradients; the best one by validation is kept; a killed run resumes."""

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from episodes.errors import InputError, require_choice
from episodes.sampler import Sampler
from episodes.schemas import Strict, parsed
from metawarp.adaptation.memory import require_memory
from metawarp.errors import DivergenceError
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.scores import mean_accuracy
from metawarp.inits.init import Init
from metawarp.meta_learning.engine import ENGINES, EngineName
from metawarp.meta_learning.meta_gradient import MetaBatch, SecondOrder, gradients_of, last_step
from metawarp.meta_learning.multi_step_loss import multi_step
from metawarp.meta_learning.regularizer import REGULARIZERS
from metawarp.meta_learning.second_order import choose_second_order
from metawarp.meta_learning.sharing import averaged, require_tasks
from metawarp.meta_learning.table import METHODS, MethodName
from metawarp.parameters import InitParameters, mapped, tensors_of
from metawarp.processes import SINGLE, Processes
from metawarp.randomness import generator_for
from metawarp.texts.task_batch import TaskBatch
from metawarp.training.calibration import calibrated
from metawarp.training.config import RECIPE, TrainingConfig
from metawarp.training.optimizer import OuterOptimizer
from metawarp.training.reparameterization import Reparameterization
from metawarp.training.run_folder import CHECKPOINT, RunFolder, TensorGroups
from metawarp.training.trackers import Report, no_report
from metawarp.warp import Warp

logger = logging.getLogger(__name__)

OUTER_COPIES = 8
"""Tensors of the adapter's size that a run holds: start, offset, sum, two moments, best, current, gradient."""


@dataclass(frozen=True)
class Progress(Strict):
    """The attributes of a trainer that a checkpoint holds beside tensors. How second order is computed is one of them,
    because a resumed run must not choose again: both ways agree, but not to the last bit."""

    step: int
    best_step: int
    best_accuracy: float
    start_accuracy: float
    second_order: SecondOrder | None
    settings: dict[str, Any]


class Trainer:
    """One run of meta-training, with log and checkpoint in an existing folder; create it, then call `run()`.

    Args:
        sampler: sampler of training episodes; step s uses the episodes s·T … s·T + T - 1.
        validation: sampler of validation episodes; 0 … `validation_episodes` - 1 are used each time.
        corpus_classes: names of all meta-training classes, for the method "multitask".
        engine: engine of the meta-gradients; a run of one engine may be resumed by the other.
        record: everything else that a resumed run must have in common with the run that it continues.
    """

    def __init__(
        self,
        init: Init,
        method: MethodName,
        warp: Warp,
        sampler: Sampler,
        validation: Sampler,
        config: TrainingConfig,
        folder: Path,
        *,
        corpus_classes: Sequence[str] = (),
        seed: int = 0,
        engine: EngineName = "metawarp",
        learn_inner_rates: bool = True,
        record: Mapping[str, Any] | None = None,
        processes: Processes = SINGLE,
    ) -> None:
        self.init, self.warp, self.sampler, self.validation = init, warp, sampler, validation
        self.config, self.corpus_classes, self.processes = config, corpus_classes, processes
        require_choice("engine", engine, ENGINES)
        self.files, self.method, self.engine = RunFolder(folder, processes), METHODS[method], ENGINES[engine]
        config.require_method(method, warp, init.inner)
        self.engine.require(method, init.inner)
        require_tasks(processes, config.meta_batch_size)
        start = init.on(warp.backbone)
        if self.method.learns_corpus_classes:
            generator = generator_for(seed, "class rows")  # part of the seed of published trainings
            embeddings = torch.randn(len(corpus_classes), warp.class_embedding_size, generator=generator)
            start = replace(start, corpus_class_embeddings=normalize(embeddings, dim=-1).to(start.adapter))
        self.best = mapped(start, torch.clone)
        self.reparameterization = Reparameterization(config.reparameterization, warp.adapter, start.adapter, seed)
        tensors = tensors_of(start) | self.reparameterization.start()
        rates = config.learning_rates(start, learn_inner=learn_inner_rates)
        rates |= self.reparameterization.learning_rates(config.lr)
        self.optimizer = OuterOptimizer(tensors, rates, config.weight_decay, config.max_grad_norm)
        self.second_order: SecondOrder | None = None
        self.step, self.best_step, self.best_accuracy, self.start_accuracy = 0, 0, -1.0, -1.0
        self.settings = {**asdict(config), "recipe": RECIPE, "method": method, **(record or {})}

    def run(self, *, resume: bool = False, report: Report = no_report) -> Init:
        """Train to the end, or until validation has not improved for `patience` validations; returns the best init.

        A resumed run continues from the folder's checkpoint, and ends like an uninterrupted one, up to rounding.
        InputError if that run has other settings; DivergenceError if the loss or the meta-gradient is not finite.
        """
        self._require_memory()
        if resume:
            self._restore()
        else:
            self._choose_second_order()
            self.files.clear()  # a resume before the first checkpoint must not find that of an earlier run
            self._save()
        if self.best_accuracy < 0:
            self.start_accuracy = self._validate()
        config, no_bar = self.config, None if self.processes.is_main else True
        patience = config.patience * config.validate_every
        with tqdm(total=config.steps, initial=self.step, desc=self.init.method, unit="step", disable=no_bar) as bar:
            while self.step < config.steps and self.step - self.best_step < patience:
                began = time.perf_counter()
                losses, accuracy = self._advance()
                loss, speed = float(losses.mean()), config.meta_batch_size / (time.perf_counter() - began)
                entry = {"step": self.step, "loss": loss, "accuracy": accuracy, "tasks_per_second": round(speed, 3)}
                is_last = self.step == config.steps
                if is_last or self.step % config.validate_every == 0:
                    entry["validation_accuracy"] = self._validate()
                self.files.log(entry)
                report(entry, self.step)
                if is_last or self.step % config.checkpoint_every == 0:
                    self._save()
                bar.update()
                bar.set_postfix_str(f"loss {loss:.3f}, validation {self.best_accuracy:.1%}, {speed:.1f} tasks/s")
        return self._result()

    def _tasks(self, step: int, numbers: Iterable[int]) -> TaskBatch:
        """Some of the T tasks of one outer step."""
        episodes = [self.sampler[step * self.config.meta_batch_size + i] for i in numbers]
        encoder, device = self.warp.encoder, self.warp.backbone.device
        return TaskBatch.encode(episodes, encoder, device, corpus_classes=self.corpus_classes)

    def _require_memory(self) -> None:
        own, second_order = self.processes.share(self.config.meta_batch_size), self.method.order == 2
        tasks = self._tasks(0, own if self.engine.processes_tasks_together else own[:1])
        inner, copies = self.init.inner, OUTER_COPIES
        if estimate := require_memory(self.warp, tasks, inner, n_other_copies=copies, second_order=second_order):
            logger.info("memory: %s", estimate)

    def _choose_second_order(self) -> None:
        inner, size = self.init.inner, self.config.meta_batch_size
        if self.method.order == 2 and self.engine.processes_tasks_together and self.warp.reads_again(inner):
            arguments = self.config.second_order, self.warp, self._tasks(0, range(size)), inner, self.processes
            self.second_order = self.processes.by_main(lambda: choose_second_order(*arguments))

    def _advance(self) -> tuple[Tensor, float]:
        """One outer step; returns the losses (T,) of its tasks, and the accuracy over their queries."""
        config, learned, size = self.config, self.optimizer.tensors(), self.config.meta_batch_size
        tasks = self._tasks(self.step, self.processes.share(size))
        folded = InitParameters(**self.reparameterization.folded(learned))
        init = mapped(folded, lambda tensor: tensor.detach().requires_grad_(tensor.requires_grad))
        gradients, losses, accuracy = self._meta_gradient(init, tasks)
        gradients = self.reparameterization.unfolded_gradients(gradients, learned)
        gradients, losses, accuracy = averaged(gradients, losses, accuracy, len(tasks.query), size, self.processes)
        norm = self.optimizer.set_gradients(gradients)
        if not (torch.isfinite(losses).all() and torch.isfinite(norm)):
            sizes = f"loss {float(losses.mean()):.3g}, norm of the meta-gradient {float(norm):.3g}"
            advice = "Lower lr or inner_lr, and start again with overwrite=True"
            kept = f"the last checkpoint in {str(self.files.folder)!r} is kept until then"
            raise DivergenceError(f"The training diverged at step {self.step + 1} ({sizes}). {advice}; {kept}.")
        self.optimizer.step(config.schedule(self.step))
        self.step += 1
        return losses, accuracy

    def _meta_gradient(self, init: InitParameters, tasks: TaskBatch) -> tuple[dict[str, Tensor], Tensor, float]:
        """Gradients of the outer loss with its regularizer, losses and accuracy of the tasks of this process."""
        config, steps = self.config, self.init.inner.inner_steps
        is_multi_step, progress = config.query_loss == "multi_step", 2 * self.step / config.steps
        weights = multi_step(steps, progress) if is_multi_step else last_step(steps)
        batch = MetaBatch(self.warp, tasks, self.init.inner, weights, self.second_order or "recompute")
        meta_gradient = self.engine.meta_gradient(self.method, init, batch)
        gradients = tensors_of(meta_gradient.gradients)
        if config.regularizer != "none":
            loss = REGULARIZERS[config.regularizer](self.warp, init, tasks, config.regularizer_epsilon)
            added = tensors_of(gradients_of(config.regularizer_weight * loss, init))
            gradients = {name: gradient + added[name] for name, gradient in gradients.items()}
        return gradients, meta_gradient.losses, meta_gradient.accuracy

    def _validate(self) -> float:
        """Validation accuracy of the mean of the inits since the last validation; the best one is kept."""
        with torch.no_grad():
            init = InitParameters(**self.reparameterization.folded(self.optimizer.take_mean()))
        predictor, number = metawarp_predictor(self.warp, init, self.init.inner), self.config.validation_episodes
        accuracy = mean_accuracy(predictor, self.validation, number, self.processes)
        if accuracy > self.best_accuracy:
            self.best, self.best_step, self.best_accuracy = init, self.step, accuracy
        return accuracy

    def _save(self) -> None:
        progress = Progress(**{field.name: getattr(self, field.name) for field in fields(Progress)})
        self.files.save(self._tensors(), asdict(progress))

    def _tensors(self) -> TensorGroups:
        return {"best": tensors_of(self.best), **self.optimizer.state()}

    def _restore(self) -> None:
        groups, stored = self.files.load(self.warp.backbone.device)
        progress = parsed(Progress, stored, f"{CHECKPOINT} in {str(self.files.folder)!r}")
        before, now = progress.settings, json.loads(json.dumps(self.settings))
        compared = (before.keys() | now.keys()) - {"corpus"}  # it may lie elsewhere now; its fingerprint is compared
        if differing := sorted(key for key in compared if before.get(key) != now.get(key)):
            folder, names = str(self.files.folder), ", ".join(differing)
            raise InputError(f"The run in output={folder!r} has other settings: {names}; resume it with its own.")
        if _shapes(groups) != _shapes(self._tensors()):
            problem = f"{CHECKPOINT} in {str(self.files.folder)!r} is damaged: it has other tensors than this training"
            raise InputError(f"{problem}; start again with overwrite=True.")
        self.step, self.best_step, self.second_order = progress.step, progress.best_step, progress.second_order
        self.best_accuracy, self.start_accuracy = progress.best_accuracy, progress.start_accuracy
        self.best = InitParameters(**groups["best"])
        self.optimizer.restore(groups, self.step)
        self.files.cut_log(self.step)

    def _result(self) -> Init:
        """The best init with its record, calibrated on the validation episodes."""
        best, start = round(self.best_accuracy, 6), round(self.start_accuracy, 6)
        training = {**self.settings, "steps_run": self.step, "best_step": self.best_step}
        training |= {"validation_accuracy": best, "validation_accuracy_of_start": start}
        parameters = mapped(replace(self.best, corpus_class_embeddings=None), lambda tensor: tensor.float().cpu())
        init = replace(self.init, parameters=parameters, training=training)
        return calibrated(self.warp, init, [self.validation[i] for i in range(self.config.validation_episodes)])


def _shapes(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, tuple[int, ...]]:
    return {f"{group}/{name}": tuple(t.shape) for group, members in groups.items() for name, t in members.items()}
