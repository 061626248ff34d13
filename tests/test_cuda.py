"""The same numbers on a GPU as on the CPU; skipped where there is none."""

import pytest
import torch
from tiny import tiny_episodes, tiny_folder, tiny_model, weights_of

from metawarp import Backbone
from metawarp.adaptation.inner_loop import GROUPS, InnerLoop
from metawarp.adaptation.tasks import TaskBatch
from metawarp.meta_learning.engines import gradient_by

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    ("engine", "method", "mode"),
    [
        ("metawarp", "maml", "unroll"),
        ("metawarp", "maml", "recompute"),
        ("metawarp", "fomaml", None),
        ("metawarp", "imaml", None),
        ("metawarp", "reptile", None),
        ("learn2learn", "maml", None),
    ],
)
def test_meta_gradients_are_those_of_the_cpu(tmp_path, layer, engine, method, mode):
    folder = tiny_folder(tmp_path)
    inner = InnerLoop(2, GROUPS, proximal=float(method == "imaml"))
    found = []
    for device in ("cpu", "cuda"):
        backbone = Backbone.load(folder, device=device, dtype="float64")
        warp, state = tiny_model(backbone, inner, learn=True, prompt_layer=layer)
        tasks = TaskBatch.encode(tiny_episodes(), warp.encoder, device)
        found.append(gradient_by(engine, method, mode)(warp, state, tasks, inner).gradients)
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name].cpu(), gradient, rtol=1e-8, atol=1e-10), name


def test_half_width_reads_what_full_width_reads(tmp_path):
    folder = tiny_folder(tmp_path)
    features = []
    for dtype in ("float32", "bfloat16"):
        warp, state = tiny_model(Backbone.load(folder, device="cuda", dtype=dtype))
        batch = warp.encoder(["set the alarm", "play music"])
        task = torch.zeros(2, dtype=torch.long, device="cuda")
        features.append(warp.features(state["prompt"][None], weights_of(state), batch, task))
    assert features[1].dtype == torch.float32
    assert torch.allclose(features[0], features[1], atol=0.1)
