from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from mcp_hub.adapters.errors import Conflict, InvalidArgument
from mcp_hub.services.training.frameworks.sklearn import SklearnConfig, training

from .conftest import Train
from .tables import json_row, mixed_table

Numbers = Callable[..., pl.DataFrame]


def labelled(rows: int = 80, seed: int = 0) -> pl.DataFrame:
    frame = mixed_table(rows, seed)
    score = frame["size"].fill_null(50) + 8 * (frame["city"] == "Zürich").cast(pl.Int64).fill_null(
        0
    )
    return frame.with_columns(y=pl.Series(np.where(score > 52, "big", "small")))


def test_a_table_of_every_kind_with_missing_values_everywhere(train: Train) -> None:
    frame = labelled(150)
    result = train(frame)
    assert result.params["columns"]["used"] == {
        "size": "number",
        "count": "number",
        "member": "boolean",
        "city": "category",
        "seen": "datetime",
        "note": "text",
    }
    assert set(result.params["columns"]["missing"]) == set(frame.columns) - {"y"}
    assert result.metrics["accuracy"] > 0.7
    kinds = {
        field.name: (field.kind, field.dtype, field.shape) for field in result.signature.inputs
    }
    assert kinds == {
        "size": ("number", "float32", [None, 1]),
        "count": ("number", "float32", [None, 1]),
        "member": ("boolean", "float32", [None, 1]),
        "city": ("category", "string", [None, 1]),
        "seen": ("datetime", "float32", [None, 6]),
        "note": ("text", "string", [None, 1]),
    }
    rows = [json_row(frame.drop("y"), row) for row in range(20)]
    unknown = {**rows[0], "city": "a city unseen in training", "note": "words unseen too"}
    labels, probabilities = result.predict([*rows, unknown, dict.fromkeys(rows[0])])
    assert set(labels) <= {"big", "small"}
    assert probabilities.shape == (22, 2)
    assert np.isfinite(probabilities).all()


def test_what_is_reported(train: Train, numbers: Numbers) -> None:
    result = train(numbers(), estimator="decision_tree", cv=3, params={"max_depth": 2})
    assert result.params["estimator"] == "decision_tree"
    assert result.params["params"]["max_depth"] == 2
    assert result.params["params"]["random_state"] == 0
    assert (result.params["rows_trained"], result.params["rows_held_out"]) == (48, 12)
    assert result.params["test_size"] == 0.2
    assert result.params["features"] == 3
    assert result.params["onnx"]["opset"] >= 15
    assert result.params["onnx"]["bytes"] == (result.folder / "model.onnx").stat().st_size
    assert {"scikit-learn", "skl2onnx", "onnxruntime", "python"} <= set(result.params["versions"])
    assert [(event["done"], event["total"]) for event in result.of("progress")] == [
        (0, 6), (1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 6),
    ]  # fmt: skip
    assert [step for step, _ in result.series("cv_accuracy.decision_tree")] == [0, 1, 2]
    # The last is the mean over all folds, which is what an agent that compares will read.
    assert result.series("cv_accuracy.decision_tree")[-1][1] == result.metrics["cv_accuracy"]
    assert "Confusion matrix (row: true class, column: predicted):" in result.log
    label, table = result.signature.outputs
    assert (label.name, label.role, label.classes) == ("label", "prediction", ["down", "up"])
    assert (table.name, table.role, table.shape) == ("probabilities", "probabilities", [None, 2])


def test_boosting_reports_each_stage_while_it_fits(train: Train, numbers: Numbers) -> None:
    result = train(numbers(), estimator="gradient_boosting", cv=0, params={"n_estimators": 10})
    loss = result.series("loss")
    assert [step for step, _ in loss] == list(range(10))
    assert loss[-1][1] < loss[0][1]
    assert 0.5 in [event["done"] for event in result.of("progress")]


def test_a_perceptron_reports_each_epoch(train: Train, numbers: Numbers) -> None:
    result = train(numbers(), estimator="mlp", cv=0, params={"max_iter": 12})
    assert [step for step, _ in result.series("loss")] == list(range(12))
    assert "ConvergenceWarning" in result.log


