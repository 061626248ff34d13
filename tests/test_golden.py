"""Predictions and short trainings beside recorded ones, so that a change of the code cannot change results unnoticed.

The recordings were made in float64 with the embedded backbone. A deliberate change of results raises
`metawarp.training.config.RECIPE` and records them again: python tests/test_golden.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from marks import slow

from episodes import Corpus, EpisodeSampler
from metawarp import Backbone, TrainingConfig, WarpClassifier, train
from metawarp.parameters import tensors_of
from metawarp.training.run_folder import read_log

FOLDER = Path(__file__).parent / "golden"
TASKS = [(n_way, k_shot) for n_way in (5, 25, 60) for k_shot in (0, 1, 5)]
METHODS = ["maml", "fomaml", "reptile", "anil", "prototypical"]


@pytest.fixture(scope="module")
def backbone():
    return Backbone.load("minilm", dtype="float64")


def predictions(backbone, n_way, k_shot):
    """Probabilities of up to 20 queries under the general init of an earlier release, adapted to one episode."""
    episode = EpisodeSampler(Corpus.load("everyday"), n_way, k_shot, 1, seed=7)[n_way + k_shot]
    labels = [episode.class_names[label] for label in episode.support_labels]
    classifier = WarpClassifier(FOLDER / "general", backbone)
    classifier.fit(list(episode.support_texts), labels, list(episode.class_names))
    columns = [classifier.classes_.tolist().index(name) for name in episode.class_names]
    return classifier.predict_proba(list(episode.query_texts)[:20])[:, columns]


def training(backbone, method, folder):
    """What 20 steps of a method learn: tensors of the init, losses of the steps, and the temperature."""
    settings = TrainingConfig(steps=20, meta_batch_size=2, validate_every=10, validation_episodes=4, lr=0.01)
    init = train(
        "everyday", str(folder), backbone=backbone, method=method, n_way=3, k_shot=(0, 2), n_query=3, training=settings
    )
    temperature = init.temperature
    return {
        **{name: tensor.numpy() for name, tensor in tensors_of(init.parameters).items()},
        "losses": np.array([entry["loss"] for entry in read_log(Path(folder))]),
        "temperature": np.array([temperature.base, temperature.by_shots, temperature.by_ways]),
    }


@pytest.mark.parametrize(("n_way", "k_shot"), [task if task[0] == 5 else slow(*task) for task in TASKS])
def test_an_init_of_an_earlier_release_predicts_as_recorded(backbone, n_way, k_shot):
    recorded = np.load(FOLDER / "predictions.npz")[f"{n_way}-way {k_shot}-shot"]
    np.testing.assert_allclose(predictions(backbone, n_way, k_shot), recorded, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_training_of_twenty_steps_learns_what_was_recorded(backbone, tmp_path, method):
    recorded = np.load(FOLDER / "trainings.npz")
    for name, values in training(backbone, method, tmp_path).items():
        np.testing.assert_allclose(values, recorded[f"{method}/{name}"], rtol=0, atol=1e-5, err_msg=name)


if __name__ == "__main__":
    minilm = Backbone.load("minilm", dtype="float64")
    tasks = {f"{n_way}-way {k_shot}-shot": predictions(minilm, n_way, k_shot) for n_way, k_shot in TASKS}
    np.savez_compressed(FOLDER / "predictions.npz", allow_pickle=False, **tasks)
    trainings = {}
    for method in METHODS:
        with TemporaryDirectory() as folder:
            trainings |= {f"{method}/{name}": values for name, values in training(minilm, method, folder).items()}
    np.savez_compressed(FOLDER / "trainings.npz", allow_pickle=False, **trainings)
