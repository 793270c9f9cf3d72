"""The estimators on offer: those that convert to ONNX and then predict the same.

Not on offer, as tried with skl2onnx 1.20: histogram boosting (does not convert), nearest neighbours
(differ where distances tie or weigh), Gaussian naive Bayes and discriminant analysis (differ where
columns are nearly constant or depend on each other).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.cores import usable_cores
from mcp_hub.services.training.frameworks.sklearn import SklearnConfig

MANY_ROWS = 5_000
"""Above it, defaults bound the time: not every row for every tree, and fewer candidates."""

_ROWS_OF_A_TREE = 10_000
_SEED = "random_state"


@dataclass(frozen=True, slots=True)
class EstimatorType:
    """An estimator and what it wants: `scales` are inputs, and targets, of mean 0 and spread 1."""

    cls: type[Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    scales_inputs: bool = False
    scales_target: bool = False
    takes_numbers: bool = True


_FORESTS = (
    RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor,
)  # fmt: skip
_BOOSTING = (GradientBoostingClassifier, GradientBoostingRegressor)
_FOREST = {"n_estimators": 100}
_LINEAR = {"max_iter": 5_000}

CLASSIFIERS: dict[str, EstimatorType] = {
    "logistic_regression": EstimatorType(LogisticRegression, {"max_iter": 1_000}, True),
    "random_forest": EstimatorType(RandomForestClassifier, _FOREST),
    "extra_trees": EstimatorType(ExtraTreesClassifier, _FOREST),
    "gradient_boosting": EstimatorType(GradientBoostingClassifier),
    "decision_tree": EstimatorType(DecisionTreeClassifier),
    "svm": EstimatorType(SVC, {}, True),
    "mlp": EstimatorType(MLPClassifier, {"max_iter": 300}, True),
    "naive_bayes": EstimatorType(MultinomialNB, takes_numbers=False),
}
REGRESSORS: dict[str, EstimatorType] = {
    "ridge": EstimatorType(Ridge, {}, True),
    "linear_regression": EstimatorType(LinearRegression, {}, True),
    "lasso": EstimatorType(Lasso, _LINEAR, True),
    "elastic_net": EstimatorType(ElasticNet, _LINEAR, True),
    "random_forest": EstimatorType(RandomForestRegressor, _FOREST),
    "extra_trees": EstimatorType(ExtraTreesRegressor, _FOREST),
    "gradient_boosting": EstimatorType(GradientBoostingRegressor),
    "decision_tree": EstimatorType(DecisionTreeRegressor),
    "svm": EstimatorType(SVR, {}, True, True),
    "mlp": EstimatorType(MLPRegressor, {"max_iter": 500}, True, True),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the choice of candidates and defaults looks at.

    `features` leaves out those of texts; `classes` is 0 where numbers are learned; `rarest` is
    how many rows the smallest class has.
    """

    rows: int
    features: int
    kinds: frozenset[str]
    classes: int
    rarest: int


def candidates(shape: Shape, config: SklearnConfig) -> dict[str, EstimatorType]:
    """The estimators to compare, simplest first: one by name, or for auto those that suit.

    Left out are those that would take long (boosting grows with rows, columns and classes, and
    support vectors with the square of the rows), and those that cannot weight classes if asked.

    Raises:
        InvalidArgument: the estimator that `config` names does not fit the data or its `params`.
    """
    types = CLASSIFIERS if shape.classes else REGRESSORS
    names = _suited(shape)
    if config.estimator != "auto":
        _check(types, shape, config)
        names = [config.estimator]
    chosen = {name: for_many_rows(types[name], shape) for name in names}
    if not config.class_weight:
        return chosen
    return {name: kind for name, kind in chosen.items() if takes(kind, "class_weight")}


def build(kind: EstimatorType, config: SklearnConfig, shape: Shape) -> Any:
    """An estimator to fit on rows of that shape, with the `params` and the seed of `config`."""
    params = {**kind.defaults, **_for_time(kind, shape, config)}
    if takes(kind, _SEED):
        params[_SEED] = config.seed
    if config.class_weight:
        params["class_weight"] = config.class_weight
    estimator = kind.cls(**(params | config.params))
    if kind.cls is not SVC:
        return estimator
    # Probabilities by Platt's sigmoid on scores of rows that the scoring model did not see.
    folds = StratifiedKFold(max(2, min(5, shape.rarest)), shuffle=True, random_state=config.seed)
    return CalibratedClassifierCV(estimator, cv=folds, ensemble=False)


