"""The job that scores: its figures against scikit-learn's own."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn import metrics
from sklearn.datasets import load_diabetes, load_iris

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.registry.inspection import read_model
from mcp_hub.services.registry.views import Signature
from mcp_hub.services.roots import Roots
from tests.services import onnx_models

from .conftest import Alone, iris_csv


def test_classes_are_scored_as_scikit_learn_scores_them(alone: Alone) -> None:
    trained = onnx_models.iris(0.005)
    told = alone(
        trained.onnx, trained.signature, iris_csv(),
        type="classification", target="species", by="site", rows=150,
    )  # fmt: skip
    truth = np.array(load_iris().target_names).repeat(50)
    answers = trained.estimator.predict(trained.x)
    table = trained.estimator.predict_proba(trained.x)
    assert told.metrics == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(truth, answers),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, answers),
            "f1_macro": metrics.f1_score(truth, answers, average="macro"),
            "precision_macro": metrics.precision_score(truth, answers, average="macro"),
            "recall_macro": metrics.recall_score(truth, answers, average="macro"),
            "roc_auc": metrics.roc_auc_score(truth, table, multi_class="ovr"),
            "log_loss": metrics.log_loss(truth, table),
        },
        abs=1e-5,
    )
    report = told.evaluation["report"]
    assert report["confusion"]["matrix"] == metrics.confusion_matrix(truth, answers).tolist()
    assert report["confusion"]["labels"] == ["setosa", "versicolor", "virginica"]
    per_class = {one["label"]: one["f1"] for one in report["classes"]}
    f1 = metrics.f1_score(truth, answers, average=None)
    assert [per_class[c] for c in report["confusion"]["labels"]] == pytest.approx(f1, abs=1e-6)
    assert [one["f1"] for one in report["classes"]] == sorted(per_class.values())
    odd = np.arange(150) % 2 == 1
    slices = {one["value"]: one for one in report["slices"]}
    assert slices["b"]["rows"] == 75
    assert slices["b"]["metrics"]["accuracy"] == pytest.approx(
        metrics.accuracy_score(truth[odd], answers[odd])
    )
    assert told.progress[-1] == (150, 150)
    assert "accuracy of 0.3333" in report["notes"][0]


def test_numbers_are_scored_as_scikit_learn_scores_them(alone: Alone) -> None:
    trained = onnx_models.diabetes()
    truth = load_diabetes().target
    lines = [",".join([*trained.columns, "y"])]
    for row, value in zip(trained.x.tolist(), truth, strict=True):
        lines.append(",".join(map(str, [*row, value])))
    lines.append(",".join(["0"] * len(trained.columns)) + ",")
    told = alone(trained.onnx, trained.signature, "\n".join(lines), type="regression", target="y")
    answers = trained.estimator.predict(trained.x)
    assert told.evaluation["rows"] == len(truth)
    assert told.metrics == pytest.approx(
        {
            "r2": metrics.r2_score(truth, answers),
            "rmse": metrics.root_mean_squared_error(truth, answers),
            "mae": metrics.mean_absolute_error(truth, answers),
            "median_absolute_error": metrics.median_absolute_error(truth, answers),
            "max_error": metrics.max_error(truth, answers),
            "mape": metrics.mean_absolute_percentage_error(truth, answers),
        },
        rel=1e-4,
    )
    assert "1 rows without a value of 'y' are left out." in told.evaluation["report"]["notes"]


def test_many_batches_and_slices_are_scored_as_one(alone: Alone, tmp_path: Path) -> None:
    """Columns of names that the hub's own frames have, some targets missing, in each batch."""
    trained = onnx_models.iris(0.005)
    rows = 20_000
    truth = pl.Series("rows", np.resize(trained.estimator.classes_.repeat(50), rows))
    frame = pl.DataFrame(np.resize(trained.x, (rows, 4)), schema=trained.columns)
    number = pl.int_range(rows)
    frame = frame.with_columns(
        pl.when(number % 7 > 0).then(truth).alias("rows"),
        pl.when(number % 40 > 0).then(number % 40).alias("value"),
    )
    frame.write_parquet(tmp_path / "many.parquet")
    told = alone(
        trained.onnx, trained.signature, tmp_path / "many.parquet",
        type="classification", target="rows", by="value", rows=rows,
    )  # fmt: skip
    known = np.arange(rows) % 7 > 0
    answers = np.resize(trained.estimator.predict(trained.x), rows)
    table = np.resize(trained.estimator.predict_proba(trained.x), (rows, 3))
    expected = truth.to_numpy()[known]
    assert told.evaluation["rows"] == known.sum()
    assert told.metrics["accuracy"] == metrics.accuracy_score(expected, answers[known])
    assert told.metrics["roc_auc"] == pytest.approx(
        metrics.roc_auc_score(expected, table[known], multi_class="ovr"), abs=1e-5
    )
    assert told.metrics["log_loss"] == pytest.approx(
        metrics.log_loss(expected, table[known]), abs=1e-5
    )
    report = told.evaluation["report"]
    assert any("'value' has 40 values" in note for note in report["notes"])
    assert f"{rows - known.sum()} rows without a value of 'rows' are left out." in report["notes"]
    assert len(report["slices"]) == 30
    for one in report["slices"]:
        chosen = known & (np.arange(rows) % 40 == int(one["value"] or 0))
        assert one["rows"] == chosen.sum()
        assert one["metrics"]["f1_macro"] == pytest.approx(
            metrics.f1_score(truth.to_numpy()[chosen], answers[chosen], average="macro")
        )


