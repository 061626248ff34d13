"""Which adapter, inner loss and start adapt a task best, after some numbers of steps.

    python -m benchmarks.adapting --data FOLDER --corpus trec tweets_emotion --adapter lora prefix --loss ridge
    python -m benchmarks.adapting --data FOLDER --corpus trec tweets_emotion --init FOLDER

The corpora are those of `benchmarks.draws`. The start is one that nobody trained, or a learned init. Prints the mean
accuracy on the test texts after each number of steps, and the seconds of all steps.
"""

import argparse
import itertools
import time
from dataclasses import replace
from typing import get_args

import numpy as np
import torch

from benchmarks.draws import Draw, add_draw_options, draws
from benchmarks.report.tables import Rows
from metawarp.adaptation.inner_steps import InnerSteps
from metawarp.adaptation.trajectory import inner_steps
from metawarp.backbones.backbone import Backbone, twice_differentiable
from metawarp.config import AdapterName, InnerLearningRates, InnerLoop, InnerLossName
from metawarp.inits.defaults import general
from metawarp.inits.init import Init
from metawarp.parameters import InitParameters, TaskParameters, mapped, tensors_of
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch
from metawarp.warp import Warp

TEMPLATE = "topic : {text}"
OF_SOFT_TOKENS = ("prompt", "deep_prompt", "prefix", "prompt_pool")


def fresh_init(
    backbone: Backbone, adapter: AdapterName, size: int | None, layer: int, inner: InnerLoop, rate: float
) -> Init:
    """An init that nobody trained, with the read-out and the regression of the general init."""
    learned = general(backbone)
    template = "{prompt:8} " * (adapter in OF_SOFT_TOKENS) + TEMPLATE
    sizes = {"adapter": adapter, "adapter_size": size, "adapter_layer": layer}
    warp = Warp(backbone, replace(learned.config, template=template, **sizes))
    init, tensors = Init.start(warp, inner, rates=InnerLearningRates(adapter=rate)), tensors_of(learned.parameters)
    kept = {name: tensors[name] for name in (*warp.verbalizer.scalars, "read_out_logits")}
    return replace(init, parameters=replace(init.parameters, **kept))


def learned_init(backbone: Backbone, folder: str, inner: InnerLoop, rate: float) -> Init:
    """A learned init; with fixed step lengths if it has learned none, or others than those of the inner loop."""
    learned = Init.from_pretrained(folder)
    init = Init.start(learned.bind(backbone), inner, rates=InnerLearningRates(adapter=rate))
    tensors = tensors_of(learned.parameters)
    if learned.inner.loss != inner.loss:
        tensors = {name: value for name, value in tensors.items() if "adapter_lr" not in name and "loss" not in name}
    return replace(init, parameters=replace(init.parameters, **tensors))


def accuracies(warp: Warp, parameters: InitParameters, inner: InnerLoop, draw: Draw, marks: list[int]) -> list[float]:
    """Accuracy in percent after each number of steps in `marks`, and the seconds of all steps."""
    tasks = TaskBatch.encode([draw.examples.episode], warp.encoder)
    steps, found, seconds = inner_steps(warp, parameters, tasks, inner), [], 0.0
    truth = np.array([draw.examples.classes.index(label) for label in draw.labels])
    current, _ = steps.begin()
    for number in range(max(marks) + 1):
        if number in marks:
            found.append(100 * float((_predicted(warp, steps, current, draw.texts) == truth).mean()))
        start = time.perf_counter()
        if number < max(marks):
            with twice_differentiable(False):
                current, _ = steps.step(current, tasks.support, number)
            current = replace(current, adapter=current.adapter.detach().requires_grad_())
        seconds += time.perf_counter() - start
    return [*found, seconds]


@torch.no_grad()
def _predicted(warp: Warp, steps: InnerSteps, current: TaskParameters, texts: list[str]) -> np.ndarray:
    """Index of the predicted class of each text, from the parameters after a step."""
    (finished, _), batch = steps.finish(mapped(current, torch.Tensor.detach)), warp.encoder(texts)
    features = warp.read(finished, batch, torch.zeros(len(batch), dtype=torch.long))
    return warp.verbalizer.logits(features, finished.class_embeddings[0], finished.scale).argmax(1).numpy()


def main() -> None:
    """Measure every combination, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_draw_options(parser)
    parser.add_argument("--adapter", nargs="+", default=["lora"], choices=get_args(AdapterName))
    parser.add_argument("--loss", nargs="+", default=["class_means"], choices=get_args(InnerLossName))
    parser.add_argument("--init", nargs="+", default=[], help="learned inits, instead of a start that nobody trained")
    parser.add_argument("--rate", nargs="+", type=float, default=[0.01], help="length of a step")
    parser.add_argument("--size", type=int, default=4, help="rank of lora, or number of prompts")
    parser.add_argument("--layer", type=int, default=2, help="first layer that the adapter changes")
    parser.add_argument("--k-shot", type=int, default=10, help="texts per class")
    parser.add_argument("--steps", nargs="+", type=int, default=[0, 5, 10], help="numbers of steps")
    options = parser.parse_args()
    backbone = Backbone.load(options.backbone)
    header = ["corpus", "start", "loss", "rate", *(f"{n} steps" for n in options.steps), "seconds"]
    print(Rows(header, []).markdown, flush=True)
    grid = itertools.product(options.corpus, options.init or options.adapter, options.loss, options.rate)
    for corpus, start, loss, rate in grid:
        inner = InnerLoop(max(options.steps), ("adapter",), loss)
        size = options.size if start in ("lora", "prompt_pool") else None
        if options.init:
            init = learned_init(backbone, start, inner, rate)
        else:
            init = fresh_init(backbone, start, size, options.layer, inner, rate)
        warp, parameters = init.bind(backbone, cache=FeatureCache()), init.on(backbone)
        tasks = draws(options.data, corpus, options.k_shot, options.draws, options.tests)
        means = np.mean([accuracies(warp, parameters, inner, draw, options.steps) for draw in tasks], axis=0)
        cells = [corpus, start, loss, f"{rate:g}", *(f"{mean:.1f}" for mean in means)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
