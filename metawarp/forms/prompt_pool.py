"""A pool of prompts, of which each text mixes its own by what it is about.

References:
    Jiang, Zhang, Kwok (2023), "Effective Structured Prompting by Meta-Learning and Representative Verbalizer"
    (MetaPrompter), ICML, sec. 3.1: attention of a frozen query to learned keys.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from metawarp.forms.form import Form, Parts, placed
from metawarp.texts.encoded import EncodedBatch


class PromptPool(Form):
    """M prompts of K soft tokens, each with a key; a text's is Σ softmax(q·k_m / √h)·prompt_m.

    The query q is the text's frozen sentence embedding, of length √h, computed once for each text.
    """

    counts = "prompts"
    soft_parts = ("prompts",)
    needs_soft_tokens = True

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Prompts (M, K, d) and keys (M, h)."""
        assert self.number is not None
        return {
            "prompts": (self.number, self.n_soft, self.width),
            "keys": (self.number, self.backbone.hidden_size),
        }

    def start(self, soft: Tensor, generator: torch.Generator) -> Parts:
        """The same prompt M times, a tenth of its spread apart, under keys of normal noise."""
        shapes, soft = self.shapes, self.left_by(soft, self.layer)
        noise = {name: torch.randn(shape, generator=generator).to(soft) for name, shape in shapes.items()}
        apart = 0.1 * soft.std() if soft.numel() > 1 else 0.0
        return {"prompts": soft + apart * noise["prompts"], "keys": noise["keys"]}

    def hidden(self, parts: Parts, batch: EncodedBatch, task: Tensor, head_at: Tensor | None = None) -> Tensor:
        """Each text under its own mixture, in the places of the soft tokens."""
        size = self.backbone.hidden_size
        query = normalize(self.sentence(batch)[:, 0].to(parts["keys"]), dim=-1) * size**0.5
        weights = (torch.einsum("bh,bmh->bm", query, parts["keys"][task]) / size**0.5).softmax(-1)
        soft = torch.einsum("bm,bmkd->bkd", weights, parts["prompts"][task])
        # By the shape and not by len(), which a graph would hold as a constant.
        each = torch.arange(batch.input_ids.shape[0], device=soft.device)
        entering = placed(soft, self.entering(batch, soft.dtype), batch, each)
        return self.backbone.hidden_states(entering, batch.attention_mask, self.layer, head_at=head_at)
