"""The WARP model: texts under a task's parameters to features, and features to logits.

References:
    Hambardzumyan, Khachatrian, May (2021), "WARP: Word-level Adversarial ReProgramming", ACL: p(c) = softmax(f(x)·V_c),
    where f(x) is the masked language model's output at [MASK] before the decoder.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from episodes import InputError
from episodes.paths import user_path
from metawarp.adapters.adapter import AdapterContext
from metawarp.adapters.table import create_adapter
from metawarp.backbones.backbone import Backbone
from metawarp.config import InnerLoop, WarpConfig
from metawarp.parameters import TaskParameters
from metawarp.read_outs.table import read_out_named
from metawarp.texts.encoded_batch import EncodedBatch
from metawarp.texts.feature_cache import CacheScope, FeatureCache
from metawarp.texts.hidden_state_file import HiddenStateFile
from metawarp.texts.lower_layers import LowerLayers
from metawarp.texts.task_batch import LabelledTexts
from metawarp.texts.template import Template
from metawarp.texts.text_embeddings import TextEmbeddings
from metawarp.texts.text_encoder import TextEncoder
from metawarp.verbalizers.table import VERBALIZERS

logger = logging.getLogger(__name__)


class Warp:
    """A backbone and a config, as pure functions of parameters and texts.

    Args:
        backbone: the frozen encoder.
        config: settings of the model.
        cache: cache for token ids and for what frozen layers compute of texts; None: nothing is kept.
        hidden_states: file with the output of the layers below the adapter; see `with_hidden_states`.

    Its parts are `encoder`, the template bound to the tokenizer; `lower`, the layers below the adapter, if any;
    `adapter`; `read_out`; and `verbalizer`. InputError if the backbone does not support the config.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: WarpConfig,
        cache: FeatureCache | None = None,
        hidden_states: HiddenStateFile | None = None,
    ) -> None:
        self.backbone, self.config, self.cache = backbone, config, cache
        _require_supported(backbone, config)
        tokens = CacheScope(cache, "token ids", backbone.fingerprint, backbone.prompt, config.template)
        length = backbone.trained_length if config.max_length is None else config.max_length
        length = min(length, backbone.max_positions)
        self.encoder = TextEncoder(Template(config.template), backbone, length, config.stride, tokens)
        layer = config.adapter_layer
        self.lower = LowerLayers(backbone, layer, cache, hidden_states) if layer else None
        sentence = TextEmbeddings(backbone, [backbone.n_layers], cache)
        context = AdapterContext(backbone, self.encoder([""]), layer, self.lower, sentence)
        self.adapter = create_adapter(config.adapter, config.adapter_size, context)
        self.read_out = read_out_named(config.read_out)(config, self.encoder, self.adapter, cache)
        self.verbalizer = VERBALIZERS[config.verbalizer]

    def __reduce__(self) -> tuple[type["Warp"], tuple[Backbone, WarpConfig]]:
        """A pickled model is made again from backbone and config; what its cache holds stays behind."""
        return Warp, (self.backbone, self.config)

    @property
    def class_embedding_size(self) -> int:
        """Width of a class embedding."""
        return self.read_out.feature_size + self.verbalizer.has_bias

    @property
    def bytes_per_token(self) -> int:
        """Bytes of the hidden states of one token in the layers that the adapter can change."""
        layers = self.backbone.n_layers - self.config.adapter_layer
        return self.backbone.hidden_size * layers * self.backbone.dtype.itemsize

    def with_hidden_states(self, texts: Sequence[str], folder: str | Path) -> "Warp":
        """The same model with a file of what the layers below the adapter compute of some texts.

        The file is written into the folder if it is not there. InputError if there are no such layers, or the folder
        cannot be used.
        """
        if self.lower is None:
            raise InputError("cache_folder keeps the layers below adapter_layer, but adapter_layer=0; leave it out.")
        windows, _ = self.encoder.windows(self.encoder(list(dict.fromkeys(texts))))
        return Warp(self.backbone, self.config, self.cache, self.lower.open_file(windows, user_path(folder)))

    def warn_about_truncation(self, texts: Sequence[str]) -> None:
        """Log how many texts are longer than an input, unless they are read in windows."""
        if not self.config.stride and (n_truncated := self.encoder.n_truncated(texts)):
            limits = f"{self.encoder.room} tokens (max_length={self.encoder.max_length} includes the template)"
            message = "%d of %d texts are longer than %s and are truncated; a stride reads them in windows"
            logger.warning(message, n_truncated, len(texts), limits)

    def reads_again(self, inner: InnerLoop) -> bool:
        """Whether the texts have to be read again after each inner step, because the features depend on its updates."""
        return bool(set(self.read_out.depends_on) & set(inner.moving))

    def require_readable(self, inner: InnerLoop) -> None:
        """Check that the features depend on the adapter, if the inner loop updates it; InputError if they do not."""
        if "adapter" in inner.moving and "adapter" not in self.read_out.depends_on:
            given = f"read_out={self.config.read_out!r} with template={self.config.template!r} does not depend on it"
            advice = "add soft tokens, and pooled or mask to the read-out, or use a method such as method='anil'"
            raise InputError(f"The inner loop updates the adapter, but {given}; {advice}.")

    def read(self, parameters: TaskParameters, batch: EncodedBatch, task: Tensor) -> Tensor:
        """Features f(x) (B, d), or scores (B, C) of the read-out "replaced_token".

        The parameters are those of T tasks, and task (B,) is the index of each text's task. If all tasks share the
        adapter, a text that several tasks hold is read once.
        """
        if any(len(getattr(parameters, group)) > 1 for group in self.read_out.depends_on):
            return self.read_out(parameters, batch, task)
        copies = slice(None)
        if batch.perturbation is None:
            _, copies = torch.unique(batch.input_ids, dim=0, return_inverse=True)
            first = torch.zeros(int(copies.max()) + 1, dtype=torch.long)
            batch = batch.select(first.scatter_(0, copies, torch.arange(len(batch))))
        return self.read_out(parameters, batch, task.new_zeros(len(batch)))[copies]

    def read_names(self, parameters: TaskParameters, names: LabelledTexts) -> Tensor:
        """Features (N, d) of class names, as the config's `name_source` and the verbalizer want them."""
        assert names.batch is not None
        if self.config.name_source == "template":
            features = self.read(parameters, names.batch, names.task)
            return features * self.read_out.in_last_layer if self.verbalizer.names_in_last_layer else features
        batch, special = names.batch, torch.tensor(self.backbone.tokenizer.all_special_ids)
        words = (batch.text_mask & ~torch.isin(batch.input_ids, special)).to(parameters.adapter)
        vectors = self.backbone.embed_tokens(batch.input_ids).to(words)
        return (vectors * words[..., None]).sum(1) / words.sum(1, keepdim=True).clamp(min=1)


