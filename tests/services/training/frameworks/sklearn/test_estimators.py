"""Every estimator on offer converts and agrees, on each kind of column."""

from typing import Any, get_args

import numpy as np
import polars as pl
import pytest

from mcp_hub.adapters.errors import Conflict, InvalidArgument
from mcp_hub.services.training.frameworks.sklearn import EstimatorName, SklearnConfig
from mcp_hub.services.training.frameworks.sklearn.estimators import (
    CLASSIFIERS,
    MANY_ROWS,
    REGRESSORS,
    EstimatorType,
    Shape,
    candidates,
)
from mcp_hub.services.training.frameworks.sklearn.grouping import ANOMALY_TYPES, CLUSTER_TYPES

from .conftest import Train
from .tables import mixed_table


def test_the_config_names_just_the_estimators_there_are() -> None:
    without_target = {*CLUSTER_TYPES, *ANOMALY_TYPES}
    assert set(get_args(EstimatorName)) == {"auto", *CLASSIFIERS, *REGRESSORS, *without_target}


def mixed_classes(classes: int) -> pl.DataFrame:
    frame = mixed_table(120)
    score = frame["size"].fill_null(50) + 10 * (frame["city"] == "Zürich").fill_null(False).cast(
        pl.Int64
    )
    rank = score.rank("ordinal") * classes // (frame.height + 1)
    return frame.with_columns(y=pl.lit("class ") + rank.cast(pl.Int64).cast(pl.String))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", [*CLASSIFIERS])
def test_classifiers(train: Train, name: str, classes: int) -> None:
    frame = mixed_classes(classes)
    if not CLASSIFIERS[name].takes_numbers:
        frame = frame.select("member", "city", "note", "y")
    result = train(frame, estimator=name, cv=2)
    assert result.params["agreement"]["difference"] < 1e-5
    assert result.params["estimator"] == name
    assert len(result.series(f"cv_accuracy.{name}")) == 2


@pytest.mark.parametrize("name", [*REGRESSORS])
def test_regressors(train: Train, name: str) -> None:
    frame = mixed_table(120)
    y = 1e6 + 1e3 * frame["size"].fill_null(50) + 1e4 * frame["member"].fill_null(False)
    result = train(frame.with_columns(y=y), type="regression", estimator=name, cv=2)
    assert result.params["agreement"]["difference"] < 1e-5
    assert len(result.series(f"cv_r2.{name}")) == 2


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "naive_bayes"])
def test_classifiers_agree_on_whole_numbers_with_ties(train: Train, name: str) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {n: rng.integers(0, 4, 200) for n in "abc"} | {"y": rng.integers(0, 3, 200)}
    )
    assert train(frame, estimator=name, cv=0).params["agreement"]["difference"] < 1e-5