def test_a_regression_gives_numbers(train: Train, numbers: Numbers) -> None:
    frame = numbers(80).with_columns(y=pl.col("a") * 3 + 100)
    result = train(frame, type="regression")
    (output,) = result.signature.outputs
    assert (output.name, output.role, output.shape) == ("prediction", "prediction", [None, 1])
    (values,) = result.predict([{"a": 1, "b": 0, "c": 0}, {"a": -1.5, "b": 0, "c": 0}])
    np.testing.assert_allclose(values, [[103], [95.5]], atol=0.5)
    assert list(result.params["residuals"]) == ["0", "0.05", "0.25", "0.5", "0.75", "0.95", "1"]


def test_the_same_seed_gives_the_same_model_and_another_one_another(train: Train) -> None:
    def fit(seed: int) -> tuple[bytes, dict[str, float]]:
        result = train(labelled(), estimator="random_forest", seed=seed, cv=2)
        return (result.folder / "model.onnx").read_bytes(), result.metrics

    assert fit(3) == fit(3)
    assert fit(3)[0] != fit(4)[0]
    assert train(labelled(), seed=4).params["seed"] == 4


@pytest.mark.parametrize(
    ("values", "dtype", "classes"),
    [
        ([True, False] * 15, "bool", [False, True]),
        ([3, 1, 7] * 10, "int64", [1, 3, 7]),
        ([-1, 2**40] * 15, "int64", [-1, 2**40]),
        ([1.0, 2.0] * 15, "int64", [1, 2]),
        ([0.5, 2.0] * 15, "float64", [0.5, 2.0]),
        (["ja", "nein", "?"] * 10, "string", ["?", "ja", "nein"]),
        (["", "é🚀"] * 15, "string", ["", "é🚀"]),
    ],
)
def test_labels_keep_their_type(
    train: Train, numbers: Numbers, values: list[Any], dtype: str, classes: list[Any]
) -> None:
    frame = numbers(30).with_columns(y=pl.Series(values))
    result = train(frame, estimator="logistic_regression", cv=0)
    label, table = result.signature.outputs
    assert (label.dtype, label.classes) == (dtype, classes)
    assert [type(c) for c in label.classes or []] == [type(c) for c in classes]
    assert table.classes == classes
    labels, _ = result.predict([{"a": 1, "b": 2, "c": 3}])
    assert labels[0] in classes
    assert result.artifact("confusion_matrix.json")["labels"] == classes


def test_many_classes(train: Train, numbers: Numbers) -> None:
    frame = numbers(300).with_columns(y=pl.Series([f"class {i % 50}" for i in range(300)]))
    result = train(frame, estimator="random_forest", params={"n_estimators": 10})
    assert result.signature.outputs[1].shape == [None, 50]
    assert "Most frequent confusions on the held-out rows:" in result.log


def test_a_single_column(train: Train, numbers: Numbers) -> None:
    assert train(numbers(columns=1)).metrics["accuracy"] > 0.8


def test_ten_rows(train: Train, numbers: Numbers) -> None:
    frame = numbers(10).with_columns(y=pl.Series(["up", "down"] * 5))
    assert train(frame).params["rows_held_out"] == 2
    frame = frame.with_columns(y=pl.Series(range(10)) * 1.5)
    assert "r2" in train(frame, type="regression").metrics


def test_the_rarest_class_may_have_two_rows(train: Train, numbers: Numbers) -> None:
    frame = numbers(30).with_columns(y=pl.Series(["a"] * 28 + ["b"] * 2))
    for estimator in ("auto", "logistic_regression", "random_forest"):
        result = train(frame, estimator=estimator)
        assert "accuracy" in result.metrics
        last = result.of("progress")[-1]
        assert last["done"] == last["total"]


def test_texts_without_words(train: Train) -> None:
    frame = pl.DataFrame({"t": ["?!", "…", None] * 10, "y": ["a", "b", "c"] * 10})
    with pytest.raises(InvalidArgument, match="The texts of t hold no words"):
        train(frame, columns={"t": "text"})
    assert "accuracy" in train(frame.with_columns(n=pl.Series(range(30)) % 7), cv=2).metrics


def test_five_hundred_columns(train: Train, numbers: Numbers) -> None:
    result = train(numbers(60, 500), estimator="logistic_regression", cv=2)
    assert len(result.signature.inputs) == 500
    assert result.params["columns"]["used"] == {"number": 500}


