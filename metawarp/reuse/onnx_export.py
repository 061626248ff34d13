"""An adapted task as one ONNX graph: token ids in, probabilities out; what serves it needs no torch.

The graph puts the template around the ids itself: it takes what the tokenizer makes of texts without special tokens,
padded on the right, and where they are.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from episodes import InputError
from episodes.errors import first_line
from metawarp.model.prompted_features import PromptedFeatures
from metawarp.model.warp import State, Warp
from metawarp.outputs import write_whole
from metawarp.texts.encoded import EncodedBatch

LARGEST = 2**31
"""Bytes that one file of protocol buffers, which a graph is, can hold."""

_AROUND = ("input_ids", "prompt_index", "text_mask")


class TaskGraph(nn.Module):
    """What a task computes of B texts of up to n tokens, as a function of tensors alone.

    Args:
        warp: the model.
        task: the adapted state: "prompt", "rows", "scale", "read_out".
    """

    def __init__(self, warp: Warp, task: State) -> None:
        super().__init__()
        self.warp, self.model, self.task = warp, warp.backbone.model, task
        # Readers without a cache: all is one function of tensors.
        lower = None if warp.lower is None else warp.lower.uncached
        form = warp.form.with_readers(lower, warp.sentence.uncached)
        self.prompted = PromptedFeatures(warp.backbone, warp.config.parts, form)
        whole, self.before = warp.encoder([""]), warp.encoder.before
        self.template = warp.form.shown(whole)
        if len(self.template.input_ids[0]) < len(whole.input_ids[0]):  # soft tokens that have no place of their own
            self.before -= int((whole.prompt_index[0, : self.before] >= 0).sum())
        self.alone = self.template.only(self.template.text_mask)
        self.specials_before = int(self.template.text_mask[0, : self.before].sum())
        self.bias = 0.0
        if warp.config.debias:
            with torch.no_grad():
                self.bias = self._under_prompt(self.template)["mask"]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Probabilities (B, C) of ids (B, n) where the mask (B, n) is 1."""
        found = self._under_prompt(_with_text(self.template, self.before, input_ids, attention_mask))
        if "mask" in found:
            found["mask"] = found["mask"] - self.bias
        if self.warp.text is not None:
            means = self.warp.text.means(_with_text(self.alone, self.specials_before, input_ids, attention_mask))
            found |= self.warp.of_text_alone(means)
        features = self.warp.joined(found, self.task.get("read_out"))
        rows = self.task["rows"].expand(input_ids.shape[0], -1, -1)  # ONNX wants Einsum's sizes alike
        return self.warp.logits(features, rows, self.task["scale"]).softmax(-1)

    def _under_prompt(self, batch: EncodedBatch) -> dict[str, Tensor]:
        if not self.prompted.sizes:
            return {}
        return self.prompted.read(self.task["prompt"][None], batch, torch.zeros_like(batch.mask_position))


def _with_text(template: EncodedBatch, before: int, input_ids: Tensor, attention_mask: Tensor) -> EncodedBatch:
    """Texts (B, n) in a template that stands alone (1, m), of which `before` tokens come before them."""
    around, lengths = template.input_ids.shape[1], attention_mask.long().sum(1, keepdim=True)
    place = torch.arange(input_ids.shape[1] + around, device=input_ids.device)[None]
    in_text = (place >= before) & (place < before + lengths)
    attention = place < around + lengths
    column = torch.where(place < before, place, place - lengths).clamp(0, around - 1)
    in_ids = (place - before).clamp(0, input_ids.shape[1] - 1).expand(input_ids.shape[0], -1)
    ids, index, text = (getattr(template, name)[0][column] for name in _AROUND)
    position = template.mask_position.expand(input_ids.shape[0])
    return EncodedBatch(
        torch.where(in_text, input_ids.gather(1, in_ids), ids),
        torch.where(in_text | ~attention, -1, index),
        attention,
        (in_text | text) & attention,
        torch.where(position < before, position, position + lengths[:, 0]),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of its own insides, and of packages that nobody needs here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def export_onnx(warp: Warp, task: State, classes: list[Any], file: Path) -> None:
    """Write the graph of a task; its metadata has the classes, the backbone, and how many tokens a text may have.

    Args:
        warp: the model.
        task: the adapted state.
        classes: what the columns of the probabilities are.
        file: where to.

    Raises:
        InputError: a task elsewhere than on the CPU; long texts in windows; the read-out "original"; a backbone of
            2 GiB or more; what torch cannot export; the file cannot be written.
        ImportError: onnx or onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401  (what torch's exporter is made of)
        from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    except ImportError as error:
        raise ImportError('an ONNX graph needs more packages: pip install "metawarp[onnx]"') from error
    if warp.backbone.device.type != "cpu":
        raise InputError(f"a graph is made on the CPU, and this task is on {warp.backbone.device}; load it on cpu.")
    if warp.config.stride:
        raise InputError(
            f"a graph reads one window of a text, and this task has a stride of {warp.config.stride}; fit it from an "
            "init with warp.stride 0."
        )
    if warp.rows_inside:
        raise InputError("a graph reads each text once, and read-out 'original' once for each class; take another.")
    weights = sum(weight.nbytes for weight in warp.backbone.model.parameters())
    if weights >= LARGEST:
        raise InputError(
            f"a graph of one file holds less than {LARGEST / 2**30:.0f} GiB, and the weights of backbone "
            f"{warp.backbone.name!r} are {weights / 2**30:.1f} GiB; use a smaller backbone."
        )
    tokens = torch.export.Dim("tokens", min=1, max=warp.encoder.room)
    shape = {0: torch.export.Dim("texts", min=1, max=2**16), 1: tokens}
    ids = torch.ones(2, min(3, warp.encoder.room), dtype=torch.long)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                TaskGraph(warp, task).eval(),
                (ids, torch.ones_like(ids)),
                dynamo=True,
                dynamic_shapes=[shape, shape],
                input_names=["input_ids", "attention_mask"],
                output_names=["probabilities"],
                verbose=False,
            )
    except Exception as error:  # whatever torch's exporter makes of what it cannot follow
        raise InputError(
            f"a task of form {warp.config.form!r} on a backbone of type {warp.backbone.family.name} cannot be "
            f"exported: {first_line(error)}"
        ) from error
    assert program is not None
    # Every node tells which lines of code it came from, with the paths of this machine: longer than the node itself.
    ClearMetadataAndDocStringPass()(program.model)
    facts = {
        "classes": json.dumps(classes, ensure_ascii=False),
        "backbone": warp.backbone.name,
        "max_tokens": str(warp.encoder.room),
        "text_prefix": warp.encoder.space,
    }
    program.model.metadata_props.update(facts)
    try:
        write_whole(file, program.model_proto.SerializeToString())
    except OSError as error:
        raise InputError(f"graph {str(file)!r} cannot be written: {first_line(error)}.") from error
