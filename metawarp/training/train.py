"""Meta-train an init on labelled corpora."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from episodes import Corpus
from episodes.paths import user_path
from episodes.protocol import SplitSource
from episodes.sampler import Range
from metawarp.backbones.backbone import TOKENS_PER_PASS, Backbone
from metawarp.config import InnerLearningRates, InnerLossName, WarpConfig
from metawarp.inits.init import Init
from metawarp.meta_learning.engine import EngineName
from metawarp.meta_learning.table import DEFAULT_METHOD, MethodName, inner_loop
from metawarp.output_folder import UNFINISHED
from metawarp.processes import SINGLE, Processes
from metawarp.texts.feature_cache import FeatureCache
from metawarp.training.config import TrainingConfig
from metawarp.training.data import EpisodeSettings, Source, TrainingData
from metawarp.training.outer_loop import Trainer
from metawarp.training.run_output import begin_run, claim_run, continue_run, end_run, require_checkpoint
from metawarp.training.trackers import require_tracker, tracked
from metawarp.warp import Warp


def train(
    corpus: Source | Sequence[Source],
    output: str,
    *,
    splits: SplitSource | Sequence[SplitSource] | None = None,
    start: str | Path | Init | None = None,
    backbone: str | Backbone = "minilm",
    device: str = "cpu",
    dtype: str = "float32",
    prompt: str | None = None,
    max_tokens: int = TOKENS_PER_PASS,
    cache_folder: str | None = None,
    method: MethodName = DEFAULT_METHOD,
    n_way: Range = 5,
    k_shot: Range = (0, 5),
    n_query: int = 10,
    balanced: bool = True,
    within_domains: float = 0.0,
    n_unlabelled: Range = 0,
    distractors: float = 0.0,
    skew: float = 1.0,
    seed: int = 0,
    engine: EngineName = "metawarp",
    inner_steps: int | None = None,
    inner_loss: InnerLossName = "support",
    inner_lr: InnerLearningRates | None = None,
    model: WarpConfig | None = None,
    training: TrainingConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
    log_with: str | None = None,
    processes: Processes = SINGLE,
) -> Init:
    """Meta-train an init; returns the best by validation, which is written into `output` beside split, log, checkpoint.

    Args:
        corpus: a corpus, or the file or name of one with the columns "text" and "label"; or several.
        output: folder for init, class split, log and checkpoint.
        splits: path of a splits.json, or its content, one for each corpus; None: the split of a bundled corpus, or 60,
            15 and 25 % of the classes at random.
        start: an init, its folder, its name or Hub id, whose numbers the training starts from; None: a fresh one.
        backbone: a loaded backbone, or the name of one; see `Backbone.load`.
        device: device of the backbone.
        dtype: data type of the backbone, such as "float32" or "bfloat16"; "auto": bfloat16 if it is at least 10 %
            faster on this machine, else float32. Learned parameters and losses stay in float32 at least.
        prompt: text that is put before every text, such as "query: ", or the name of one that the backbone comes with;
            None: the prompt of a loaded backbone, and otherwise the model's default, often none; "": no prompt.
        max_tokens: largest number of tokens of one forward pass, padding included.
        cache_folder: folder for the output of the layers below the adapter; None keeps it in memory.
        method: method of meta-learning.
        n_way: number of classes per episode, or a range (low, high).
        k_shot: number of support texts per class, or a range (low, high).
        n_query: number of query texts per class.
        balanced: whether all classes of an episode have the same number of shots; otherwise each draws its own.
        within_domains: share of the episodes whose classes are all from one domain, for corpora with domains.
        n_unlabelled: number of unlabelled texts per episode, or a range (low, high).
        distractors: share of the unlabelled texts that belong to no class of the episode.
        skew: how many times as many unlabelled texts the most frequent class has as the rarest one.
        seed: seed of class split, episodes and random starts.
        engine: engine of the meta-gradients: "metawarp", or "learn2learn", one task at a time with the same result.
        inner_steps: number of gradient steps on a support set; None: the method's own.
        inner_loss: loss of these steps: that of the "support" texts, or a leave-one-out loss, in which each text is
            classified by the other ones: by "class_means", by a "ridge" regression, or one of two "halves" by a ridge
            regression on the other.
        inner_lr: inner learning rates to start from.
        model: settings of the model.
        training: settings of the outer loop.
        resume: whether to continue from the checkpoint in `output`.
        overwrite: whether an earlier run in `output` is replaced.
        log_with: experiment tracker of Accelerate, such as "tensorboard", that receives the numbers of each step.
        processes: processes that share the tasks.

    Raises:
        InputError: the arguments, the corpus or the output folder cannot be used.
        DivergenceError: the training diverged.
        MemoryLimitError: the adapters or the graph do not fit into memory.
        ImportError: backbone "minilm" without its extra, or a tracker that is not installed.
    """
    training, rates, folder = training or TrainingConfig(), inner_lr or InnerLearningRates(), user_path(output)
    inner = inner_loop(method, inner_steps, inner_loss)
    require_tracker(log_with)
    sources = [corpus] if isinstance(corpus, str | Path | Corpus) else corpus
    if isinstance(splits, str | Path | Mapping):
        splits = [splits]
    if resume:
        processes.by_main(lambda: require_checkpoint(folder))
    else:
        processes.by_main(lambda: claim_run(folder, len(sources), overwrite))
    data = TrainingData.load(sources, splits, seed)
    unlabelled = n_unlabelled, distractors, skew
    settings = EpisodeSettings(n_way, k_shot, n_query, seed, balanced, within_domains, *unlabelled)
    sampler, validation = data.sampler(settings), data.validation(settings)
    if isinstance(backbone, Backbone):
        backbone = backbone.with_prompt(prompt)
    else:
        place = processes.device or device
        backbone = Backbone.load(backbone, device=place, dtype=dtype, prompt=prompt, max_tokens=max_tokens)
    warp = Warp(backbone, model or WarpConfig(), FeatureCache())
    warp.encoder.require_known(data.all_words())
    warp.warn_about_truncation(data.texts())
    if cache_folder is not None:
        with processes.one_first():
            warp = warp.with_hidden_states(data.texts(), cache_folder)
    record = data.record() | asdict(settings)
    record |= {"model": asdict(warp.config), "inner": asdict(inner), "inner_lr": asdict(rates)}
    record |= {"backbone": backbone.fingerprint, "dtype": str(backbone.dtype).removeprefix("torch.")}
    fresh = Init.start(warp, inner, method=method, seed=seed, rates=rates)
    if start is not None:
        begun = start if isinstance(start, Init) else Init.from_pretrained(start)
        fresh, record = fresh.continuing(begun), record | {"start": begun.fingerprint}
    trainer = Trainer(
        fresh,
        method,
        warp,
        sampler,
        validation,
        training,
        folder / UNFINISHED,
        corpus_classes=data.class_names()["train"],
        seed=seed,
        engine=engine,
        learn_inner_rates=rates.learned,
        record=record,
        processes=processes,
    )
    with ExitStack() as lock:
        if resume:
            processes.by_main(lambda: continue_run(lock, folder))
        else:
            processes.by_main(lambda: begin_run(lock, folder, data, overwrite))
        with tracked(log_with, folder, trainer.settings) as report:
            init = trainer.run(resume=resume, report=report)
        return replace(init, fingerprint=processes.by_main(lambda: end_run(folder, init)))