def test_many_rows_say_what_was_left_out_to_save_time(train: Train) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 4))
    y = x[:, 0] * x[:, 1] + rng.normal(size=20_000) > 0
    frame = pl.DataFrame({**{f"x{i}": x[:, i] for i in range(4)}, "y": y})
    result = train(frame, estimator="random_forest", cv=2)
    assert result.params["rows_cross_validated"] <= 5_000
    assert "of these rows, to save time" in result.log
    assert result.params["params"]["max_samples"] == 10_000
    assert result.params["params"]["max_leaf_nodes"] == 1_024
    assert result.metrics["accuracy"] > 0.6


def test_boosting_without_a_split_gives_the_frequent_class(train: Train) -> None:
    frame = pl.DataFrame({"x": ["a"] + ["b"] * 29, "y": ["no"] * 14 + ["yes"] * 16})
    result = train(frame, estimator="gradient_boosting", cv=0, params={"min_samples_leaf": 20})
    labels, probabilities = result.predict([{"x": "b"}])
    assert labels.tolist() == ["yes"]
    np.testing.assert_allclose(probabilities, [[0.458, 0.542]], atol=0.01)


def test_rare_categories_count_as_unknown(train: Train) -> None:
    names = [f"rare {i}" for i in range(150)] + ["often"] * 250
    frame = pl.DataFrame({"x": names, "y": [name == "often" for name in names]})
    result = train(frame, columns={"x": "category"}, estimator="logistic_regression", cv=0)
    assert result.params["features"] == 100
    assert "Column 'x' has 151 categories; the 100 most frequent are told apart." in result.log
    assert result.predict([{"x": "often"}, {"x": "never"}])[0].tolist() == [True, False]


def test_features_that_bear_the_names_of_outputs(train: Train, numbers: Numbers) -> None:
    frame = numbers().rename({"a": "label", "b": "probabilities"})
    result = train(frame, estimator="logistic_regression", cv=0)
    names = [output.name for output in result.signature.outputs]
    assert names == ["predicted_label", "predicted_probabilities"]
    labels, _ = result.predict([{"label": 2, "probabilities": 0, "c": 0}])
    assert labels.tolist() == ["up"]


def test_strange_column_names(train: Train, numbers: Numbers) -> None:
    names = ["größe (cm)", 'a/b:c,"d"', "🚀\n"]
    result = train(numbers().rename(dict(zip("abc", names, strict=True))), cv=0, estimator="svm")
    assert result.predict([dict.fromkeys(names, 1)])[0][0] in ("up", "down")


def test_huge_and_tiny_numbers(train: Train, numbers: Numbers) -> None:
    frame = numbers().with_columns(
        pl.col("a") * 1e36, pl.col("b") * 1e-36, c=pl.Series([float("inf"), 1e300, None] * 20)
    )
    result = train(frame.with_columns(d=pl.col("a") > 0))
    assert "40 unusable values of 'c' count as missing." in result.log
    frame = numbers().with_columns(c=pl.Series([float("inf"), -1e300, 5.0, 7.0] * 15))
    result = train(frame, estimator="logistic_regression")
    assert result.params["columns"]["missing"] == {"c": 30}
    assert result.metrics["accuracy"] > 0.7


