"""The estimators without a target: how they are built, what they answer, and their export."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.checker import ValidationError
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from mcp_hub.adapters.errors import Conflict, InvalidArgument, names_hint
from mcp_hub.services.inference.encoding import Arrays
from mcp_hub.services.inference.runtime import OnnxError
from mcp_hub.services.registry.views import InputField, OutputField, Scalar, Signature
from mcp_hub.services.training.frameworks.sklearn import SklearnConfig
from mcp_hub.services.training.frameworks.sklearn.forest import add_forest
from mcp_hub.services.training.frameworks.tabular.agreement import TOLERANCE, Agreement, run_file
from mcp_hub.services.training.frameworks.tabular.features import Features
from mcp_hub.services.training.frameworks.tabular.graph import ML_DOMAIN, ML_OPSET, OPSET, Graph
from mcp_hub.services.training.frameworks.tabular.outputs import free_name

_ALL = 10**9


@dataclass(frozen=True, slots=True)
class Kind:
    """An estimator, the param that says how many clusters or which share, and how many rows its
    fit, or its file, takes in reasonable time."""

    cls: type[Any]
    amount: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    most_rows: int = _ALL


CLUSTER_TYPES: dict[str, Kind] = {
    "kmeans": Kind(KMeans, "n_clusters", {"n_init": 4}),
    "gaussian_mixture": Kind(GaussianMixture, "n_components", {"reg_covar": 1e-3}),
}
_FLAGGED = 0.05
"""The share of rows to flag; what scikit-learn does by itself may flag half of them."""

ANOMALY_TYPES: dict[str, Kind] = {
    "isolation_forest": Kind(
        IsolationForest, "contamination", {"n_estimators": 200, "contamination": _FLAGGED}
    ),
    "one_class_svm": Kind(OneClassSVM, "nu", {"nu": _FLAGGED}, 10_000),
    "local_outlier_factor": Kind(
        LocalOutlierFactor, "contamination", {"novelty": True, "contamination": _FLAGGED}, 5_000
    ),
}


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted estimator with the features before it."""

    features: Features
    kind: Kind
    estimator: Any

    @property
    def gives_distances(self) -> bool:
        """Whether it answers with distances to clusters, and not with probabilities."""
        return self.kind.cls is KMeans

    def answers(self, matrix: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """For rows of features: clusters with distances or probabilities [rows, clusters], or
        flags with scores [rows], above 0 where flagged."""
        if self.kind.cls is KMeans:
            return self.estimator.predict(matrix), self.estimator.transform(matrix)
        if self.kind.cls is GaussianMixture:
            return self.estimator.predict(matrix), self.estimator.predict_proba(matrix)
        scores = -self.estimator.decision_function(matrix)
        return scores > 0, scores


def build(kind: Kind, config: SklearnConfig, clusters: int) -> Any:
    """An estimator to fit, with the `params` and the seed of `config`.

    Raises:
        InvalidArgument: it has no such param.
    """
    valid = kind.cls().get_params(deep=False)
    for param in config.params:
        if param not in valid:
            hint = names_hint(param, valid, "parameters")
            raise InvalidArgument(f"{kind.cls.__name__} has no parameter {param!r}.", hint)
    params = dict(kind.defaults)
    amount = clusters or config.contamination
    if amount:
        params[kind.amount] = amount
    if "random_state" in valid:
        params["random_state"] = config.seed
    given = dict(config.params)
    if kind.cls is LocalOutlierFactor:
        given["novelty"] = True
    if clusters:
        given[kind.amount] = clusters
    return kind.cls(**(params | given))


def export(
    fitted: Fitted, inputs: list[InputField], arrays: Arrays, matrix: Any, path: Path
) -> tuple[Signature, Agreement]:
    """Write the model to `path`, and compare the file on raw rows with the estimator on `matrix`,
    their features: scores may differ by 1e-4, relative where they are above 1; clusters and flags
    must be equal, but where the scores that decide are that close.

    Raises:
        Conflict: it cannot be converted or run, or does not agree.
    """
    try:
        signature = _write(fitted, inputs, path)
        names = [output.name for output in signature.outputs]
        labels, table = run_file(path, names, arrays, matrix.shape[0])
    except (
        RuntimeError, NotImplementedError, ValueError, TypeError, ValidationError, OnnxError,
    ) as error:  # fmt: skip
        raise Conflict(
            f"The model cannot be converted to ONNX, so it is not registered: {error}",
            "Other params may convert, or another estimator.",
        ) from error
    expected, scores = fitted.answers(matrix)
    differences = np.abs(table.reshape(scores.shape) - scores) / np.maximum(1, np.abs(scores))
    if scores.ndim == 1:
        close = np.abs(scores) <= TOLERANCE
    else:
        top = np.sort(scores, axis=1)
        first, second = (0, 1) if fitted.gives_distances else (-1, -2)
        close = np.abs(top[:, first] - top[:, second]) <= TOLERANCE * np.maximum(1, top[:, first])
    wrong = int(((labels.reshape(-1) != expected) & ~close).sum())
    agreement = Agreement(len(expected), float(differences.max()), wrong)
    if not agreement.difference <= TOLERANCE or wrong:
        raise Conflict(
            f"The ONNX model does not agree with the estimator on {len(expected)} held-out rows: "
            f"scores differ by up to {agreement.difference:.2g}, {wrong} answers (allowed: "
            f"{TOLERANCE:g}). It is not registered.",
            "Use another estimator.",
        )
    return signature, agreement


def _write(fitted: Fitted, inputs: list[InputField], path: Path) -> Signature:
    graph = Graph()
    matrix = fitted.features.add_to(graph, True)
    if fitted.kind.cls is IsolationForest:
        outputs = _anomaly_outputs(graph, add_forest(graph, fitted.estimator, matrix), inputs)
    else:
        outputs = _converted(graph, matrix, fitted, inputs)
    path.write_bytes(graph.model().SerializeToString())
    return Signature(inputs=inputs, outputs=outputs)


def _converted(
    graph: Graph, matrix: str, fitted: Fitted, inputs: list[InputField]
) -> list[OutputField]:
    converted = convert_sklearn(
        fitted.estimator,
        initial_types=[("features", FloatTensorType([None, fitted.estimator.n_features_in_]))],
        target_opset={"": OPSET, ML_DOMAIN: ML_OPSET},
    )
    label, table = graph.embed(converted, matrix)[:2]
    flat = graph.constant(np.array([-1]))
    if fitted.kind in ANOMALY_TYPES.values():
        decision = graph.apply("Reshape", table, flat)
        return _anomaly_outputs(graph, graph.apply("Neg", decision), inputs)
    return _cluster_outputs(graph, graph.apply("Reshape", label, flat), table, fitted, inputs)


def _anomaly_outputs(graph: Graph, score: str, inputs: list[InputField]) -> list[OutputField]:
    flag = graph.apply("Greater", score, graph.constant(np.array(0, dtype=np.float32)))
    flag_name, score_name = free_name("anomaly", inputs), free_name("score", inputs)
    graph.output(flag, flag_name, TensorProto.BOOL, [None])
    graph.output(score, score_name, TensorProto.FLOAT, [None])
    return [
        OutputField(name=flag_name, dtype="bool", shape=[None], role="prediction"),
        OutputField(name=score_name, dtype="float32", shape=[None], role="score"),
    ]


def _cluster_outputs(
    graph: Graph, clusters: str, table: str, fitted: Fitted, inputs: list[InputField]
) -> list[OutputField]:
    params = fitted.estimator.get_params()
    count = int(params[fitted.kind.amount])
    by_distance = fitted.gives_distances
    classes: list[Scalar] | None = None if by_distance else list(range(count))
    name = free_name("cluster", inputs)
    table_name = free_name("distances" if by_distance else "probabilities", inputs)
    graph.output(clusters, name, TensorProto.INT64, [None])
    graph.output(table, table_name, TensorProto.FLOAT, [None, count])
    return [
        OutputField(name=name, dtype="int64", shape=[None], role="prediction", classes=classes),
        OutputField(
            name=table_name, dtype="float32", shape=[None, count],
            role="score" if by_distance else "probabilities", classes=classes,
        ),
    ]  # fmt: skip
