"""Adversarial perturbations: every token of a text is displaced in the direction that raises the loss most.

A token embedding e becomes e + ‖e‖·δ with ‖δ‖ = ε. This equals a displacement of the normalized embedding e / ‖e‖ by δ,
so that frequent words, whose embeddings are shorter, are not displaced more. That is SiFT's idea for a frozen model,
which has to be given embeddings of the length that it knows; SiFT itself follows the divergence from a first random
displacement. With `adapter_layer`, the input states of that layer are displaced.

References:
    He et al. (2021), "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", ICLR, sec. 4 (SiFT).
"""

from dataclasses import replace

import torch
from torch.nn.functional import normalize

from metawarp.adaptation.start import losses_of, read_texts
from metawarp.parameters import TaskParameters
from metawarp.texts.task_batch import LabelledTexts, TaskBatch
from metawarp.warp import Warp


def perturbed(
    warp: Warp, parameters: TaskParameters, tasks: TaskBatch, texts: LabelledTexts, epsilon: float
) -> LabelledTexts:
    """Some texts of T tasks with every token displaced, in the direction that raises the loss most.

    `epsilon` is the length ε of the displacement, relative to the length of the token embedding.
    """
    batch, backbone = texts.batch, warp.backbone
    assert batch is not None
    zero = torch.zeros(*batch.input_ids.shape, warp.adapter.context.width, device=backbone.device).to(backbone.dtype)
    at_zero = replace(texts, batch=replace(batch, perturbation=zero.requires_grad_()))
    with torch.enable_grad():
        losses = losses_of(warp, parameters, read_texts(warp, parameters, at_zero), texts, tasks)
        (gradient,) = torch.autograd.grad(losses.sum(), zero)
    is_text = (batch.text_mask & batch.attention_mask).to(gradient.device)[..., None]
    perturbation = epsilon * normalize(gradient, dim=-1) * is_text
    return replace(texts, batch=replace(batch, perturbation=perturbation))
