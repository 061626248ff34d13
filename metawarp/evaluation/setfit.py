"""SetFit (Tunstall et al., 2022, "Efficient Few-Shot Learning Without Prompts") as a baseline: the encoder itself is
fine-tuned for each episode, with the library's default settings."""

import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from episodes import Episode
from episodes.errors import first_line
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.sentence_baselines import for_all_classes


def setfit(backbone: Backbone, seed: int, episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
    """Probabilities of a SetFit model trained on each episode, whose backbone is read again from its source."""
    for episode in episodes:
        model = fitted_setfit(backbone, seed, episode)
        probabilities = model.predict_proba(list(episode.query_texts), as_numpy=True, show_progress_bar=False)
        yield for_all_classes(episode, np.asarray(probabilities))


def fitted_setfit(backbone: Backbone, seed: int, episode: Episode) -> Any:
    """A SetFit model that was trained on the support texts of an episode; its labels are their indices."""
    library = require_setfit()
    from sentence_transformers import SentenceTransformer  # SetFit needs it

    # SetFit's own loading function would unpickle a classifier from the folder of the backbone.
    body = SentenceTransformer(str(backbone.source), device="cpu", trust_remote_code=False)
    model = library.SetFitModel(model_body=body, model_head=LogisticRegression())
    rows = {"text": list(episode.support_texts), "label": episode.support_labels.tolist()}
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"save_strategy": "no", "report_to": "none", "show_progress_bar": False}
        settings = library.TrainingArguments(output_dir=folder, seed=seed, **quiet)
        library.Trainer(model, args=settings, train_dataset=Dataset.from_dict(rows)).train()
    return model


def require_setfit() -> Any:
    """The module `setfit`; an ImportError with the command that installs it if it cannot be imported."""
    try:
        return import_module("setfit")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "setfit"
        reason = "needs an extra" if missing else f"could not be imported ({first_line(error)})"
        raise ImportError(f'The baseline "setfit" {reason}: pip install "metawarp[setfit]"') from error
