"""An adapted task as one ONNX graph: token ids in, probabilities out; serving it does not need torch.

The graph puts the template around the ids of bare texts. Its inputs are these ids, padded on the right, and their mask.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from episodes.errors import InputError, first_line
from episodes.writing import write_bytes
from metawarp.adapters.adapter import visible
from metawarp.adapters.table import create_adapter
from metawarp.parameters import TaskParameters
from metawarp.read_outs.concatenation import Concatenation
from metawarp.read_outs.prompted_features import PromptedFeatures
from metawarp.tasks.onnx_empty_batch import accept_no_texts
from metawarp.tasks.onnx_quantization import Quantization, quantized
from metawarp.tasks.prediction import predictions
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.text_embeddings import TextEmbeddings
from metawarp.warp import Warp

MAX_GRAPH_BYTES = 2**31
"""Largest size in bytes of a protocol buffers file, and so of an ONNX graph."""


class TaskGraph(nn.Module):
    """The computation of a task for B texts of up to n tokens, as a function of tensors alone."""

    def __init__(self, warp: Warp, parameters: TaskParameters, n_classes: int) -> None:
        super().__init__()
        assert isinstance(warp.read_out, Concatenation)
        self.warp, self.model, self.parameters_of_task = warp, warp.backbone.model, parameters
        self.n_classes = n_classes
        self.read_out = warp.read_out
        # The readers of texts in one pass and without a cache: the whole is one function of tensors.
        sentence = TextEmbeddings(warp.backbone, [warp.backbone.n_layers], None).in_one_pass
        context = replace(warp.adapter.context, lower=warp.lower and warp.lower.in_one_pass, sentence=sentence)
        adapter = create_adapter(warp.config.adapter, warp.config.adapter_size, context)
        self.prompted = PromptedFeatures(adapter, warp.read_out.prompted.sizes, None)
        whole, self.before = warp.encoder([""]), warp.encoder.before
        self.template = visible(adapter, whole)
        if not adapter.has_places:
            self.before -= int((whole.prompt_index[0, : self.before] >= 0).sum())
        self.bare_template = self.template.keep(self.template.text_mask)
        self.specials_before = int(self.template.text_mask[0, : self.before].sum())
        with torch.no_grad():
            self.features_of_empty_text = self._prompted_features(self.template)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Probabilities (B, C) of ids (B, n) where the mask (B, n) is 1; all the same for a text without tokens. If the
        task recognizes unknown texts, also the probability (B,) of being known; 0 for a text without tokens."""
        task = self.parameters_of_task
        # One column more, because texts without tokens can have none, and the runtime divides by their number.
        input_ids, attention_mask = (nn.functional.pad(tensor, (0, 1)) for tensor in (input_ids, attention_mask))
        prompted = self._prompted_features(_with_text(self.template, self.before, input_ids, attention_mask))
        embeddings = ()
        if self.read_out.text is not None:
            bare = _with_text(self.bare_template, self.specials_before, input_ids, attention_mask)
            embeddings = self.read_out.text.of_bare_texts(bare)
        index = torch.zeros_like(input_ids[:, 0])
        features = self.read_out.combined(prompted, lambda: self.features_of_empty_text, embeddings, index)
        read = self.read_out.concatenated(features, task.read_out_weights)
        probabilities, known = predictions(self.warp, task, read, self.n_classes)
        has_tokens = attention_mask.any(1)
        outputs = [probabilities.where(has_tokens[:, None], 1 / self.n_classes)]
        outputs += [] if known is None else [known.where(has_tokens, 0.0)]
        return tuple(output.to(read) for output in outputs)

    def _prompted_features(self, batch: EncodedBatch) -> dict[str, Tensor]:
        if not self.prompted.sizes:
            return {}
        task = torch.zeros_like(batch.mask_position)
        return self.prompted.in_one_pass(self.parameters_of_task.adapter, batch, task)


def _with_text(template: EncodedBatch, before: int, input_ids: Tensor, attention_mask: Tensor) -> EncodedBatch:
    """Texts (B, n) inside a template (1, m), of which `before` tokens come before the text."""
    width, lengths = template.input_ids.shape[1], attention_mask.long().sum(1, keepdim=True)
    place = torch.arange(input_ids.shape[1] + width, device=input_ids.device)[None]
    in_text = (place >= before) & (place < before + lengths)
    attention = place < width + lengths
    column = torch.where(place < before, place, place - lengths).clamp(0, width - 1)
    text_column = (place - before).clamp(0, input_ids.shape[1] - 1).expand(input_ids.shape[0], -1)
    tensors = (template.input_ids, template.prompt_index, template.text_mask)
    ids, prompt_index, text_mask = (tensor[0][column] for tensor in tensors)
    ids = torch.where(in_text, input_ids.gather(1, text_column), ids)
    prompt_index = torch.where(in_text | ~attention, -1, prompt_index)
    position = template.mask_position.expand(input_ids.shape[0])
    position = torch.where(position < before, position, position + lengths[:, 0])
    return EncodedBatch(ids, prompt_index, attention, (in_text | text_mask) & attention, position)


