"""A pool of prompts, which each text mixes according to its sentence embedding.

References:
    Jiang, Zhang, Kwok (2023), "Effective Structured Prompting by Meta-Learning and Representative Verbalizer"
    (MetaPrompter), ICML, sec. 3.1: attention of a frozen query to learned keys.
"""

from dataclasses import dataclass
from typing import Unpack, final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from metawarp.adapters.adapter import Adapter, AdapterContext, Parts
from metawarp.backbones.family import Reading
from metawarp.texts.encoded_batch import EncodedBatch


@final
@dataclass(frozen=True, eq=False)
class PromptPool(Adapter):
    """M prompts "prompts" (M, K, w) with "keys" (M, h); a text's prompt is Σ softmax(q·k_m / √h)·prompt_m.

    The query q is the text's frozen sentence embedding, scaled to the length √h.
    """

    size_meaning = "number of prompts"
    soft_token_parts = ("prompts",)
    context: AdapterContext

    def __post_init__(self) -> None:
        self.context.require_soft_tokens()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        context = self.context
        assert context.size is not None
        prompts = (context.size, context.n_soft_tokens, context.width)
        return {"prompts": prompts, "keys": (context.size, context.backbone.sentence_size)}

    def start(self, soft_tokens: Tensor, generator: torch.Generator) -> Parts:
        """The same prompt M times, plus noise of a tenth of its spread, with normally distributed keys."""
        soft_tokens = self.context.soft_tokens_at(self.context.layer, soft_tokens)
        noise = {name: torch.randn(shape, generator=generator).to(soft_tokens) for name, shape in self.shapes.items()}
        spread = 0.1 * soft_tokens.std() if soft_tokens.numel() > 1 else 0.0
        return {"prompts": soft_tokens + spread * noise["prompts"], "keys": noise["keys"]}

    def hidden_states(self, parts: Parts, batch: EncodedBatch, task: Tensor, **reading: Unpack[Reading]) -> Tensor:
        context, keys = self.context, parts["keys"]
        size = context.backbone.sentence_size
        (embedding,) = context.sentence(batch)
        query = normalize(embedding.to(keys), dim=-1) * size**0.5
        weights = (torch.einsum("bh,bmh->bm", query, keys[task]) / size**0.5).softmax(-1)
        soft_tokens = torch.einsum("bm,bmkd->bkd", weights, parts["prompts"][task])
        # By the shape and not by len(), which an exported graph would hold as a constant.
        own = torch.arange(batch.input_ids.shape[0], device=soft_tokens.device)
        entering = context.entering_with(soft_tokens, batch, own)
        return context.backbone.hidden_states(entering, batch.attention_mask, context.layer, **reading)
