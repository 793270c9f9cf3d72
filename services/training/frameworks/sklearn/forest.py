"""An isolation forest in ONNX: one node for all of its trees.

skl2onnx writes some dozen operators for each tree, which takes minutes to convert and is slow to
serve. What a forest asks of each tree is a single number, the length of the path that isolates a
row, so that it is a sum of regression trees (Liu, Ting and Zhou, 2008, equations 1 and 2).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcp_hub.services.training.frameworks.tabular.graph import ML_DOMAIN, Graph, float_constant

_LEAF = -1


def add_forest(graph: Graph, forest: Any, matrix: str) -> str:
    """The anomaly scores [rows] of an IsolationForest on `matrix`, above 0 where flagged."""
    lengths = graph.apply(
        "TreeEnsembleRegressor", matrix, domain=ML_DOMAIN, n_targets=1, aggregate_function="SUM",
        **_trees(forest),
    )  # fmt: skip
    usual = len(forest.estimators_) * float(_average_path(np.array([forest.max_samples_]))[0])
    share = graph.apply("Div", lengths, graph.constant(float_constant([-usual])))
    score = graph.apply("Pow", graph.constant(float_constant([2.0])), share)
    score = graph.apply("Add", score, graph.constant(float_constant([forest.offset_])))
    return graph.apply("Reshape", score, graph.constant(np.array([-1])))


def _trees(forest: Any) -> dict[str, list[Any]]:
    """The attributes of the node: each leaf has the length of the paths that end in it."""
    nodes: dict[str, list[Any]] = {
        f"nodes_{part}": []
        for part in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
                     "falsenodeids")
    }  # fmt: skip
    leaves: dict[str, list[Any]] = {
        f"target_{part}": [] for part in ("treeids", "nodeids", "ids", "weights")
    }
    pairs = zip(forest.estimators_, forest.estimators_features_, strict=True)
    for number, (estimator, columns) in enumerate(pairs):
        tree = estimator.tree_
        count = tree.node_count
        inner = tree.children_left != _LEAF
        nodes["nodes_treeids"] += [number] * count
        nodes["nodes_nodeids"] += range(count)
        nodes["nodes_featureids"] += np.where(
            inner, columns[np.maximum(tree.feature, 0)], 0
        ).tolist()
        nodes["nodes_values"] += np.where(inner, _rounded_down(tree.threshold), 0).tolist()
        nodes["nodes_modes"] += np.where(inner, "BRANCH_LEQ", "LEAF").tolist()
        nodes["nodes_truenodeids"] += np.where(inner, tree.children_left, 0).tolist()
        nodes["nodes_falsenodeids"] += np.where(inner, tree.children_right, 0).tolist()
        ends = np.flatnonzero(~inner)
        lengths = _depths(tree)[ends] + _average_path(tree.n_node_samples[ends])
        leaves["target_treeids"] += [number] * len(ends)
        leaves["target_nodeids"] += ends.tolist()
        leaves["target_ids"] += [0] * len(ends)
        leaves["target_weights"] += lengths.tolist()
    return nodes | leaves


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The greatest float32 that is not above each: a float32 is below the one as the other."""
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _depths(tree: Any) -> NDArray[np.float64]:
    """How many splits lead to each node; a parent comes before its children."""
    depths = np.zeros(tree.node_count)
    for node in range(tree.node_count):
        for child in (tree.children_left[node], tree.children_right[node]):
            if child != _LEAF:
                depths[child] = depths[node] + 1
    return depths


def _average_path(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many more splits would isolate a row among so many, on average."""
    many = np.maximum(rows, 3).astype(np.float64)
    further = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(rows > 2, further, np.where(rows == 2, 1.0, 0.0))
