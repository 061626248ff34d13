"""Let an init learn to recognize unknown texts, without training it again.

    python -m benchmarks.recognition --init general --output runs/general

A training ends with this step, on its validation episodes. Here the episodes are drawn from the validation classes of
the corpora that come with the package, with 3 to 60 classes and 0 to 20 texts per class.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.report.tables import Rows
from metawarp.backbones.backbone import Backbone
from metawarp.evaluation.recognition import best_recognition
from metawarp.inits.defaults import init_and_backbone
from metawarp.texts.feature_cache import FeatureCache
from metawarp.training.data import EpisodeSettings, TrainingData

CORPORA = ("varied", "lengthy", "everyday")


def main() -> None:
    """Write the init with the coefficients that it has learned, and print these."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", required=True, help="name or folder of an init")
    parser.add_argument("--backbone", default=None, help="name or folder of a backbone, if it is not that of the init")
    parser.add_argument("--output", type=Path, required=True, help="folder for the init")
    parser.add_argument("--episodes", type=int, default=200, help="number of episodes")
    parser.add_argument("--ways", type=int, default=60, help="largest number of classes")
    parser.add_argument("--shots", type=int, default=20, help="largest number of texts per class")
    options = parser.parse_args()
    init, backbone = init_and_backbone(options.init, options.backbone, Backbone.load)
    data = TrainingData.load(CORPORA, None, 0)
    settings = EpisodeSettings((3, options.ways), (0, options.shots), 3, seed=0, within_domains=0.7)
    sampler = data.validation(settings)
    warp = init.bind(backbone, cache=FeatureCache())
    recognition = best_recognition(warp, init, [sampler[i] for i in range(options.episodes)])
    replace(init, recognition=recognition).save(options.output)
    print(Rows(["coefficient", "value"], [[k, str(v)] for k, v in vars(recognition).items()]).markdown)


if __name__ == "__main__":
    main()
