"""What the layers below a prompt make of texts, kept: it does not depend on the prompt, whatever is learned above."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from episodes import InputError
from metawarp.backbones.backbone import Backbone
from metawarp.texts.cache import TensorCache
from metawarp.texts.encoded import EncodedBatch

logger = logging.getLogger(__name__)

LIMIT = 2**30
"""Bytes of hidden states that are cached in memory."""

_FORMAT = "metawarp-hidden-1"
_UNLIKE = ("_name_or_path", "dtype", "transformers_version")
"""Entries of a model's config that say nothing of what it computes."""


class LowerLayers:
    """Hidden states that enter the prompt's layer, computed once for each text.

    Args:
        backbone: frozen, so that the same tokens always give the same.
        layer: where the prompt enters; at least 1.
        limit: bytes cached in memory; a file (see `remember`) is not counted.
    """

    def __init__(self, backbone: Backbone, layer: int, limit: int = LIMIT) -> None:
        self.backbone, self.layer, self.cache = backbone, layer, TensorCache(limit)
        self._places: dict[bytes, slice] = {}
        self._mapped = torch.empty(0)

    def __call__(self, batch: EncodedBatch) -> Tensor:
        """What enters the layer of B texts anywhere, (B, n, h) on the backbone's device.

        Zero where a soft token is going to stand, and at padding.
        """
        batch = replace(batch, shift=None).to(torch.device("cpu"))  # where keys are made of bytes
        bare = batch.without_prompt()
        keys = bare.keys()
        found = {key: states for key in keys if (states := self._find(key)) is not None}
        new = {key: row for row, key in enumerate(keys) if key not in found}
        new = dict(sorted(new.items(), key=lambda item: len(item[0])))
        for key, states in zip(new, self._computed(bare, list(new.values())), strict=True):
            found[key] = states.clone()  # a slice of its pass would keep the whole of it
        states = torch.cat([found[key] for key in keys]).to(self.backbone.device)
        self.cache.put({key: found[key] for key in new})
        places = (batch.attention_mask & (batch.prompt_index < 0)).to(states.device)
        return states.new_zeros(*places.shape, states.shape[-1]).index_put((places,), states)

    def uncached(self, batch: EncodedBatch) -> Tensor:
        """The same, (B, n, h), computed in one pass, by operations that a graph can have."""
        bare, place = batch.packed(batch.attention_mask & (batch.prompt_index < 0))
        embeddings = self.backbone.embedded(bare.input_ids)
        hidden = nn.functional.pad(self.backbone.through(embeddings, bare.attention_mask, 0, self.layer), (0, 0, 0, 1))
        return hidden.gather(1, place[..., None].expand(-1, -1, hidden.shape[2]))

    def remember(self, batch: EncodedBatch, folder: Path) -> None:
        """Compute all texts of a batch now, into a memory-mapped file; take the file where it is there already.

        The file is named after everything that its content depends on, and ends with a sha256 of name and content. One
        that is damaged, or not what its name says, is made again; a new one appears whole, so that several processes
        may do this at the same time.

        Args:
            batch: the texts.
            folder: made where it is missing.

        Raises:
            InputError: the file is not there and cannot be written.
        """
        bare = batch.without_prompt()
        rows = {key: row for row, key in enumerate(bare.keys())}
        keys = sorted(rows, key=lambda key: (len(key), key))
        ends = np.cumsum([len(key) // bare.input_ids.itemsize for key in keys]).tolist()
        file = folder / f"{self._name(keys)}.hidden"
        if not self._map(file, ends[-1]):
            self._write(file, self._computed(bare, [rows[key] for key in keys]), ends[-1])
            if not self._map(file, ends[-1]):
                raise InputError(f"cache file {str(file)!r} cannot be read back; name another folder, or leave it out.")
        self._places = {key: slice(start, end) for key, start, end in zip(keys, [0, *ends], ends, strict=False)}

    def _find(self, key: bytes) -> Tensor | None:
        if key in self._places:
            return self._mapped[self._places[key]]
        return self.cache.get(key)

    @torch.no_grad()
    def _computed(self, bare: EncodedBatch, rows: Sequence[int]) -> Iterator[Tensor]:
        """Hidden states (n, h) of some of the texts, which must be given in the order of their length."""
        if not rows:
            return
        batch = bare.select(torch.tensor(rows))
        for chosen in batch.passes(self.backbone.max_tokens):
            some = batch.select(chosen).to(self.backbone.device)
            embeddings = self.backbone.embedded(some.input_ids)
            hidden = self.backbone.through(embeddings, some.attention_mask, 0, self.layer).cpu()
            yield from (states[:length] for states, length in zip(hidden, some.lengths.tolist(), strict=True))

    def _name(self, keys: Sequence[bytes]) -> str:
        """Sha256 (32 hex digits) of weights, config, dtype, layer, and of the texts as the tokenizer gave them."""
        config = {k: v for k, v in self.backbone.model.config.to_dict().items() if k not in _UNLIKE}  # pyright: ignore
        head = [_FORMAT, self.backbone.fingerprint, config, str(self.backbone.dtype), self.layer, len(keys)]
        digest = hashlib.sha256(json.dumps(head, sort_keys=True, default=str).encode())
        for key in keys:
            digest.update(len(key).to_bytes(4, "little") + key)
        return digest.hexdigest()[:32]

    def _map(self, file: Path, tokens: int) -> bool:
        """Map a file of so many hidden states, if it is there and sound."""
        width = self.backbone.hidden_size
        size = tokens * width * self.backbone.dtype.itemsize
        try:
            content = np.memmap(file, mode="c")
        except (OSError, ValueError):  # not there, or empty
            return False
        digest = hashlib.sha256(file.stem.encode())
        digest.update(content[:size].data)
        if len(content) != size + digest.digest_size or bytes(content[size:]) != digest.digest():
            logger.warning("cache file %r is damaged or of something else; it is made again", str(file))
            return False
        self._mapped = torch.from_numpy(content[:size]).view(self.backbone.dtype).view(tokens, width)
        return True

    def _write(self, file: Path, hidden: Iterable[Tensor], tokens: int) -> None:
        digest = hashlib.sha256(file.stem.encode())
        # Not by the process's number: on another machine that shares the folder another process may have it.
        part = file.with_name(f"{file.stem}.{uuid4().hex}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "xb") as opened:
                for states in tqdm(hidden, desc="layers below the prompt", unit="text", disable=None, leave=False):
                    content = states.contiguous().view(torch.uint8).numpy().data
                    opened.write(content)
                    digest.update(content)
                opened.write(digest.digest())
            os.replace(part, file)
        except OSError as error:
            raise InputError(
                f"cache folder {str(file.parent)!r} cannot be written ({error.strerror}; room is needed for {tokens:,} "
                "hidden states); name another folder, or leave the cache out."
            ) from error
        finally:
            with suppress(OSError):
                part.unlink()
