"""Meta-train an init on labelled corpora, from file names to the folder of the init."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from episodes import Corpus
from episodes.sampler import Range
from metawarp import outputs, processes
from metawarp.adaptation.inner_loop import InnerRates
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.protocol import Names
from metawarp.inits.init import Init
from metawarp.meta_learning.meta_gradients import DEFAULT, inner_loop
from metawarp.model.config import WarpConfig
from metawarp.model.warp import Warp
from metawarp.training.config import TrainingConfig
from metawarp.training.data import Source, TrainingData, split_files
from metawarp.training.learning_curve import CURVE
from metawarp.training.outer_loop import Trainer
from metawarp.training.run_folder import CHECKPOINT, LOG
from metawarp.training.trackers import require_tracker, tracked

OWN_INIT = ("init.safetensors", "config.json", "README.md")


def train(
    corpus: Source | Sequence[Source],
    output: str,
    *,
    splits: Names | Sequence[Names] | None = None,
    backbone: str | Backbone = "minilm",
    device: str = "cpu",
    dtype: str = "float32",
    max_tokens: int = Backbone.max_tokens,
    cache: str | None = None,
    method: str = DEFAULT,
    n_way: Range = 5,
    k_shot: Range = (0, 5),
    n_query: int = 10,
    balanced: bool = True,
    within_domains: float = 0.0,
    seed: int = 0,
    engine: str = "metawarp",
    inner_steps: int | None = None,
    inner_lr: InnerRates | None = None,
    warp: WarpConfig | None = None,
    training: TrainingConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
    log_with: str | None = None,
) -> Init:
    """Meta-train an init; the arguments are those of `metawarp train`.

    Args:
        corpus: a corpus, or the file or name of one whose columns are "text" and "label"; or several.
        output: folder for init, class split, log and checkpoint.
        splits: path of a splits.json, or its content, one for each corpus; None: see `protocol.class_split`.
        backbone: a backbone, or what `Backbone.load` takes.
        device: where a backbone that is loaded here runs.
        dtype: of its weights and activations; states and losses stay in float32 at least.
        max_tokens: tokens that it reads in one pass, padding included.
        cache: folder for what the layers below the prompt make of the texts; see `WarpConfig.prompt_layer`.
        method: name of a meta-gradient, of `METHODS`.
        n_way: classes of an episode.
        k_shot: support texts a class.
        n_query: query texts a class.
        balanced: whether the classes of an episode have the same number of shots, or each draws its own.
        within_domains: share of the episodes whose classes are all of one domain, where a corpus knows domains.
        seed: of class split, episodes and starts.
        engine: "metawarp", or "learn2learn", one task at a time; both find the same meta-gradients.
        inner_steps: gradient steps on a support set; None: the method's.
        inner_lr: inner learning rates to start from.
        warp: template, read-out and recipe of the verbalizer rows.
        training: settings of the outer loop.
        resume: go on from the checkpoint in `output`.
        overwrite: write over a run in `output`.
        log_with: name of a tracker of Accelerate, such as "tensorboard", that is told the numbers of each step.

    Returns:
        The best init by validation, as it was written into `output`, beside class split, log and checkpoint.

    Raises:
        InputError: the arguments, the corpus or the output folder cannot be used; training diverged.
        ImportError: backbone "minilm" without its extra, or a tracker that is not installed.
    """
    training, folder = training or TrainingConfig(), Path(output)
    inner, device = inner_loop(method, inner_steps), processes.connect(device)
    require_tracker(log_with)
    corpora = [corpus] if isinstance(corpus, str | Path | Corpus) else corpus
    if isinstance(splits, str | Path | Mapping):
        splits = [splits]
    if not resume:
        processes.by_main(lambda: _claim_run(folder, len(corpora), overwrite))
    data = TrainingData.of(corpora, splits, seed)
    sampler = data.sampler(n_way, k_shot, n_query, seed, balanced=balanced, within_domains=within_domains)
    validation = data.validation(n_way, k_shot, n_query, seed, within_domains=within_domains)
    if not isinstance(backbone, Backbone):
        backbone = Backbone.load(backbone, device=device, dtype=dtype, max_tokens=max_tokens)
    model = Warp(backbone, warp or WarpConfig())
    model.encoder.require_known(data.all_names())
    with processes.one_first():
        model.remember(data.texts(), cache)
    init = Init.start(model, inner, method=method, seed=seed, rates=inner_lr)
    description = {
        **data.describe(),
        "n_way": n_way,
        "k_shot": k_shot,
        "n_query": n_query,
        "balanced": balanced,
        "within_domains": within_domains,
        "seed": seed,
        "warp": asdict(model.config),
        "inner": asdict(inner),
        "inner_lr": asdict(inner_lr or InnerRates()),
        "backbone": model.backbone.fingerprint,
        "dtype": str(model.backbone.dtype).removeprefix("torch."),
    }
    trainer = Trainer(
        init,
        model,
        sampler,
        validation,
        training,
        folder,
        classes=data.class_names()["train"],
        seed=seed,
        engine=engine,
        learn_rates=(inner_lr or InnerRates()).learned,
        description=description,
    )
    with tracked(log_with, folder, trainer.settings) as report:
        if not resume:
            processes.by_main(lambda: _begin_run(folder, data))
        trained = trainer.run(resume=resume, report=report)
    return replace(trained, fingerprint=processes.by_main(lambda: trained.save(folder)))


def _begin_run(folder: Path, data: TrainingData) -> None:
    for name in OWN_INIT:  # an old init beside the new split would be tested on classes that it has seen
        (folder / name).unlink(missing_ok=True)
    outputs.mark(folder, "init")
    data.write_splits(folder)


def _claim_run(folder: Path, n_corpora: int, overwrite: bool) -> None:
    advice = "choose another folder, or --overwrite"
    if (folder / CHECKPOINT).exists():
        advice = "choose another folder, go on with it by --resume, or --overwrite"
    files = [*OWN_INIT, CHECKPOINT, *split_files(n_corpora), LOG, CURVE]
    outputs.claim_folder(folder, files, kind="init", overwrite=overwrite, advice=advice)
