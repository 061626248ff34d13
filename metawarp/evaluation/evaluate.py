"""Evaluate an init on episodes of classes that it has never seen, beside the baselines."""

import functools
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from episodes import Corpus, EpisodeSampler, InputError
from episodes.errors import quoted
from episodes.paths import user_path
from episodes.protocol import Part, tested_classes, validation_sampler
from episodes.sampler import Range, bounds
from episodes.writing import write_text
from metawarp import outputs
from metawarp.backbones.backbone import TOKENS_PER_PASS, Backbone
from metawarp.config import Adapt
from metawarp.evaluation.baselines import BaselineContext, baseline_names, create_baselines
from metawarp.evaluation.predictors import metawarp_predictor
from metawarp.evaluation.scores import INTERVAL, compare, require_interval
from metawarp.evaluation.sentence_baselines import SentenceEncoder
from metawarp.inits.defaults import init_and_backbone
from metawarp.inits.file import BackboneIdentity
from metawarp.inits.init import Init
from metawarp.processes import SINGLE, Processes
from metawarp.texts.feature_cache import FeatureCache

logger = logging.getLogger(__name__)


def evaluate(
    init: str | Path | Init,
    corpus: str | Path | Corpus,
    *,
    output: str | None = None,
    splits: str | Path | None = None,
    split: Part = "test",
    backbone: str | Backbone | None = None,
    any_backbone: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    prompt: str | None = None,
    adapt: Adapt = "auto",
    max_tokens: int = TOKENS_PER_PASS,
    cache_folder: str | None = None,
    n_way: Range = 5,
    k_shot: Range = 1,
    n_query: int = 10,
    n_unlabelled: int = 0,
    distractors: float = 0.0,
    skew: float = 1.0,
    episodes: int = 600,
    seed: int = 0,
    baselines: Sequence[str] = ("all",),
    overwrite: bool = False,
    processes: Processes = SINGLE,
) -> dict[str, Any]:
    """Evaluate an init on episodes, beside baselines on the same episodes.

    Args:
        init: an init, its folder, a Hub id, the name of a shipped init, or "adaptive", "general" or "untrained" for
            those of the backbone.
        corpus: a corpus, or the file or name of one with the columns "text" and "label".
        output: JSON file for the results; None writes none.
        splits: path of a splits.json; None: bundled corpora have a split of their own.
        split: classes to test: "train", "validation", "test" or "all".
        backbone: a loaded backbone, or the name of one (see `Backbone.load`); None: the init's own.
        any_backbone: whether a backbone is allowed that the init was not trained on; its word embeddings and features
            must have the same sizes.
        device: device of the backbone.
        dtype: data type of the backbone, such as "float32" or "bfloat16"; "auto": bfloat16 if it is at least 10 %
            faster on this machine, else float32. Learned parameters and losses stay in float32 at least.
        prompt: text that is put before every text, such as "query: ", or the name of a prompt of the backbone, such as
            "classification". "": no prompt. None: the prompt that the init was trained with; for "adaptive",
            "general" and "untrained", the default prompt of the backbone.
        adapt: number of inner steps. "none": no steps. "auto": the number that the init was trained with; if it has a
            leave-one-out loss, cross-validation on the support texts also decides how much of the change is kept.
        max_tokens: largest number of tokens of one forward pass, padding included.
        cache_folder: folder for the output of the layers below the adapter; None keeps it in memory.
        n_way: number of classes per episode, or a range (low, high).
        k_shot: number of support texts per class, or a range (low, high).
        n_query: number of query texts per class.
        n_unlabelled: number of unlabelled texts per episode.
        distractors: share of the unlabelled texts that belong to no class of the episode.
        skew: how many times as many unlabelled texts the most frequent class has as the rarest one.
        episodes: number of episodes.
        seed: seed of the episodes and of random starts.
        baselines: "all", "none", or names of baselines.
        overwrite: whether an existing output file is replaced.
        processes: processes that share the episodes.

    Returns:
        {"protocol": …, "methods": {"metawarp": {"accuracy", "ci95", "macro_f1", "calibration_error", "per_episode"},
        …}, "paired": …}, as it is written into `output`.

    Raises:
        InputError: the arguments, the corpus, the init or the output file cannot be used.
        ImportError: backbone "minilm" or baseline "setfit" without its extra.
    """
    require_interval(episodes)
    if output is not None:
        processes.by_main(lambda: outputs.claim_file(user_path(output), overwrite=overwrite))
    loaded = corpus if isinstance(corpus, Corpus) else Corpus.load(corpus)
    parts, tested = tested_classes(loaded, splits, split)
    unlabelled = {"n_unlabelled": n_unlabelled, "distractors": distractors, "skew": skew}
    sampler = EpisodeSampler(tested, n_way, k_shot, n_query, seed, **unlabelled)
    if bounds(k_shot)[0] == 0 and (unnamed := tested.unnamed):
        problem = f"k_shot={k_shot} needs class names that carry meaning, and these do not: {quoted(unnamed, 3)}"
        raise InputError(f"{problem}; raise k_shot.")
    load = functools.partial(Backbone.load, device=processes.device or device, dtype=dtype, max_tokens=max_tokens)
    loaded_init, backbone = init_and_backbone(init, backbone, load, prompt)
    cache, texts = FeatureCache(), [*tested.texts, *filter(None, tested.class_words)]
    warp = loaded_init.bind(backbone, any_backbone=any_backbone, cache=cache)
    warp.encoder.require_known(tested.class_words)
    warp.warn_about_truncation(texts)
    if cache_folder is not None:
        with processes.one_first():
            warp = warp.with_hidden_states(texts, cache_folder)
    low, high = bounds(k_shot)
    encode = SentenceEncoder(backbone, warp.config.max_length, warp.config.stride, cache)
    validation = parts and functools.cache(lambda shots: validation_sampler(parts, n_way, shots, n_query, seed))
    shots = range(low, high + 1)
    context = BaselineContext(warp, loaded_init, encode, shots, validation, seed=seed, processes=processes)
    requested = [baselines] if isinstance(baselines, str) else baselines
    others, chosen = create_baselines(baseline_names(requested, low, processes), context)
    inner, chooses = loaded_init.inner_loop(adapt), loaded_init.chooses(adapt)
    own = metawarp_predictor(warp, loaded_init.on(backbone), inner, loaded_init.temperature, chooses=chooses)
    split_file, seen = None if splits is None else str(splits), classes_seen_in_training(loaded_init, tested)
    protocol = {"corpus": loaded.name, "corpus_fingerprint": loaded.fingerprint, "splits": split_file, "split": split}
    protocol |= {"classes": list(tested.class_names), "classes_seen_in_training": seen}
    protocol |= {"n_way": n_way, "k_shot": k_shot, "n_query": n_query, "episodes": episodes, "seed": seed}
    protocol |= {"interval": INTERVAL, "adapt": adapt, **unlabelled}
    protocol |= {"init_sha256": loaded_init.fingerprint, "init_method": loaded_init.method}
    protocol |= {"backbone": asdict(BackboneIdentity.of(backbone)), "dtype": str(backbone.dtype).removeprefix("torch.")}
    protocol |= {"chosen_on_validation_classes": chosen, "versions": versions()}
    results = {"protocol": protocol, **compare({"metawarp": own, **others}, sampler, episodes, processes)}
    if output is not None and processes.is_main:
        write_text(user_path(output), json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return results


def classes_seen_in_training(init: Init, tested: Corpus) -> list[str]:
    """Names of tested classes that the init was trained or validated on; logs a warning if there are any."""
    names = init.training.get("class_names", {})
    known = {_normalized(name) for part in ("train", "validation") for name in names.get(part, ())}
    seen = [name for name in tested.class_names if _normalized(name) in known]
    if seen:
        message = "the init was trained or validated on classes with the names of %d of the %d tested classes (%s)"
        logger.warning(message, len(seen), tested.n_classes, quoted(seen, 3))
    return seen


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    return {name: version(name) for name in ("metawarp", "torch", "transformers", "numpy", "scikit-learn")}


def _normalized(name: str) -> str:
    """A class name for comparisons: "Play_music" becomes "play music"."""
    return " ".join(re.split(r"[\s_-]+", name.casefold()))
