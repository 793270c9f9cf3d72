"""A fitted model as one ONNX graph from raw columns, and the proof that it predicts the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.checker import ValidationError
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType

from mcp_hub.adapters.errors import Conflict
from mcp_hub.services.inference.encoding import Arrays
from mcp_hub.services.inference.runtime import OnnxError, open_session, run_session
from mcp_hub.services.registry.views import InputField, OutputField, Scalar, Signature
from mcp_hub.services.training.frameworks.sklearn.estimators import processors
from mcp_hub.services.training.frameworks.sklearn.features import take
from mcp_hub.services.training.frameworks.sklearn.fitting import Model
from mcp_hub.services.training.frameworks.sklearn.graph import (
    ML_DOMAIN,
    ML_OPSET,
    OPSET,
    Graph,
    float_constant,
)
from mcp_hub.services.training.frameworks.sklearn.reports import Predicted
from mcp_hub.services.training.frameworks.sklearn.voting import Vote

TOLERANCE = 1e-4
_CELLS_AT_ONCE = 10_000_000
_OTHER_ESTIMATORS = "Use another estimator; logistic_regression, ridge and random_forest convert."


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the graph's predictions are from the estimator's.

    `difference` is the greatest: of probabilities as it is; of numbers relative to the prediction
    or, where that is greater, to the spread of the target.
    """

    rows: int
    difference: float
    labels_differing: int = 0


def export(
    model: Model | Vote, inputs: list[InputField], classes: list[Scalar] | None, path: Path
) -> Signature:
    """Write the model to `path`; its signature.

    Raises:
        Conflict: the estimator cannot be converted, with these params.
    """
    graph = Graph()
    model.features.add_inputs_to(graph)
    scales = dict.fromkeys(member.kind.scales_inputs for member in model.members)
    matrices = {scaled: model.features.add_matrix_to(graph, scaled) for scaled in scales}
    try:
        results = [
            _member(graph, member, matrices[member.kind.scales_inputs], classes is not None)
            for member in model.members
        ]
        result = results[0] if len(results) == 1 else graph.apply("Mean", *results)
        outputs = (
            class_outputs(graph, result, classes, inputs)
            if classes
            else number_output(graph, result, (0.0, 1.0), inputs)
        )
        path.write_bytes(graph.model().SerializeToString())
    except (RuntimeError, NotImplementedError, ValueError, TypeError, ValidationError) as error:
        raise Conflict(
            f"The model cannot be converted to ONNX, so it is not registered: {error}",
            f"Other params may convert. {_OTHER_ESTIMATORS}",
        ) from error
    return Signature(inputs=inputs, outputs=outputs)


def check_agreement(
    path: Path,
    signature: Signature,
    arrays: Arrays,
    predicted: Predicted,
    spread: float,
    remedy: str = _OTHER_ESTIMATORS,
) -> Agreement:
    """Compare the served file's predictions on raw rows with the estimator's.

    Probabilities may differ by 1e-4. Labels must be equal, but where the two greatest
    probabilities are within 1e-4 of each other. Numbers may differ by 1e-4 of the prediction or
    of `spread`, the standard deviation of the target, whichever is greater.

    Raises:
        Conflict: they do not agree, or the file cannot be run.
    """
    names = [output.name for output in signature.outputs]
    try:
        served = run_file(path, names, arrays, len(predicted.values))
    except OnnxError as error:
        raise Conflict(
            f"onnxruntime cannot run the model, so it is not registered: {error}",
            remedy,
        ) from error
    if predicted.probabilities is None:
        agreement = _compare_numbers(served[0], predicted.values, spread)
    else:
        classes = signature.outputs[0].classes or []
        labels = np.array([classes[code] for code in predicted.values], dtype=object)
        agreement = _compare_classes(served[0], served[1], labels, predicted.probabilities)
    if not agreement.difference <= TOLERANCE or agreement.labels_differing:
        wrong = f", {agreement.labels_differing} labels" if agreement.labels_differing else ""
        raise Conflict(
            f"The ONNX model does not agree with the estimator on {agreement.rows} held-out rows: "
            f"predictions differ by up to {agreement.difference:.2g}{wrong} "
            f"(allowed: {TOLERANCE:g}). It is not registered.",
            remedy,
        )
    return agreement


def _member(graph: Graph, model: Model, matrix: str, classifies: bool) -> str:
    """A fitted estimator's table of probabilities, or its numbers [rows, 1] in their own scale."""
    width = model.estimator.n_features_in_
    converted = convert_sklearn(
        model.estimator,
        initial_types=[("features", FloatTensorType([None, width]))],
        options={id(model.estimator): {"zipmap": False}} if classifies else None,
        target_opset={"": OPSET, ML_DOMAIN: ML_OPSET},
    )
    results = graph.embed(converted, matrix)
    if classifies:
        return results[1]
    return _in_unit(graph, results[0], (model.shift, model.scale))


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
    value = _in_unit(graph, result, unit)
    name = free_name("prediction", inputs)
    graph.output(value, name, TensorProto.FLOAT, [None, 1])
    return [OutputField(name=name, dtype="float32", shape=[None, 1], role="prediction")]


def _in_unit(graph: Graph, result: str, unit: tuple[float, float]) -> str:
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


def run_file(path: Path, names: list[str], arrays: Arrays, rows: int) -> list[NDArray[Any]]:
    """The named outputs of a model's file on raw rows. Raises OnnxError."""
    session = open_session(path.read_bytes(), processors())
    width = max(1, sum(array.shape[1] for array in arrays.values()))
    size = max(1, min(rows, _CELLS_AT_ONCE // width, 2_000))
    parts = [
        run_session(session, names, take(arrays, np.arange(start, min(start + size, rows))))
        for start in range(0, rows, size)
    ]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _compare_numbers(served: NDArray[Any], expected: NDArray[Any], spread: float) -> Agreement:
    differences = np.abs(served[:, 0] - expected) / np.maximum(np.abs(expected), spread)
    return Agreement(len(expected), float(differences.max()))


def _compare_classes(
    served_labels: NDArray[Any],
    served_probabilities: NDArray[Any],
    labels: NDArray[Any],
    probabilities: NDArray[np.float64],
) -> Agreement:
    top = np.sort(probabilities, axis=1)[:, -2:]
    is_close_call = top[:, 1] - top[:, 0] <= TOLERANCE
    differing = (served_labels.astype(object) != labels) & ~is_close_call
    differences = np.abs(served_probabilities - probabilities)
    return Agreement(len(labels), float(differences.max()), int(differing.sum()))