def chosen_params(estimator: Any) -> dict[str, Any]:
    """All parameters of an estimator that `build` made, in JSON's types."""
    inner = estimator.estimator if isinstance(estimator, CalibratedClassifierCV) else estimator
    return {
        name: _as_json(value)
        for name, value in inner.get_params(deep=False).items()
        if value != "deprecated"
    }


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, str | int | float | list | dict | None) else str(value)


def _suited(shape: Shape) -> list[str]:
    names = ["logistic_regression"] if shape.classes else ["ridge"]
    if "text" in shape.kinds:
        if shape.classes and not has_numbers(shape):
            names.append("naive_bayes")
        elif shape.rows <= MANY_ROWS:
            names.append("random_forest")
        return names
    names.append("random_forest")
    if shape.rows <= MANY_ROWS and (not shape.classes or shape.rarest >= 10):
        names.append("svm")
    if _boosting_seconds(shape) <= 1.5 and shape.rows >= 200:
        names.append("gradient_boosting")
    return names


def _check(types: Mapping[str, EstimatorType], shape: Shape, config: SklearnConfig) -> None:
    name = config.estimator
    kind = types[name]
    valid = kind.cls().get_params(deep=False)
    for param in config.params:
        if param not in valid:
            raise InvalidArgument(
                f"{name} has no parameter {param!r}.", names_hint(param, valid, "parameters")
            )
    if config.class_weight and "class_weight" not in valid:
        able = [other for other, kind in types.items() if takes(kind, "class_weight")]
        raise InvalidArgument(
            f"{name} cannot weight classes.",
            f"Leave class_weight out, or use {', '.join(able)}.",
        )
    if not kind.takes_numbers and has_numbers(shape):
        raise InvalidArgument(
            f"{name} counts words and categories; it takes no number or datetime columns.",
            "Drop those columns (config.drop), make them categories, or use another estimator.",
        )
    if kind.cls is SVC and shape.rarest < 2:
        raise InvalidArgument(
            f"{name} needs two rows of every class to learn from, for its probabilities.",
            "Give more rows of the rarest class, or use another estimator.",
        )


def for_many_rows(kind: EstimatorType, shape: Shape) -> EstimatorType:
    """With the defaults that suit many rows: a forest's file is its leaves; boosting goes deeper.

    Measured on interactions among 69 features of 40,000 rows.
    """
    if shape.rows <= MANY_ROWS:
        return kind
    defaults = dict(kind.defaults)
    if issubclass(kind.cls, _FORESTS):
        defaults["max_leaf_nodes"] = max(64, 1_024 // max(1, shape.classes // 4))
        if not shape.classes:
            defaults["n_estimators"] = 50
    elif issubclass(kind.cls, _BOOSTING):
        defaults |= {"max_depth": 5, "max_features": 1 / 3}
    return replace(kind, defaults=defaults)


def _for_time(kind: EstimatorType, shape: Shape, config: SklearnConfig) -> dict[str, Any]:
    """All processors where there is much to do, and for each tree a draw of the rows."""
    params: dict[str, Any] = {}
    is_forest = issubclass(kind.cls, _FORESTS)
    if is_forest and shape.rows * shape.features > 50_000:
        params["n_jobs"] = len(usable_cores())
    if shape.rows > _ROWS_OF_A_TREE:
        if is_forest and config.params.get("bootstrap", True):
            params |= {"bootstrap": True, "max_samples": _ROWS_OF_A_TREE}
        elif issubclass(kind.cls, _BOOSTING):
            params["subsample"] = _ROWS_OF_A_TREE / shape.rows
    return params


def _boosting_seconds(shape: Shape) -> float:
    """About what a fit takes in cross-validation: 100 stages, each of a tree for each class."""
    trees = shape.classes if shape.classes > 2 else 1
    work = min(shape.rows, MANY_ROWS) * shape.features
    return trees * (0.08 + 6e-6 * work * (0.5 if shape.rows > MANY_ROWS else 1))


def has_numbers(shape: Shape) -> bool:
    """Whether some columns are neither words nor categories."""
    return bool(shape.kinds & {"number", "datetime"})


def takes(kind: EstimatorType, param: str) -> bool:
    """Whether the estimator has a parameter of that name."""
    return param in kind.cls().get_params(deep=False)