def _require_supported(backbone: Backbone, config: WarpConfig) -> None:
    """Check that a backbone supports a config; InputError if it does not."""
    has_word_features = config.read_out == "mask" and backbone.masked_lm_head is not None
    if config.name_source == "embeddings" and not (has_word_features or config.read_out == "replaced_token"):
        needed = "read_out='mask' and a masked-LM head, or read_out='replaced_token'"
        given = f"read_out={config.read_out!r} on backbone {backbone.name!r}"
        raise InputError(f"name_source='embeddings' needs {needed}; got {given}. Use name_source='template'.")
    if config.name_source == "embeddings" and backbone.prompt:
        problem = f"reads the words of a name alone, but the backbone puts prompt={backbone.prompt!r} before them"
        advice = "use name_source='template', or load the backbone with prompt=''"
        raise InputError(f"name_source='embeddings' {problem}; {advice}.")
    if config.stride and backbone.prompt and not backbone.layout.pooling.include_prompt:
        problem = f"backbone {backbone.name!r} does not pool its prompt, which stands in the first window only"
        raise InputError(f"stride={config.stride} is not supported: {problem}; use stride=0 or prompt=''.")
    if not 0 <= config.adapter_layer < backbone.n_layers:
        allowed = f"a layer of backbone {backbone.name!r}: 0 to {backbone.n_layers - 1}"
        raise InputError(f"adapter_layer={config.adapter_layer} must be {allowed}.")