def test_a_target_that_is_no_finite_number_is_told_by_its_row(alone: Alone, tmp_path: Path) -> None:
    trained = onnx_models.diabetes()
    frame = pl.DataFrame(trained.x[:3], schema=trained.columns)
    file = tmp_path / "odd.parquet"
    frame.with_columns(pl.Series("y", [None, 1.0, float("inf")])).write_parquet(file)
    with pytest.raises(InvalidArgument, match="The target 'y' is inf in row 1 of those"):
        alone(trained.onnx, trained.signature, file, type="regression", target="y")
    frame.with_columns(pl.Series("y", ["a", "b", "c"])).write_parquet(file)
    with pytest.raises(InvalidArgument, match="'y' holds String values"):
        alone(trained.onnx, trained.signature, file, type="regression", target="y")


def test_classes_that_no_signature_names_are_those_that_are_seen(alone: Alone) -> None:
    trained = onnx_models.iris(0.005)
    signature = trained.signature.model_copy(deep=True)
    signature.outputs = [field for field in signature.outputs if field.role == "prediction"]
    csv = iris_csv().replace("setosa", "aster")
    told = alone(trained.onnx, signature, csv, type="classification", target="species")
    report = told.evaluation["report"]
    assert report["confusion"]["labels"] == ["aster", "setosa", "versicolor", "virginica"]
    assert report["confusion"]["matrix"][0][:2] == [0, 50]
    assert "roc_auc" not in told.metrics
    assert any("does not name its classes" in note for note in report["notes"])


@pytest.mark.parametrize("zipmap", [False, True])
def test_an_uploaded_model_of_one_matrix_takes_columns_in_order(
    alone: Alone, tmp_path: Path, zipmap: bool
) -> None:
    onnx = onnx_models.matrix_file(zipmap)
    signature = _uploaded(tmp_path, onnx)
    csv = iris_csv()
    for code, name in enumerate(load_iris().target_names):
        csv = csv.replace(name, str(code))
    told = alone(
        onnx, signature, csv,
        type="classification", target="species", features=onnx_models.IRIS_COLUMNS,
    )  # fmt: skip
    assert told.metrics["accuracy"] > 0.95
    assert told.metrics["log_loss"] < 0.2


def test_a_class_that_the_model_does_not_know_is_told(alone: Alone) -> None:
    trained = onnx_models.iris()
    with pytest.raises(InvalidArgument) as refused:
        alone(
            trained.onnx, trained.signature, iris_csv().replace("virginica", "iris"),
            type="classification", target="species",
        )  # fmt: skip
    assert "50 rows have a class in 'species'" in refused.value.message


def test_rows_without_any_answer_cannot_be_scored(alone: Alone) -> None:
    trained = onnx_models.iris()
    csv = "\n".join([iris_csv(0), *(f",a,{n},1,1,1" for n in range(3))])
    with pytest.raises(InvalidArgument) as refused:
        alone(trained.onnx, trained.signature, csv, type="classification", target="species")
    assert "No row of d:1 has a value of the target 'species'" in refused.value.message


def test_a_value_of_another_kind_names_its_row(alone: Alone) -> None:
    trained = onnx_models.iris()
    csv = iris_csv(20) + "\nsetosa,a,many,1,1,1"
    with pytest.raises(InvalidArgument) as refused:
        alone(trained.onnx, trained.signature, csv, type="classification", target="species")
    assert "'petal_width' is to be a number, but row 20 holds 'many'" in refused.value.message


def test_rows_that_the_version_was_trained_on_are_noted(alone: Alone) -> None:
    trained = onnx_models.iris()
    told = alone(
        trained.onnx, trained.signature, iris_csv(),
        type="classification", target="species", trained_on="d:1",
    )  # fmt: skip
    assert any("was trained on d:1" in note for note in told.evaluation["report"]["notes"])


def _uploaded(folder: Path, onnx: bytes) -> Signature:
    (folder / "m.onnx").write_bytes(onnx)
    return read_model(Roots([folder]), "m.onnx")[1]
