"""What `auto=true` tries: estimators and settings, fixed, in the order in which they are tried.

Cheap ones that often suffice come first, so that a short budget has looked at every family that
it could; costlier settings of the same families follow.
"""

from dataclasses import replace
from typing import Any

from mcp_hub.services.training.frameworks.sklearn import SklearnConfig
from mcp_hub.services.training.frameworks.sklearn.estimators import (
    CLASSIFIERS,
    MANY_ROWS,
    REGRESSORS,
    EstimatorType,
    Shape,
    for_many_rows,
    has_numbers,
    takes,
)

_Settings = tuple[tuple[str, dict[str, Any]], ...]

_STEADY: dict[str, Any] = {"n_estimators": 200, "learning_rate": 0.05, "subsample": 0.7}
"""Stochastic gradient boosting (Friedman, 2002) in smaller steps than scikit-learn's own."""

_CLASSIFIERS: _Settings = (
    ("logistic_regression", {}),
    ("naive_bayes", {}),
    ("decision_tree", {}),
    ("random_forest", {}),
    ("svm", {}),
    ("extra_trees", {}),
    ("logistic_regression", {"C": 0.1}),
    ("logistic_regression", {"C": 10.0}),
    ("svm", {"C": 10.0}),
    ("gradient_boosting", _STEADY),
    ("mlp", {}),
    ("random_forest", {"n_estimators": 300, "max_features": 0.5}),
    ("extra_trees", {"n_estimators": 300, "max_features": 0.5}),
    ("mlp", {"alpha": 1.0}),
    ("gradient_boosting", {"n_estimators": 300, "max_depth": 5, "max_features": 0.5}),
)
_REGRESSORS: _Settings = (
    ("ridge", {}),
    ("linear_regression", {}),
    ("decision_tree", {}),
    ("random_forest", {}),
    ("svm", {}),
    ("extra_trees", {}),
    ("ridge", {"alpha": 10.0}),
    ("lasso", {"alpha": 0.01}),
    ("elastic_net", {"alpha": 0.05}),
    ("gradient_boosting", _STEADY),
    ("svm", {"C": 10.0}),
    ("svm", {"C": 0.3}),
    ("random_forest", {"n_estimators": 300, "max_features": 0.5}),
    ("extra_trees", {"n_estimators": 300, "max_features": 0.5}),
    ("mlp", {"alpha": 1.0}),
    ("gradient_boosting", {"n_estimators": 300, "max_depth": 5, "max_features": 0.5}),
)


def portfolio(shape: Shape, config: SklearnConfig) -> dict[str, EstimatorType]:
    """The candidates that suit rows of that shape, by name, in the order to try them."""
    types = CLASSIFIERS if shape.classes else REGRESSORS
    chosen: dict[str, EstimatorType] = {}
    for estimator, params in _CLASSIFIERS if shape.classes else _REGRESSORS:
        kind = types[estimator]
        if not _suits(estimator, kind, shape, config):
            continue
        kind = for_many_rows(kind, shape)
        # The penalty of these is in the target's unit, so they learn it at spread 1.
        scales_target = kind.scales_target or estimator in ("lasso", "elastic_net")
        settings = ",".join(f"{key}={value}" for key, value in params.items())
        name = f"{estimator}({settings})" if params else estimator
        defaults = {**kind.defaults, **params}
        chosen[name] = replace(kind, defaults=defaults, scales_target=scales_target)
    return chosen


def estimator_of(candidate: str) -> str:
    """The estimator of a candidate's name."""
    return candidate.partition("(")[0]


def _suits(estimator: str, kind: EstimatorType, shape: Shape, config: SklearnConfig) -> bool:
    if config.class_weight and not takes(kind, "class_weight"):
        return False
    if not kind.takes_numbers and has_numbers(shape):
        return False
    if estimator == "svm":
        return shape.rows <= MANY_ROWS and (not shape.classes or shape.rarest >= 10)
    return True
