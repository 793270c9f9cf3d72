"""A small builder of ONNX graphs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, compose, helper
from onnx.numpy_helper import from_array

OPSET = 17
ML_OPSET = 3
ML_DOMAIN = "ai.onnx.ml"
RUNTIME_DOMAIN = "com.microsoft"
_IR_VERSION = 8
_OPSETS = {"": OPSET, ML_DOMAIN: ML_OPSET, RUNTIME_DOMAIN: 1}


class Graph:
    """Nodes and constants as they are added; values are known by name."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._embedded = 0

    def input(self, name: str, element: int, width: int) -> str:
        """An input [rows, width] of the given element type."""
        self._inputs.append(helper.make_tensor_value_info(name, element, [None, width]))
        return name

    def output(self, value: str, name: str, element: int, shape: list[int | None]) -> None:
        """Give out `value` as `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"out/{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, element, shape))

    def constant(self, array: NDArray[Any]) -> str:
        """The name of a constant; an object array is one of strings."""
        name = f"hub/constant_{len(self._constants)}"
        self._constants.append(from_array(array, name))
        return name

    def apply(self, op: str, *values: str, domain: str = "", **attributes: Any) -> str:
        """The one output of an operator on values."""
        name = f"hub/{op}_{len(self._nodes)}"
        node = helper.make_node(op, values, [name], name=name, domain=domain, **attributes)
        self._nodes.append(node)
        return name

    def concat(self, values: list[str]) -> str:
        """[rows, a], [rows, b], … side by side."""
        return values[0] if len(values) == 1 else self.apply("Concat", *values, axis=1)

    def embed(self, model: ModelProto, value: str) -> list[str]:
        """Add a model of one input, applied to `value`; the names of its outputs."""
        prefix = f"estimator_{self._embedded}/" if self._embedded else "estimator/"
        self._embedded += 1
        inner = compose.add_prefix(model, prefix).graph
        self._nodes.append(helper.make_node("Identity", [value], [inner.input[0].name]))
        self._nodes.extend(inner.node)
        self._constants.extend(inner.initializer)
        return [output.name for output in inner.output]

    def model(self) -> ModelProto:
        """The whole, checked."""
        graph = helper.make_graph(
            self._nodes, "mcp-hub", self._inputs, self._outputs, self._constants
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="mcp-hub"
        )
        checker.check_model(model)
        return model


def float_constant(values: Any) -> NDArray[np.float32]:
    """Numbers as float32, the type that every number of the graph has."""
    return np.asarray(values, dtype=np.float32)
