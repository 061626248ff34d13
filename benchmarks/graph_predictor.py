"""Prediction with an exported ONNX graph by onnxruntime, as a server without torch would do it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

BATCH = 32
"""Texts per run of the graph, as in `encode`."""


class GraphPredictor:
    """The graph of a file, on the CPU with this number of threads."""

    def __init__(self, file: Path, tokenizer: PreTrainedTokenizerBase, threads: int) -> None:
        import onnxruntime  # only here: the tables need no such package

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.tokenizer, facts = tokenizer, self.session.get_modelmeta().custom_metadata_map
        self.classes, self.prefix = json.loads(facts["classes"]), facts["text_prefix"]
        self.max_tokens, self.lower_case = int(facts["max_tokens"]), json.loads(facts["lower_case"])

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Labels of the texts, which are read in the order of their lengths."""
        predicted = [""] * len(texts)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            for row, column in zip(rows, self._probabilities([texts[row] for row in rows]).argmax(1), strict=True):
                predicted[row] = self.classes[column]
        return predicted

    def _probabilities(self, texts: Sequence[str]) -> np.ndarray:
        encoded = self.tokenizer(
            [self.prefix + (text.lower() if self.lower_case else text) for text in texts],
            add_special_tokens=False,
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="np",
        )
        inputs = {name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
        return np.asarray(self.session.run(["probabilities"], inputs)[0])
