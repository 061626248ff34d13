"""Output of the layers below an adapter. It does not depend on the adapter, so it is computed once per text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from metawarp.backbones.backbone import Backbone
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import CacheScope, FeatureCache, from_bytes, to_bytes
from metawarp.texts.hidden_state_file import HiddenStateFile, open_hidden_states


class LowerLayers:
    """Input states of the adapter's first layer, with index `layer` (at least 1): looked up in the file of a whole
    corpus, then in the cache, and computed otherwise."""

    def __init__(
        self, backbone: Backbone, layer: int, cache: FeatureCache | None, file: HiddenStateFile | None = None
    ) -> None:
        self.backbone, self.layer, self._file = backbone, layer, file or {}
        self._scope = CacheScope(cache, "lower layers", backbone.fingerprint, backbone.dtype, layer)

    def __call__(self, batch: EncodedBatch) -> Tensor:
        """Input states (B, n, h) for B texts, on the backbone's device; zero for soft tokens and padding."""
        batch = replace(batch, perturbation=None).to(torch.device("cpu"))  # the cache needs the ids as bytes
        places = batch.without_soft_tokens
        states = torch.cat(self._states(batch.keep(places))).to(self.backbone.device)
        return states.new_zeros(*places.shape, states.shape[-1]).index_put((places.to(states.device),), states)

    def in_one_pass(self, batch: EncodedBatch) -> Tensor:
        """The same states, computed in one pass by operations that torch's exporter can trace."""
        bare, column = batch.packed(batch.without_soft_tokens)
        hidden = nn.functional.pad(self._run(bare), (0, 0, 0, 1))
        return hidden.gather(1, column[..., None].expand(-1, -1, hidden.shape[2]))

    def open_file(self, batch: EncodedBatch, folder: Path) -> HiddenStateFile:
        """The file with the states of all texts of a batch; see `open_hidden_states`."""
        bare = batch.keep(batch.without_soft_tokens)
        rows = {key: row for row, key in enumerate(bare.keys())}
        keys = sorted(rows, key=lambda key: (len(key), key))
        states = self._computed(bare, [rows[key] for key in keys])
        return open_hidden_states(folder, self.backbone, self.layer, keys, states)

    def _states(self, bare: EncodedBatch) -> list[Tensor]:
        """States (n, h) of each text, from the file, the cache or the layers."""
        keys, dtype, size = bare.keys(), self.backbone.dtype, self.backbone.hidden_size
        states = {key: self._file[key] for key in keys if key in self._file}
        rows = {key: row for row, key in enumerate(keys) if key not in states}
        others = sorted(rows, key=len)  # `_computed` takes texts by length

        def computed(new: list[int]) -> Iterator[bytes]:
            return (to_bytes(text[None])[0] for text in self._computed(bare, [rows[others[i]] for i in new]))

        for key, value in zip(others, self._scope.values(others, computed), strict=True):
            states[key] = from_bytes([value], dtype).view(-1, size)
        return [states[key] for key in keys]

    @torch.no_grad()
    def _computed(self, bare: EncodedBatch, rows: Sequence[int]) -> Iterator[Tensor]:
        """States (n, h) of the texts with the given indices, which must be sorted by length."""
        batch = bare.select(torch.tensor(rows))
        for chosen in batch.passes(self.backbone.max_tokens):
            part = batch.select(chosen).to(self.backbone.device)
            hidden = self._run(part).cpu()
            yield from (states[:length] for states, length in zip(hidden, part.lengths.tolist(), strict=True))

    def _run(self, bare: EncodedBatch) -> Tensor:
        embeddings = self.backbone.embed_tokens(bare.input_ids)
        return self.backbone.run_layers(embeddings, bare.attention_mask, 0, self.layer)
