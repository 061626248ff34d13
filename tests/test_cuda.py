"""The same numbers on a GPU as on the CPU; skipped where there is none."""

import pytest
import torch
from tiny import TEXTS, features, tiny_episodes, tiny_folder, tiny_model

from metawarp import Backbone
from metawarp.config import GROUPS, InnerLoop
from metawarp.meta_learning.engine import ENGINES
from metawarp.meta_learning.meta_gradient import MetaBatch, last_step
from metawarp.meta_learning.table import METHODS
from metawarp.parameters import tensors_of
from metawarp.texts.task_batch import TaskBatch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    ("engine", "method", "second_order"),
    [
        ("metawarp", "maml", "unroll"),
        ("metawarp", "maml", "recompute"),
        ("metawarp", "fomaml", "unroll"),
        ("metawarp", "reptile", "unroll"),
        ("learn2learn", "maml", "unroll"),
    ],
)
def test_meta_gradients_are_those_of_the_cpu(tmp_path, layer, engine, method, second_order):
    folder = tiny_folder(tmp_path)
    inner = InnerLoop(2, GROUPS)
    found = []
    for device in ("cpu", "cuda"):
        backbone = Backbone.load(folder, device=device, dtype="float64")
        warp, init = tiny_model(backbone, inner, learn=True, adapter_layer=layer)
        tasks = TaskBatch.encode(tiny_episodes(), warp.encoder, device)
        batch = MetaBatch(warp, tasks, inner, last_step(2), second_order)
        found.append(tensors_of(ENGINES[engine].meta_gradient(METHODS[method], init, batch).gradients))
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name].cpu(), gradient, rtol=1e-8, atol=1e-10), name


def test_half_precision_gives_nearly_the_features_of_full_precision(tmp_path):
    folder = tiny_folder(tmp_path)
    full, half = (
        features(*tiny_model(Backbone.load(folder, device="cuda", dtype=dtype)), TEXTS)
        for dtype in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert torch.allclose(full, half, atol=0.1)
