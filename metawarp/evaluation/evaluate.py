"""Measure an init on episodes of classes that it has never seen, beside the baselines, from file names to results."""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from episodes import Corpus, EpisodeSampler
from episodes.errors import listing
from episodes.sampler import Range, bounds
from metawarp import outputs, processes
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation import baseline_table
from metawarp.evaluation.baselines import SentenceEncoder
from metawarp.evaluation.protocol import tested_classes, validation_sampler, versions
from metawarp.evaluation.scores import INTERVAL, compare, metawarp_predictor, require_interval
from metawarp.inits.init import Init, identity

logger = logging.getLogger(__name__)


def evaluate(
    init: str | Init,
    corpus: str | Path | Corpus,
    *,
    output: str | None = None,
    splits: str | Path | None = None,
    split: str = "test",
    backbone: str | Backbone | None = None,
    any_backbone: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    max_tokens: int = Backbone.max_tokens,
    cache: str | None = None,
    n_way: Range = 5,
    k_shot: Range = 1,
    n_query: int = 10,
    episodes: int = 600,
    seed: int = 0,
    baselines: Sequence[str] = ("all",),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measure an init on episodes beside the baselines; the arguments are those of `metawarp evaluate`.

    Args:
        init: an init, its folder, or the name of a shipped one.
        corpus: a corpus, or the file or name of one whose columns are "text" and "label".
        output: JSON file for the results.
        splits: path of a splits.json; None: only bundled corpora have a split of their own.
        split: classes to test: "train", "validation", "test", or "all".
        backbone: a backbone, or what `Backbone.load` takes; None: the init's own.
        any_backbone: allow another backbone than the init's, of the same widths.
        device: where a backbone that is loaded here runs.
        dtype: of its weights and activations; states and losses stay in float32 at least.
        max_tokens: tokens that it reads in one pass, padding included.
        cache: folder for what the layers below the init's prompt make of the texts.
        n_way: classes of an episode.
        k_shot: support texts a class.
        n_query: query texts a class.
        episodes: number of episodes.
        seed: of episodes and random starts.
        baselines: "all", "none", or names of `BASELINES`.
        overwrite: write over the output file.

    Returns:
        {"protocol": …, "methods": {"metawarp": {"accuracy", "ci95", "macro_f1", "calibration_error", "per_episode"},
        …}, "paired": …}, as it was written into `output`.

    Raises:
        InputError: the arguments, the corpus, the init or the output file cannot be used.
        ImportError: backbone "minilm" or baseline "setfit" without its extra.
    """
    require_interval(episodes)
    file, device = None if output is None else Path(output), processes.connect(device)
    if file is not None:
        processes.by_main(lambda: outputs.claim_file(file, overwrite=overwrite))
    started = init if isinstance(init, Init) else Init.from_pretrained(init)
    loaded = corpus if isinstance(corpus, Corpus) else Corpus.load(corpus)
    parts, tested = tested_classes(loaded, splits, split)
    sampler = EpisodeSampler(tested, n_way, k_shot, n_query, seed)
    if not isinstance(backbone, Backbone):
        name = backbone or started.backbone["name"]
        backbone = Backbone.load(name, device=device, dtype=dtype, max_tokens=max_tokens)
    warp = started.bind(backbone, any_backbone=any_backbone)
    warp.encoder.require_known(tested.class_names)
    with processes.one_first():
        warp.remember([*tested.texts, *tested.class_names], cache)
    low, high = bounds(k_shot)
    bench = baseline_table.Bench(
        warp,
        started,
        range(low, high + 1),
        parts and functools.cache(lambda shots: validation_sampler(parts, n_way, shots, n_query, seed)),
        SentenceEncoder(backbone, started.warp.max_length, started.warp.stride),
        seed=seed,
    )
    others, chosen = baseline_table.build(
        baseline_table.named([baselines] if isinstance(baselines, str) else baselines, low), bench
    )
    predictors = {
        "metawarp": metawarp_predictor(warp, started.to(backbone), started.inner, started.temperature),
        **others,
    }
    protocol = {
        "corpus": loaded.name,
        "corpus_fingerprint": loaded.fingerprint,
        "splits": None if splits is None else str(splits),
        "split": split,
        "classes": list(tested.class_names),
        "classes_seen_in_training": seen_in_training(started, tested),
        "n_way": n_way,
        "k_shot": k_shot,
        "n_query": n_query,
        "episodes": episodes,
        "seed": seed,
        "interval": INTERVAL,
        "init_sha256": started.fingerprint,
        "init_method": started.method,
        "backbone": identity(backbone),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "chosen_on_validation_classes": chosen,
        "versions": versions(),
    }
    results = {"protocol": protocol, **compare(predictors, sampler, episodes)}
    if file is not None and processes.is_main():
        outputs.write_text(file, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return results


def seen_in_training(init: Init, tested: Corpus) -> list[str]:
    """Names of tested classes that the init was trained or chosen on, with a warning where there are any."""
    learned = init.training.get("class_names", {})
    known = {_plain(name) for part in ("train", "validation") for name in learned.get(part, ())}
    seen = [name for name in tested.class_names if _plain(name) in known]
    if seen:
        logger.warning(
            "the init was trained or chosen on classes of the same name as %d of the %d tested ones (%s)",
            len(seen),
            tested.n_classes,
            listing(map(repr, seen), 3),
        )
    return seen


def _plain(name: str) -> str:
    """A class name as it compares with others: "Play_music" is "play music"."""
    return " ".join(re.split(r"[\s_-]+", name.casefold()))