def export_onnx(
    warp: Warp, parameters: TaskParameters, classes: list[Any], file: Path, quantize: Quantization | None = None
) -> None:
    """Write the graph of a task; its metadata has the classes, the backbone, what is put before a text, and the largest
    number of text tokens.

    `classes` are the labels of the columns of the probabilities. With `quantize`, weights have 8 bits. InputError if
    the task is not on the CPU, reads windows, has the read-out "replaced_token" or a backbone of 2 GiB or more, torch
    cannot export it, or the file cannot be written.
    """
    _require_exportable(warp)
    if quantize not in (None, "int8"):
        raise InputError(f"quantize={quantize!r} must be 'int8', or None for the backbone's own weights.")
    try:
        import onnxscript  # noqa: F401  (torch's exporter needs it)
        from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    except ImportError as error:
        raise ImportError('ONNX export needs an extra: pip install "metawarp[onnx]"') from error
    tokens = torch.export.Dim("tokens", min=0, max=warp.encoder.room)
    shape = {0: torch.export.Dim("texts", min=1, max=2**16), 1: tokens}
    ids = torch.ones(2, min(3, warp.encoder.room), dtype=torch.long)
    try:
        with torch.no_grad(), _quiet_exporter():
            graph, arguments = TaskGraph(warp, parameters, len(classes)).eval(), (ids, torch.ones_like(ids))
            outputs = ["probabilities"] if parameters.recognition is None else ["probabilities", "known"]
            names: Any = {"input_names": ["input_ids", "attention_mask"], "output_names": outputs}
            how: Any = {"dynamo": True, "dynamic_shapes": [shape, shape], "verbose": False}
            program = torch.onnx.export(graph, arguments, **how, **names)
    except Exception as error:  # whatever torch's exporter raises for what it cannot trace
        task = f"A task with adapter={warp.config.adapter!r} on a backbone of type {warp.backbone.family.name}"
        raise InputError(f"{task} cannot be exported: {first_line(error.__cause__ or error)}") from error
    assert program is not None
    # Every node names the lines of code that it came from, with paths of this machine, which is longer than the node.
    ClearMetadataAndDocStringPass()(program.model)
    accept_no_texts(program.model)
    facts = {"max_tokens": str(warp.encoder.room), "text_prefix": f"{warp.encoder.space}{warp.backbone.as_read('')}"}
    facts |= {"lower_case": json.dumps(warp.backbone.layout.lower_case)}
    labels = json.dumps(classes, ensure_ascii=False)
    program.model.metadata_props.update(classes=labels, backbone=warp.backbone.name, **facts)
    content = program.model_proto.SerializeToString()
    try:
        write_bytes(file, content if quantize is None else quantized(content))
    except OSError as error:
        raise InputError(f"The graph cannot be written to {str(file)!r}: {first_line(error)}.") from error


def _require_exportable(warp: Warp) -> None:
    if warp.backbone.device.type != "cpu":
        raise InputError(f"A task is exported on the CPU, not on {warp.backbone.device}; load it with device='cpu'.")
    if (dtype := warp.backbone.dtype).itemsize < 4:
        given = str(dtype).removeprefix("torch.")
        raise InputError(f"A task on a backbone in {given} cannot be exported; load it in float32 to export.")
    if stride := warp.config.stride:
        raise InputError(f"A graph reads one window, but this task has stride={stride}; use an init with stride=0.")
    if not isinstance(warp.read_out, Concatenation):
        reading = f"read_out={warp.config.read_out!r} reads it once for each class"
        raise InputError(f"A graph reads each text once, but {reading}; use another read-out.")
    if (weights := sum(weight.nbytes for weight in warp.backbone.model.parameters())) >= MAX_GRAPH_BYTES:
        sizes = f"{weights / 2**30:.1f} GiB, but a graph holds less than {MAX_GRAPH_BYTES / 2**30:.0f} GiB"
        raise InputError(f"The weights of backbone {warp.backbone.name!r} have {sizes}; use a smaller backbone.")


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence torch's exporter, which reports its internals and missing packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
