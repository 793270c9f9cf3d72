"""What a model answers, in its graph and in its signature."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from mcp_hub.services.registry.views import InputField, OutputField, Scalar
from mcp_hub.services.training.frameworks.tabular.graph import Graph, float_constant


def class_outputs(
    graph: Graph, table: str, classes: list[Scalar], inputs: list[InputField]
) -> list[OutputField]:
    """Give out the probabilities [rows, classes] in `table`, and the label of the greatest."""
    labels, element, dtype = _label_constant(classes)
    # Not the converter's own label: onnxruntime's trees decide two classes by another rule where
    # no leaf is negative.
    code = graph.apply("ArgMax", table, axis=1, keepdims=0)
    label = graph.apply("Gather", graph.constant(labels), code, axis=0)
    label_name, table_name = free_name("label", inputs), free_name("probabilities", inputs)
    graph.output(label, label_name, element, [None])
    graph.output(table, table_name, TensorProto.FLOAT, [None, len(classes)])
    return [
        OutputField(
            name=label_name, dtype=dtype, shape=[None], role="prediction", classes=classes
        ),
        OutputField(
            name=table_name, dtype="float32", shape=[None, len(classes)],
            role="probabilities", classes=classes,
        ),
    ]  # fmt: skip


def number_output(
    graph: Graph, result: str, unit: tuple[float, float], inputs: list[InputField]
) -> list[OutputField]:
    """Give out one number a row: `result` in the target's unit, of that shift and scale."""
    value = in_unit(graph, result, unit)
    name = free_name("prediction", inputs)
    graph.output(value, name, TensorProto.FLOAT, [None, 1])
    return [OutputField(name=name, dtype="float32", shape=[None, 1], role="prediction")]


def in_unit(graph: Graph, result: str, unit: tuple[float, float]) -> str:
    """`result`, a number a row, as [rows, 1] in the unit of that shift and scale."""
    shift, scale = unit
    value = graph.apply("Reshape", result, graph.constant(np.array([-1, 1])))
    if unit != (0.0, 1.0):
        value = graph.apply("Mul", value, graph.constant(float_constant([scale])))
        value = graph.apply("Add", value, graph.constant(float_constant([shift])))
    return value


def _label_constant(classes: list[Scalar]) -> tuple[NDArray[Any], int, str]:
    if isinstance(classes[0], str):
        return np.array(classes, dtype=object), TensorProto.STRING, "string"
    if isinstance(classes[0], bool):
        return np.array(classes, dtype=np.bool_), TensorProto.BOOL, "bool"
    if isinstance(classes[0], int):
        return np.array(classes, dtype=np.int64), TensorProto.INT64, "int64"
    return np.array(classes, dtype=np.float64), TensorProto.DOUBLE, "float64"


def free_name(name: str, inputs: list[InputField]) -> str:
    """A name for an output that no input has."""
    taken = {field.name for field in inputs}
    while name in taken:
        name = f"predicted_{name}"
    return name
