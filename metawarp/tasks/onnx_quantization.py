"""8-bit weights for an ONNX graph, by onnxruntime's own quantizer."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

Quantization = Literal["int8"]


def quantized(graph: bytes) -> bytes:
    """A graph with weights in 8 bits, and activations that are quantized as they are computed; its metadata stay.

    ImportError with the command that installs onnxruntime if it is missing.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ImportError('ONNX export needs an extra: pip install "metawarp[onnx]"') from error
    root, level = logging.getLogger(), logging.getLogger().level
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "graph.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(graph)
        root.setLevel(logging.ERROR)  # it advises a preprocessing that this graph does not need
        try:
            quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)
        finally:
            root.setLevel(level)
        return target.read_bytes()
