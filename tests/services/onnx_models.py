"""Small real models as ONNX, each made once, with the signature that a training job gives it."""

import warnings
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mcp_hub.services.registry.views import InputField, OutputField, Scalar, Signature

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

IRIS_COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


class Trained(NamedTuple):
    """A fitted estimator, its data as float32, and its ONNX with the signature."""

    estimator: Any
    x: NDArray[np.float32]
    columns: list[str]
    onnx: bytes
    signature: Signature

    def rows(self, count: int) -> list[dict[str, Any]]:
        """The first `count` rows as an agent gives them."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.x[:count].tolist()]


@cache
def iris(regularization: float = 1.0) -> Trained:
    """Three classes with names."""
    data = load_iris()
    labels = np.array(data.target_names)[data.target]
    return _classifier(data.data, labels, IRIS_COLUMNS, regularization)


@cache
def cancer() -> Trained:
    """Two classes, false and true, over 30 columns."""
    data = load_breast_cancer()
    return _classifier(data.data, data.target == 1, _columns(30), 1.0)


@cache
def floats() -> Trained:
    """Three classes that are the numbers 0.0, 1.0 and 2.0."""
    data = load_iris()
    return _classifier(data.data, data.target.astype(float), IRIS_COLUMNS, 1.0)


@cache
def diabetes() -> Trained:
    """A regression."""
    data = load_diabetes()
    x = data.data.astype(np.float32)
    estimator = make_pipeline(StandardScaler(), LinearRegression()).fit(x, data.target)
    columns = _columns(10)
    onnx = _export(estimator, columns, None)
    prediction = OutputField(name="variable", dtype="float32", shape=[None, 1], role="prediction")
    return Trained(estimator, x, columns, onnx, _signature(columns, [prediction]))


@cache
def matrix_file(zipmap: bool = False) -> bytes:
    """Iris as people export it: one input X [n, 4], integer labels."""
    data = load_iris()
    x = data.data.astype(np.float32)
    estimator = LogisticRegression(max_iter=500).fit(x, data.target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = to_onnx(estimator, x[:1], options=None if zipmap else {"zipmap": False})
    return bytes(exported.SerializeToString())


def _classifier(
    data: NDArray[Any], labels: NDArray[Any], columns: list[str], regularization: float
) -> Trained:
    x = data.astype(np.float32)
    estimator = make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=500, C=regularization)
    ).fit(x, labels)
    classes: list[Scalar] = estimator.classes_.tolist()
    outputs = [
        OutputField(
            name="label",
            dtype="string" if labels.dtype.kind == "U" else "int64",
            shape=[None],
            role="prediction",
        ),
        OutputField(
            name="probabilities",
            dtype="float32",
            shape=[None, len(classes)],
            role="probabilities",
            classes=classes,
        ),
    ]
    onnx = _export(estimator, columns, {"zipmap": False})
    return Trained(estimator, x, columns, onnx, _signature(columns, outputs))


def _export(estimator: Any, columns: list[str], options: dict[str, Any] | None) -> bytes:
    types = [(column, FloatTensorType([None, 1])) for column in columns]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = to_onnx(estimator, initial_types=types, options=options)
    return bytes(exported.SerializeToString())


def _signature(columns: list[str], outputs: list[OutputField]) -> Signature:
    inputs = [
        InputField(name=column, dtype="float32", shape=[None, 1], kind="number", nullable=True)
        for column in columns
    ]
    return Signature(inputs=inputs, outputs=outputs)


def _columns(count: int) -> list[str]:
    return [f"c{index}" for index in range(count)]
