"""ONNX graphs that also accept a batch of no texts.

Graphs contain divisions by the number of texts, which is zero then. Such a batch is given one row, whose result is cut
off again; other batches pass unchanged.
"""

from typing import Any

import numpy as np


def accept_no_texts(model: Any) -> None:
    """Change a graph (an `onnx_ir.Model`) whose inputs (B, n) and outputs (B, …) have the texts in their rows."""
    import onnx_ir as ir

    graph = model.graph
    first, first_input = graph[0], graph.inputs[0].name

    def before(operation: str, inputs: list, **attributes: Any) -> Any:
        node = ir.node(operation, inputs, attributes)
        graph.insert_before(first, node)
        return node.outputs[0]

    def constant(*values: int) -> Any:
        return before("Constant", [], value=ir.tensor(np.array(values, dtype=np.int64)))

    inputs = [ir.Value(name=old.name, shape=old.shape, type=old.type) for old in graph.inputs]
    start, one, next_row = constant(0), constant(1), constant(0, 0, 1, 0)
    n_texts = before("Shape", [next(value for value in inputs if value.name == first_input)], start=0, end=1)
    n_rows = before("Max", [n_texts, one])
    for i, (old, new) in enumerate(zip(list(graph.inputs), inputs, strict=True)):
        rows = before("Slice", [before("Pad", [new, next_row]), start, n_rows, start])
        old.replace_all_uses_with(rows)
        rows.name, graph.inputs[i] = f"{new.name}_rows", new
    for i, result in enumerate(list(graph.outputs)):
        cut = ir.node("Slice", [result, start, n_texts, start])
        graph.append(cut)
        output, name, result.name = cut.outputs[0], result.name, f"{result.name}_rows"
        output.name, output.shape, output.type = name, result.shape, result.type
        graph.outputs[i] = output
