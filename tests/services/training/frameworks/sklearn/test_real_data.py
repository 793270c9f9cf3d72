"""Defaults do as well as a plain scikit-learn pipeline on the same split."""

from pathlib import Path
from typing import Any

import numpy as np
import palmerpenguins
import pandas as pd
import polars as pl
import pytest
from sklearn import datasets
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from .conftest import Train, Trained
from .corpus import support_messages

LESS = 0.02


def bundled(name: str) -> tuple[pl.DataFrame, Any, Any]:
    data = getattr(datasets, f"load_{name}")()
    columns = dict(zip(map(str, data.feature_names), data.data.T, strict=True))
    return pl.DataFrame({**columns, "y": data.target}), data.data, data.target


def best_plain(pipelines: list[Any], x: Any, y: Any, is_classification: bool) -> float:
    train, test = train_test_split(
        np.arange(len(y)), test_size=0.2, random_state=0, stratify=y if is_classification else None
    )
    part = (lambda rows: x.iloc[rows]) if hasattr(x, "iloc") else (lambda rows: x[rows])
    return max(p.fit(part(train), y[train]).score(part(test), y[test]) for p in pipelines)


def check_whole(result: Trained, frame: pl.DataFrame, type: str, target: str = "y") -> None:
    """What every successful training reports."""
    assert result.params["seed"] == 0
    assert result.params["agreement"]["difference"] <= 1e-4
    assert result.params["agreement"]["rows"] == result.params["rows_held_out"]
    done = [event["done"] for event in result.of("progress")]
    total = result.of("progress")[0]["total"]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == total >= 8
    assert len(result.params["candidates"]) >= 2
    estimator = result.params["estimator"]
    metric = "accuracy" if type == "classification" else "r2"
    assert [step for step, _ in result.series(f"cv_{metric}.{estimator}")] == [0, 1, 2, 3, 4]
    assert {field.name for field in result.signature.inputs} <= set(frame.columns) - {target}
    assert all(field.nullable for field in result.signature.inputs)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
def test_classification(train: Train, name: str) -> None:
    frame, x, y = bundled(name)
    result = train(frame)
    check_whole(result, frame, "classification")
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    plain = best_plain([linear, RandomForestClassifier(random_state=0)], x, y, True)
    print(f"{name}: {result.metrics['accuracy']:.4f}, plain {plain:.4f}")
    assert result.metrics["accuracy"] >= plain - LESS
    confusion = result.artifact("confusion_matrix.json")
    assert confusion["labels"] == sorted(set(y.tolist()))
    matrix = np.array(confusion["matrix"])
    assert matrix.trace() / matrix.sum() == pytest.approx(result.metrics["accuracy"])
    assert {"f1_macro", "precision_macro", "recall_macro", "roc_auc", "log_loss"} <= set(
        result.metrics
    )


def test_regression_on_diabetes(train: Train) -> None:
    frame, x, y = bundled("diabetes")
    result = train(frame, type="regression")
    check_whole(result, frame, "regression")
    linear = make_pipeline(StandardScaler(), Ridge())
    plain = best_plain([linear, RandomForestRegressor(random_state=0)], x, y, False)
    print(f"diabetes: {result.metrics['r2']:.4f}, plain {plain:.4f}")
    assert result.metrics["r2"] >= plain - LESS
    residuals = result.artifact("residuals.json")
    assert residuals["rows"] == 89
    assert residuals["std"] == pytest.approx(result.metrics["rmse"], rel=0.1)
    assert list(residuals["quantiles"]) == ["0", "0.05", "0.25", "0.5", "0.75", "0.95", "1"]


@pytest.fixture(scope="module")
def penguins() -> pl.DataFrame:
    file = Path(palmerpenguins.__file__).parent / "data" / "penguins.csv"
    return pl.read_csv(file, null_values="NA")


def plain_table(numbers: list[str], categories: list[str]) -> Any:
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
            ),
            categories,
        ),
    )


def test_penguins_with_missing_values_and_categories(train: Train, penguins: pl.DataFrame) -> None:
    result = train(penguins, "species")
    check_whole(result, penguins, "classification", "species")
    x = pd.DataFrame(penguins.drop("species").to_dict(as_series=False))
    y = penguins["species"].to_numpy()
    numbers = [name for name in x if name not in ("island", "sex")]
    plain = best_plain(
        [
            make_pipeline(plain_table(numbers, ["island", "sex"]), estimator)
            for estimator in (LogisticRegression(max_iter=1000), RandomForestClassifier())
        ],
        x, y, True,
    )  # fmt: skip
    print(f"penguins: {result.metrics['accuracy']:.4f}, plain {plain:.4f}")
    assert result.metrics["accuracy"] >= plain - LESS
    assert result.params["columns"]["missing"]["sex"] == 11
    assert result.artifact("confusion_matrix.json")["labels"] == ["Adelie", "Chinstrap", "Gentoo"]
    row = penguins.drop("species").row(0, named=True)
    labels, probabilities = result.predict([row, dict.fromkeys(row), {**row, "island": "Atlantis"}])
    assert labels[0] == "Adelie"
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_penguins_weight(train: Train, penguins: pl.DataFrame) -> None:
    known = penguins.filter(pl.col("body_mass_g").is_not_null())
    result = train(penguins, "body_mass_g", "regression")
    check_whole(result, penguins, "regression", "body_mass_g")
    assert result.params["rows_without_target"] == 2
    assert "2 rows without a value of 'body_mass_g' are left out." in result.log
    x = pd.DataFrame(known.drop("body_mass_g").to_dict(as_series=False))
    categories = ["species", "island", "sex"]
    numbers = [name for name in x if name not in categories]
    plain = best_plain(
        [
            make_pipeline(plain_table(numbers, categories), estimator)
            for estimator in (Ridge(), RandomForestRegressor(random_state=0))
        ],
        x, known["body_mass_g"].to_numpy(), False,
    )  # fmt: skip
    print(f"penguins' weight: {result.metrics['r2']:.4f}, plain {plain:.4f}")
    assert result.metrics["r2"] >= plain - LESS


def test_text(train: Train) -> None:
    frame = support_messages()
    result = train(frame, "topic")
    check_whole(result, frame, "classification", "topic")
    x = frame["message"].fill_null("").to_numpy()
    plain = best_plain(
        [
            make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000)),
            make_pipeline(TfidfVectorizer(), MultinomialNB()),
        ],
        x, frame["topic"].to_numpy(), True,
    )  # fmt: skip
    print(f"text: {result.metrics['accuracy']:.4f}, plain {plain:.4f}")
    assert 0.7 < plain < 0.99
    assert result.metrics["accuracy"] >= plain - LESS
    labels, _ = result.predict([{"message": "Where is my PARCEL? The courier never came"}])
    assert labels.tolist() == ["delivery"]