def test_the_target_is_checked(train: Train, numbers: Numbers) -> None:
    frame = numbers()
    cases: list[tuple[pl.DataFrame, str | None, str, str, str]] = [
        (frame, None, "classification", "classification needs a target", "a, b, c, y"),
        (frame, "yy", "classification", "'yy' is no column of data:1", "Did you mean 'y'?"),
        (frame, "y", "regression", "'y' is not numeric: it holds String values", "classification"),
        (
            frame.with_columns(y=pl.col("a") > 0),
            "y", "regression", "not numeric: it holds Boolean", "classification",
        ),
        (frame.with_columns(y=pl.lit("x")), "y", "classification", "one class only: 'x'", "two"),
        (frame.with_columns(y=pl.lit(2.5)), "y", "regression", "about 2.5 in every row", "another"),
        (
            frame.with_columns(y=pl.lit(None, pl.String)),
            "y", "classification", "0 rows have a value of the target 'y'", "more rows",
        ),
        (frame.head(9), "y", "classification", "9 rows have a value", "more rows"),
        (frame, "a", "classification", "60 of the 60 classes of 'a' have", "type='regression'"),
        (
            frame.with_columns(y=pl.Series([*["x", "y"] * 29, "lone", "sole"])),
            "y", "classification", "2 of the 4 classes of 'y' have a single row: 'lone', 'sole'",
            "at least 2 rows",
        ),
        (
            frame.with_columns(y=pl.Series([1.0, float("inf")] * 30)),
            "y", "regression", "'y' is inf in row 1", "finite",
        ),
        (frame.with_columns(y=pl.col("a") * 1e200), "y", "regression", "float32", "another unit"),
        (
            frame.with_columns(y=pl.col("a") + 1e9),
            "y", "regression", "is about 1e+09 in every row", "differences",
        ),
        (frame.with_columns(y=pl.col("a") * 1e-90), "y", "regression", "float32", "unit"),
        (
            frame.with_columns(y=pl.concat_list("a", "b")),
            "y", "classification", "holds List(Float64) values, which are no labels", "strings",
        ),
    ]  # fmt: skip
    for data, target, type, message, hint in cases:
        with pytest.raises(InvalidArgument) as caught:
            train(data, target, type)
        assert message in caught.value.message
        assert hint in str(caught.value.hint)


def test_a_split_that_leaves_too_little_is_refused(train: Train, numbers: Numbers) -> None:
    with pytest.raises(InvalidArgument, match="9 of 10 rows would be held out"):
        train(numbers(10).with_columns(y=pl.Series(["up", "down"] * 5)), test_size=0.9)
    many = numbers(12).with_columns(y=pl.Series(["a", "b", "c", "d", "e", "f"] * 2))
    with pytest.raises(InvalidArgument, match="leaves too few to learn from") as caught:
        train(many, test_size=0.6)
    assert "test_size below 0.6" in str(caught.value.hint)
    rare = numbers(40).with_columns(y=pl.Series(["a"] * 38 + ["b"] * 2))
    with pytest.raises(InvalidArgument, match="no row of the class 'b' is left"):
        train(rare, test_size=0.9)


def test_a_file_that_predicts_otherwise_is_not_registered(
    train: Train, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.export
    spoilt = train(numbers(seed=1), estimator="logistic_regression", cv=0)

    def export(model: Any, inputs: Any, classes: Any, path: Path) -> Any:
        signature = real(model, inputs, classes, path)
        path.write_bytes((spoilt.folder / "model.onnx").read_bytes())
        return signature

    monkeypatch.setattr(training, "export", export)
    with pytest.raises(Conflict, match="does not agree with the estimator on 12 held-out rows"):
        train(numbers(seed=2), estimator="logistic_regression", cv=0)
    assert train.last.of("model") == []  # type: ignore[attr-defined]


def test_a_damaged_file_is_not_registered(
    train: Train, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.export

    def export(model: Any, inputs: Any, classes: Any, path: Path) -> Any:
        signature = real(model, inputs, classes, path)
        path.write_bytes(path.read_bytes()[:100])
        return signature

    monkeypatch.setattr(training, "export", export)
    with pytest.raises(Conflict, match="onnxruntime cannot run the model"):
        train(numbers(), estimator="logistic_regression", cv=0)
    assert train.last.of("model") == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"estimater": "svm"}, "estimater"),
        ({"estimator": "xgboost"}, "'auto', 'logistic_regression'"),
        ({"test_size": 0}, "greater than 0"),
        ({"test_size": 1}, "less than 1"),
        ({"cv": 1}, "2 or more folds"),
        ({"cv": 0}, "auto compares by cross-validation"),
        ({"params": {"C": 1}}, "params need an estimator"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"columns": {"a": "identifier"}}, "'number', 'boolean', 'category'"),
        ({"metric": "auc"}, "'roc_auc'"),
    ],
)
def test_the_config_is_checked(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SklearnConfig.model_validate(config)
    assert message in str(caught.value)


def test_every_key_of_the_config_is_described() -> None:
    schema = SklearnConfig.model_json_schema()
    assert all("description" in key for key in schema["properties"].values())
    assert len(str(schema)) < 4_000
