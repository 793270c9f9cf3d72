"""The network that TensorFlow.js kept, as one ONNX graph from raw columns."""

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.registry.views import Signature
from mcp_hub.services.training.frameworks.nodejs.preparing import Prepared
from mcp_hub.services.training.frameworks.tabular.graph import Graph
from mcp_hub.services.training.frameworks.tabular.outputs import class_outputs, number_output

_OPERATORS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "elu": "Elu"}


def export(folder: Path, prepared: Prepared, activation: str, path: Path) -> Signature:
    """Write the model in `folder`, with the features before it, to `path`; its signature."""
    inputs, classes = prepared.learned.inputs, prepared.learned.target.classes
    graph = Graph()
    value = prepared.features.add_to(graph, scaled=True)
    *hidden, last = _layers(folder)
    for kernel, bias in hidden:
        value = _dense(graph, value, kernel, bias)
        value = graph.apply(_OPERATORS[activation], value)
    value = _dense(graph, value, *last)
    if classes:
        value = graph.apply("Softmax", value, axis=1)
        outputs = class_outputs(graph, value, classes, inputs)
    else:
        outputs = number_output(graph, value, (prepared.shift, prepared.scale), inputs)
    path.write_bytes(graph.model().SerializeToString())
    return Signature(inputs=inputs, outputs=outputs)


def _dense(graph: Graph, value: str, kernel: NDArray[Any], bias: NDArray[Any]) -> str:
    return graph.apply("Gemm", value, graph.constant(kernel), graph.constant(bias))


def _layers(folder: Path) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Kernel [inputs, units] and bias [units] of each dense layer, from the first to the last."""
    (group,) = json.loads((folder / "model.json").read_text(encoding="utf-8"))["weightsManifest"]
    (file,) = group["paths"]
    values = np.fromfile(folder / file, dtype="<f4")
    arrays, start = [], 0
    for weight in group["weights"]:
        size = prod(weight["shape"])
        arrays.append(values[start : start + size].reshape(weight["shape"]))
        start += size
    return list(zip(arrays[::2], arrays[1::2], strict=True))
