"""Let an init learn what unlabelled texts count, without training it again.

    python -m benchmarks.kinds --data FOLDER --output runs/kinds --made
    python -m benchmarks.soft_labels --init general --kinds runs/kinds --output runs/general

The scalars that soft labels depend on follow the gradient of the loss of the queries, through all rounds of the fit.
The episodes have 2 to 30 classes of one corpus, 0 to 10 labelled texts per class, and 15 to 500 unlabelled texts. In
half of the episodes, 30 % of these belong to no class, and in half, the most frequent class has 20 times as many texts
as the rarest. All other numbers of the init stay as they are. Each text is read once, which takes longest. An init with
gradient steps reads each text with updates of its own; give it the numbers of `general` with --scalars-of.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.report.tables import Rows
from episodes import Corpus, Episode
from episodes.sampler import MixtureSampler, Sampler
from metawarp.adaptation.own_temperature import at_best_temperatures
from metawarp.adaptation.start import class_embeddings_of, logits_of, read_examples, read_texts, shared_parameters
from metawarp.backbones.backbone import Backbone
from metawarp.inits.defaults import init_and_backbone
from metawarp.inits.init import Init
from metawarp.parameters import InitParameters, tensors_of
from metawarp.texts.feature_cache import FeatureCache
from metawarp.texts.task_batch import TaskBatch
from metawarp.training.data import EpisodeSettings, TrainingData
from metawarp.verbalizers.soft_labels import SOFT_LABELS
from metawarp.warp import Warp

EPISODES_PER_STEP, LR = 4, 0.05


def episodes_of(kinds: Path, seed: int = 0) -> Sampler:
    """Training episodes with pools of unlabelled texts of all kinds."""
    corpus = Corpus.load(kinds / "data.jsonl", domain_column="domain")
    data = TrainingData.load([corpus], [kinds / "splits.json"], seed)
    settings = EpisodeSettings((2, 30), (0, 10), 5, seed, within_domains=1.0, n_unlabelled=(15, 500))
    pools = product((0.0, 0.3), (1.0, 20.0))
    samplers = [data.sampler(replace(settings, distractors=share, skew=skew)) for share, skew in pools]
    return MixtureSampler(samplers, seed=seed)


def loss_of(warp: Warp, init: InitParameters, episode: Episode) -> Tensor:
    """Loss of the queries of an episode, at the temperature that suits them best: each task finds its own."""
    tasks, parameters = TaskBatch.encode([episode], warp.encoder), shared_parameters(init)
    with torch.no_grad():
        examples, queries = read_examples(warp, parameters, tasks), read_texts(warp, parameters, tasks.query)
    fitted = replace(parameters, class_embeddings=class_embeddings_of(warp, init, tasks, examples))
    logits, label = logits_of(warp, fitted, queries, tasks.query, tasks), tasks.query.label
    temperature, _ = at_best_temperatures(logits.detach()[None], label, tasks.query.task, torch.ones(1))
    return cross_entropy(logits / temperature[0], label)


def learned(warp: Warp, init: InitParameters, sampler: Sampler, steps: int) -> dict[str, Tensor]:
    """The scalars after so many steps of Adam, whose learning rate falls to zero."""
    scalars = {name: init.log_scale.new_tensor(value).requires_grad_() for name, value in SOFT_LABELS.items()}
    optimizer = torch.optim.Adam(list(scalars.values()), lr=LR)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for step in range(steps):
        optimizer.zero_grad()
        for i in range(EPISODES_PER_STEP):
            episode = sampler[step * EPISODES_PER_STEP + i]
            loss = loss_of(warp, replace(init, **scalars), episode)
            (loss / EPISODES_PER_STEP).backward()
        torch.nn.utils.clip_grad_norm_(list(scalars.values()), 1.0)
        optimizer.step()
        schedule.step()
    return {name: value.detach() for name, value in scalars.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the init with the scalars that it has learned, and print these."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", required=True, help="name or folder of an init")
    parser.add_argument("--backbone", default=None, help="name or folder of a backbone, if it is not that of the init")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--kinds", type=Path, help="folder that benchmarks.kinds wrote")
    source.add_argument("--scalars-of", help="an init that has learned them")
    parser.add_argument("--steps", type=int, default=150, help="number of steps")
    parser.add_argument("--output", type=Path, required=True, help="folder for the init")
    options = parser.parse_args(arguments)
    init, backbone = init_and_backbone(options.init, options.backbone, Backbone.load)
    if options.scalars_of is None:
        warp = init.bind(backbone, cache=FeatureCache())
        scalars = learned(warp, init.on(backbone), episodes_of(options.kinds), options.steps)
    else:
        other = tensors_of(Init.from_pretrained(options.scalars_of).parameters)
        scalars = {name: other[name] for name in SOFT_LABELS}
    replace(init, parameters=replace(init.parameters, **scalars)).save(options.output)
    print(Rows(["scalar", "value"], [[name, f"{value:.3f}"] for name, value in scalars.items()]).markdown)


if __name__ == "__main__":
    main()
