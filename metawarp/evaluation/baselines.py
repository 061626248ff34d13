"""What somebody would pick instead of a meta-learned init, as predictors over the same episodes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from episodes import Episode
from episodes.errors import first_line
from metawarp.adaptation.inner_loop import InnerLoop, InnerRates
from metawarp.adaptation.verbalizer import name_weight
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.scores import Predictor, metawarp_predictor
from metawarp.inits.init import Init, untrained
from metawarp.inits.start import NAME_WEIGHT
from metawarp.model.warp import Warp
from metawarp.texts.template import Template


class SentenceEncoder:
    """Mean-pooled, unit-length frozen embeddings, each text's computed once.

    Args:
        backbone: the frozen model.
        max_length: tokens of a text, specials included.
        stride: of windows that a longer text is read in; see `WarpConfig`.
    """

    def __init__(self, backbone: Backbone, max_length: int, stride: int = 0) -> None:
        self.warp = Warp(backbone, replace(untrained(backbone).warp, max_length=max_length, stride=stride))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings (B, d) in float32."""
        self.warp.encoder.remember(texts)
        prompts = torch.zeros(1, 0, self.warp.backbone.embedding_size, device=self.warp.backbone.device)
        task = torch.zeros(len(texts), dtype=torch.long, device=prompts.device)
        with torch.no_grad():
            return self.warp.features(prompts, None, self.warp.encoder(texts), task).float().cpu().numpy()


def prototypes(encode: SentenceEncoder, episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
    """Nearest class mean by cosine (Snell et al., 2017, on frozen embeddings)."""
    return prototypes_and_names(encode, {}, episodes, default=0.0)


def prototypes_and_names(
    encode: SentenceEncoder,
    weights: Mapping[int, float],
    episodes: Sequence[Episode],
    *,
    default: float | None = None,
) -> Iterator[np.ndarray]:
    """Nearest row by cosine, row = w·name + (1 - w)·prototype; w = 1 for a class without support texts.

    Args:
        encode: the sentence encoder.
        weights: w by the number of shots of a class.
        episodes: what to predict.
        default: w at numbers of shots that are not in `weights`; None: 1 / (1 + K·e^m) with the m that a
            fresh init starts from.
    """
    for episode in episodes:
        names = encode(episode.class_names)
        rows = names.copy()
        if len(episode.support_labels):
            support = encode(episode.support_texts)
            for label in range(episode.n_way):
                shots = int(episode.shots[label])
                if shots:
                    w = weights.get(shots, fallback_weight(shots) if default is None else default)
                    mean = support[episode.support_labels == label].mean(0)
                    rows[label] = w * names[label] + (1 - w) * mean / np.linalg.norm(mean)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        yield encode(episode.query_texts) @ rows.T


def fallback_weight(shots: int) -> float:
    """Weight of the name where no validation classes are at hand to choose it on."""
    return float(name_weight(torch.tensor(shots), torch.tensor(NAME_WEIGHT)))


def logistic_regression(encode: SentenceEncoder, strength: float, episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
    """Multinomial logistic regression on the embeddings.

    Args:
        encode: the sentence encoder.
        strength: scikit-learn's C, the inverse of the L2 penalty.
        episodes: what to predict; each class needs one support text at least.
    """
    for episode in episodes:
        model = LogisticRegression(C=strength, max_iter=1000)
        model.fit(encode(episode.support_texts), episode.support_labels)
        yield _of_all_classes(episode, model.predict_proba(encode(episode.query_texts)))


def setfit(backbone: Backbone, seed: int, episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
    """SetFit with its library's default settings: the encoder itself is tuned for each episode.

    References:
        Tunstall et al. (2022), "Efficient Few-Shot Learning Without Prompts".

    Raises:
        ImportError: the extra is not installed; the message has the command that installs it.
    """
    library = setfit_library()
    for episode in episodes:
        model = library.SetFitModel.from_pretrained(backbone.source)
        rows = {"text": list(episode.support_texts), "label": episode.support_labels.tolist()}
        with tempfile.TemporaryDirectory() as folder:
            settings = library.TrainingArguments(
                output_dir=folder, seed=seed, save_strategy="no", report_to="none", show_progress_bar=False
            )
            library.Trainer(model, args=settings, train_dataset=Dataset.from_dict(rows)).train()
        chances = model.predict_proba(list(episode.query_texts), as_numpy=True, show_progress_bar=False)
        yield _of_all_classes(episode, np.asarray(chances))


def _of_all_classes(episode: Episode, chances: np.ndarray) -> np.ndarray:
    """Probabilities (Q, N) from those of the classes that have support texts; 0 for one that has none."""
    whole = np.zeros((len(chances), episode.n_way))
    whole[:, np.unique(episode.support_labels)] = chances
    return whole


def setfit_library() -> Any:
    """The library, imported.

    Raises:
        ImportError: it is not installed, or not whole; the message has the command that installs it.
    """
    try:
        return import_module("setfit")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "setfit"
        why = "is in an extra" if missing else f"could not be imported ({first_line(error)})"
        raise ImportError(f'baseline "setfit" {why}: pip install "metawarp[setfit]"') from error


def tuned_rows(warp: Warp, rate: float, steps: int = 10) -> Predictor:
    """Rows mixed from names and means of sentence embeddings, then gradient steps on the rows alone.

    Args:
        warp: of a `SentenceEncoder`.
        rate: of the steps.
        steps: their number.
    """
    return _untrained(warp, InnerLoop(steps, ("rows",)), rates=InnerRates(rows=rate))


def support_rows(warp: Warp) -> Predictor:
    """RepVerb without training: [MASK] read-outs of the untrained template, rows the means of the support texts.

    References:
        Jiang, Zhang, Kwok (2023), "Effective Structured Prompting by Meta-Learning and Representative Verbalizer",
        ICML, eq. 6.
    """
    read_out = "mask" if Template(warp.config.template).has_mask else "mean"
    return _untrained(
        warp.changed(read_out=read_out, rows="support", name_source="template", prompt_start="mask"), InnerLoop(0, ())
    )


def untrained_warp(warp: Warp, init: Init, prompt_start: str, seed: int) -> Predictor:
    """The init's own model and inner loop, all soft tokens from [MASK] or normal noise, whatever it started from."""
    rates = InnerRates(**init.training.get("inner_lr", {}))
    return _untrained(warp.changed(prompt_start=prompt_start), init.inner, seed=seed, rates=rates, words=False)


def _untrained(warp: Warp, inner: InnerLoop, **start_of: Any) -> Predictor:
    start = Init.start(warp, inner, **start_of)
    return metawarp_predictor(warp, start.to(warp.backbone), inner)