def test_an_estimator_that_disagrees_is_not_registered(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    # Its converter takes other weights than scikit-learn does.
    kind = EstimatorType(KNeighborsClassifier, {"weights": "distance", "n_neighbors": 15}, True)
    monkeypatch.setitem(CLASSIFIERS, "mlp", kind)
    with pytest.raises(Conflict, match="does not agree with the estimator on 24 held-out") as error:
        train(mixed_classes(3).select("size", "count", "y"), estimator="mlp")
    assert "differ by up to 0." in error.value.message
    assert "(allowed: 0.0001). It is not registered." in error.value.message
    assert "random_forest" in str(error.value.hint)
    assert train.last.of("model") == []  # type: ignore[attr-defined]


def test_an_estimator_that_does_not_convert_is_not_registered(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    kind = EstimatorType(HistGradientBoostingClassifier, {"max_iter": 2})
    monkeypatch.setitem(CLASSIFIERS, "mlp", kind)
    with pytest.raises(Conflict, match="cannot be converted to ONNX"):
        train(mixed_classes(2).select("size", "count", "y"), estimator="mlp", cv=0)
    assert train.last.of("model") == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("config", "type", "message", "hint"),
    [
        ({"estimator": "ridge"}, "classification", "ridge does not do classification", "svm"),
        ({"estimator": "logistic_regression"}, "regression", "does not do regression", "ridge"),
        (
            {"estimator": "random_forest", "params": {"n_estimator": 5}},
            "classification",
            "random_forest has no parameter 'n_estimator'",
            "Did you mean 'n_estimators'?",
        ),
        (
            {"estimator": "random_forest", "params": {"n_estimators": -5}},
            "classification",
            "RandomForestClassifier refused its params or these rows: The 'n_estimators' parameter",
            "documentation",
        ),
        (
            {"estimator": "svm", "params": {"kernel": "cubic"}},
            "classification",
            "SVC refused its params",
            "documentation",
        ),
        (
            {"estimator": "mlp", "class_weight": "balanced"},
            "classification",
            "mlp cannot weight classes",
            "logistic_regression",
        ),
        (
            {"estimator": "ridge", "class_weight": "balanced"},
            "regression",
            "class_weight is not for regression",
            "Leave it out",
        ),
        (
            {"estimator": "naive_bayes"},
            "classification",
            "it takes no number or datetime columns",
            "config.drop",
        ),
        ({"metric": "r2"}, "classification", "r2 is no metric of classification", "f1_macro"),
        ({"metric": "accuracy"}, "regression", "accuracy is no metric of regression", "rmse"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    train: Train, config: dict[str, Any], type: str, message: str, hint: str
) -> None:
    frame = mixed_classes(2).with_columns(pl.col("y").str.tail(1).cast(pl.Int64))
    with pytest.raises(InvalidArgument) as error:
        train(frame, type=type, **config)
    assert message in error.value.message
    assert hint in str(error.value.hint)


def test_a_fit_that_diverges_is_refused(train: Train) -> None:
    frame = mixed_table(60).with_columns(y=pl.Series(range(60)) ** 2)
    params = {"solver": "sgd", "learning_rate_init": 1e9}
    with pytest.raises(InvalidArgument, match="MLPRegressor") as caught:
        train(frame, type="regression", estimator="mlp", params=params)
    assert "another estimator" in str(caught.value.hint)


def test_params_reach_the_estimator(train: Train) -> None:
    result = train(
        mixed_classes(2), estimator="mlp", params={"hidden_layer_sizes": [7, 3], "alpha": 0.01}
    )
    assert result.params["params"]["hidden_layer_sizes"] == [7, 3]
    assert result.params["params"]["alpha"] == 0.01


def test_balanced_classes_raise_the_recall_of_the_rare_one(train: Train) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=600)
    frame = pl.DataFrame({"x": x, "y": x + rng.normal(size=600) > 2.2})
    plain = train(frame, estimator="logistic_regression")
    balanced = train(frame, estimator="logistic_regression", class_weight="balanced")
    assert balanced.metrics["recall_macro"] > plain.metrics["recall_macro"] + 0.1


def shape(rows: int = 500, **other: Any) -> Shape:
    given = {"features": 10, "kinds": frozenset({"number"}), "classes": 2, "rarest": 50}
    return Shape(rows, **(given | other))


def test_auto_compares_what_suits_the_rows() -> None:
    auto = SklearnConfig()
    everything = ["logistic_regression", "random_forest", "svm", "gradient_boosting"]
    assert list(candidates(shape(), auto)) == everything
    assert list(candidates(shape(classes=0), auto)) == ["ridge", *everything[1:]]
    assert "svm" not in candidates(shape(MANY_ROWS + 1), auto)
    assert "svm" not in candidates(shape(rarest=3), auto)
    assert "gradient_boosting" not in candidates(shape(features=2_000), auto)
    assert "gradient_boosting" not in candidates(shape(classes=100, rarest=2), auto)
    text = frozenset({"text", "category"})
    assert list(candidates(shape(kinds=text), auto)) == ["logistic_regression", "naive_bayes"]
    balanced = SklearnConfig(class_weight="balanced")
    assert list(candidates(shape(), balanced)) == everything[:3]
