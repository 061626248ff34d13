"""What the command line does, as functions: train, evaluate, fit, predict."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from episodes import Corpus, EpisodeSampler, InputError
from episodes.cleaning import refuse_unusable_texts, usable_rows
from episodes.errors import listing
from episodes.reading import read_table
from episodes.splits import PARTS
from metawarp import baseline_table, storage
from metawarp.adaptation import InnerLoop
from metawarp.backbone import Backbone
from metawarp.checkpoint import FILE as CHECKPOINT
from metawarp.classifier import WarpClassifier
from metawarp.evaluation import compare, metawarp_predictor
from metawarp.initialization import Init, InnerRates
from metawarp.meta_gradients import METHODS
from metawarp.protocol import SPLITS, Range, class_split, tested_classes, validation_sampler
from metawarp.training import LOG, Trainer
from metawarp.training_config import TrainingConfig
from metawarp.warp import Warp, WarpConfig

OWN_INIT = ("init.safetensors", "config.json", "README.md")
CURVE = "learning_curve.png"


def train(
    corpus: str,
    output: str,
    *,
    splits: str | None = None,
    text_column: str = "text",
    label_column: str = "label",
    backbone: str = "minilm",
    device: str = "cpu",
    method: str = "anil",
    n_way: Range = 5,
    k_shot: Range = (1, 5),
    n_query: int = 10,
    seed: int = 0,
    inner_steps: int | None = None,
    inner_lr: InnerRates | None = None,
    warp: WarpConfig | None = None,
    training: TrainingConfig | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Init:
    """Meta-train an init; the arguments are those of `metawarp train`.

    Returns:
        The best init by validation, as it was written into `output`, beside class split, log and checkpoint.

    Raises:
        InputError: the arguments, the corpus or the output folder cannot be used; training diverged.
    """
    training, folder = training or TrainingConfig(), Path(output)
    if method not in METHODS:
        raise InputError(f"method {method!r} is not known; known: {listing(METHODS)}.")
    if not resume:
        storage.claim_folder(folder, [*OWN_INIT, CHECKPOINT, SPLITS, LOG, CURVE], kind="init", overwrite=overwrite)
    loaded = Corpus.load(corpus, text_column, label_column)
    split = class_split(loaded, splits, seed)
    sampler = EpisodeSampler(split.train, n_way, k_shot, n_query, seed)
    validation = validation_sampler(split, n_way, k_shot, n_query, seed)
    inner = _inner_loop(method, inner_steps, training)
    model = Warp(Backbone.load(backbone, device=device), warp or WarpConfig())
    model.encoder.require_known(loaded.class_names)
    init = Init.start(model, inner, method=method, seed=seed, rates=inner_lr)
    description = {
        "corpus": corpus,
        "corpus_fingerprint": loaded.fingerprint,
        "classes": {part: split[part].n_classes for part in PARTS},
        "classes_fingerprint": {part: split[part].fingerprint for part in ("train", "validation")},
        "n_way": n_way,
        "k_shot": k_shot,
        "n_query": n_query,
        "seed": seed,
        "warp": asdict(model.config),
        "inner": asdict(inner),
        "inner_lr": asdict(inner_lr or InnerRates()),
        "backbone": model.backbone.fingerprint,
    }
    trainer = Trainer(
        init,
        model,
        sampler,
        validation,
        training,
        folder,
        classes=split.train.class_names,
        description=description,
    )
    if not resume:
        for name in OWN_INIT:  # an old init beside the new split would be tested on classes that it has seen
            (folder / name).unlink(missing_ok=True)
        split.to_json(folder / SPLITS)
    trained = trainer.run(resume=resume)
    return replace(trained, fingerprint=trained.save(folder))


def evaluate(
    init: str | Init,
    corpus: str,
    *,
    output: str | None = None,
    splits: str | None = None,
    split: str = "test",
    text_column: str = "text",
    label_column: str = "label",
    backbone: str | Backbone | None = None,
    device: str = "cpu",
    n_way: Range = 5,
    k_shot: Range = 1,
    n_query: int = 10,
    episodes: int = 600,
    seed: int = 0,
    baselines: Sequence[str] = ("all",),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measure an init on episodes beside the baselines; the arguments are those of `metawarp evaluate`.

    Returns:
        {"protocol": …, "methods": {"metawarp": {"accuracy", "ci95", "macro_f1", "per_episode"}, …}, "paired": …}, as
        it was written into `output`.

    Raises:
        InputError: the arguments, the corpus, the init or the output file cannot be used.
    """
    if episodes < 1:
        raise InputError(f"episodes is {episodes}; 1 or more are needed.")
    file = None if output is None else Path(output)
    if file is not None:
        storage.claim_folder(file.parent, [file.name], overwrite=overwrite)
    started = init if isinstance(init, Init) else Init.load(init)
    loaded = Corpus.load(corpus, text_column, label_column)
    parts, tested = tested_classes(loaded, splits, split, seed)
    sampler = EpisodeSampler(tested, n_way, k_shot, n_query, seed)
    if not isinstance(backbone, Backbone):
        backbone = Backbone.load(backbone or started.backbone["name"], device=device)
    warp = started.bind(backbone)
    warp.encoder.require_known(tested.class_names)
    low, high = k_shot if isinstance(k_shot, tuple) else (k_shot, k_shot)
    bench = baseline_table.Bench(
        warp,
        started,
        range(low, high + 1),
        None if parts is None else lambda shots: validation_sampler(parts, n_way, shots, n_query, seed),
        seed=seed,
    )
    others, chosen = baseline_table.build(
        baseline_table.named([baselines] if isinstance(baselines, str) else baselines, low), bench
    )
    predictors = {"metawarp": metawarp_predictor(warp, started.to(backbone), started.inner), **others}
    protocol = {
        "corpus": corpus,
        "corpus_fingerprint": loaded.fingerprint,
        "splits": splits,
        "split": split,
        "classes": list(tested.class_names),
        "n_way": n_way,
        "k_shot": k_shot,
        "n_query": n_query,
        "episodes": episodes,
        "seed": seed,
        "interval": "mean ± 1.96·s/√episodes",
        "init_sha256": started.fingerprint,
        "init_method": started.method,
        "backbone": dict(started.backbone),
        "chosen_on_validation_classes": chosen,
        "versions": {name: version(name) for name in ("metawarp", "torch", "transformers", "numpy", "scikit-learn")},
    }
    results = {"protocol": protocol, **compare(predictors, sampler, episodes)}
    if file is not None:
        storage.write_text(file, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return results


def fit(
    init: str | Init,
    output: str,
    *,
    data: str | None = None,
    class_name: Sequence[str] = (),
    text_column: str = "text",
    label_column: str = "label",
    backbone: str | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> WarpClassifier:
    """Adapt an init to a task and save the task; the arguments are those of `metawarp fit`.

    Raises:
        InputError: neither data nor class names; data, init or output cannot be used.
    """
    storage.claim_folder(Path(output), ("task.safetensors", "config.json"), kind="task", overwrite=overwrite)
    texts: list[str] = []
    labels: list[str] = []
    if data is not None:
        # Not a corpus: that has two classes at least, and here one of them may be a name alone.
        table = read_table(data, text_column, label_column, None, None)
        found, kept = usable_rows(table.texts, table.labels, table.name, refuse_conflicts=False)
        texts, labels = [table.texts[row] for row in kept], [found[row] for row in kept]
        if len({*labels, *class_name}) < 2:
            only = listing(map(repr, {*labels, *class_name}))
            raise InputError(f"{table.name} needs at least 2 classes; its classes are: {only}.")
    names = sorted({*labels, *class_name}) if class_name else None
    model = WarpClassifier(init, backbone, device=device).fit(texts, labels, names)
    model.save(output)
    return model


def predict(
    task: str,
    *,
    texts: Sequence[str] = (),
    data: str | None = None,
    text_column: str = "text",
    backbone: str | None = None,
    device: str = "cpu",
) -> Iterator[dict[str, Any]]:
    """Classify texts with a saved task; the arguments are those of `metawarp predict`.

    Yields:
        For each text: {"text", "label", "probabilities": {class: probability}}.

    Raises:
        InputError: no texts; the task or the file cannot be used.
    """
    given = list(texts)
    if data is not None:
        table = read_table(data, text_column, text_column, None, None)
        refuse_unusable_texts(table.texts, table.name)
        given += table.texts
    if not given:
        raise InputError("there is nothing to predict; give --text or --data.")
    model = WarpClassifier.load(task, backbone, device=device)
    classes = [str(label) for label in model.classes_]
    for text, row in zip(given, model.predict_proba(given), strict=True):
        probabilities = {name: round(float(p), 6) for name, p in zip(classes, row, strict=True)}
        yield {"text": text, "label": classes[int(row.argmax())], "probabilities": probabilities}


def write_predictions(output: str, predictions: Iterator[Mapping[str, Any]], *, overwrite: bool = False) -> None:
    """Write predictions into a file, one JSON object a line, the whole file or nothing.

    Raises:
        InputError: the file is there already, or its folder cannot be written.
    """
    file = Path(output)
    storage.claim_folder(file.parent, [file.name], overwrite=overwrite)
    lines = [json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in predictions]
    storage.write_text(file, "".join(lines))


def _inner_loop(method: str, steps: int | None, training: TrainingConfig) -> InnerLoop:
    """The method's inner loop with the steps asked for; settings that would do nothing are refused."""
    inner = METHODS[method].inner
    if steps and not inner.groups:
        raise InputError(f"method {method!r} has no inner loop; leave out the inner steps, or choose another method.")
    if steps == 0 and method == "reptile":
        raise InputError("method 'reptile' learns from its inner steps; give it 1 at least.")
    if training.multi_step_loss and (method in ("reptile", "multitask") or not inner.groups):
        raise InputError(f"method {method!r} has no multi-step loss; it is for maml, fomaml and anil.")
    if steps is None:
        return inner
    return InnerLoop(steps, inner.groups if steps else ())
