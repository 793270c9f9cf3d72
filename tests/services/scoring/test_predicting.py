"""The job that predicts a data set."""

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mcp_hub.adapters.errors import Internal, InvalidArgument
from mcp_hub.services.scoring import predicting
from tests.services import onnx_models

from .conftest import Alone, iris_csv


def test_predictions_are_those_of_predict_in_the_rows_order(alone: Alone, tmp_path: Path) -> None:
    """More rows than a slice and a part hold, from Parquet, so that both are put together."""
    trained = onnx_models.iris()
    rows = np.resize(trained.x, (70_000, 4))
    frame = pl.DataFrame(rows, schema=trained.columns).with_row_index("key")
    frame.write_parquet(tmp_path / "many.parquet")
    told = alone(
        trained.onnx, trained.signature, tmp_path / "many.parquet", keep=["key"], rows=70_000
    )
    made = pl.read_parquet(told.dataset["path"])
    assert made.columns == ["key", "prediction", *(f"probability_{c}" for c in _classes(trained))]
    assert made["key"].to_list() == list(range(70_000))
    assert (
        made["prediction"].to_list()
        == np.resize(trained.estimator.predict(trained.x), 70_000).tolist()
    )
    expected = trained.estimator.predict_proba(trained.x[:150])
    np.testing.assert_allclose(made[:150, 2:].to_numpy(), expected, atol=1e-4)
    assert told.dataset["rows"] == 70_000
    assert {column["name"]: column["dtype"] for column in told.dataset["added"]} == {
        name: str(dtype) for name, dtype in made.schema.items() if name != "key"
    }


def test_numbers_and_no_probabilities(alone: Alone) -> None:
    trained = onnx_models.diabetes()
    csv = pl.DataFrame(trained.x, schema=trained.columns).write_csv()
    told = alone(trained.onnx, trained.signature, csv, keep=[], rows=442)
    made = pl.read_parquet(told.dataset["path"])
    assert made.schema == {"prediction": pl.Float64}
    np.testing.assert_allclose(
        made["prediction"].to_numpy(), trained.estimator.predict(trained.x), rtol=1e-4
    )


def test_labels_keep_their_type(alone: Alone) -> None:
    trained = onnx_models.cancer()
    csv = pl.DataFrame(trained.x, schema=trained.columns).write_csv()
    told = alone(trained.onnx, trained.signature, csv, keep=["c0"], probabilities=False, rows=569)
    made = pl.read_parquet(told.dataset["path"])
    assert made.schema == {"c0": pl.Float64, "prediction": pl.Boolean}


def test_a_row_that_does_not_fit_is_named_by_where_it_is(alone: Alone) -> None:
    trained = onnx_models.iris()
    signature = trained.signature.model_copy(deep=True)
    for field in signature.inputs:
        field.nullable = False
    csv = "\n".join([iris_csv(0), *["setosa,a,1,1,1,1"] * 9_000, "setosa,a,,1,1,1"])
    with pytest.raises(InvalidArgument) as refused:
        alone(trained.onnx, signature, csv, keep=[])
    assert "In the rows from 8192 on: Row 808, column 'petal_width'" in refused.value.message


def test_an_attempt_goes_on_behind_the_rows_of_a_checkpoint(
    alone: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the next attempt finds it: the newest checkpoint, wherever the last one was killed."""
    trained = onnx_models.iris()
    frame = pl.DataFrame(np.resize(trained.x, (20_000, 4)), schema=trained.columns)
    frame.with_row_index("key").write_parquet(tmp_path / "many.parquet")
    ask = partial(
        alone, trained.onnx, trained.signature, tmp_path / "many.parquet", keep=["key"], rows=20_000
    )
    whole = pl.read_parquet(ask().dataset["path"])
    monkeypatch.setattr(predicting, "_LEAST_INTERVAL_S", 0)
    monkeypatch.setattr(predicting, "_SHARE_OF_CHECKPOINTS", 1e9)
    kept = ask().checkpoints
    # A batch of four columns has 8,192 rows.
    assert [step for _, step in kept] == [8_192, 16_384, 20_000]
    for path, step in kept:
        assert pl.read_parquet(path).equals(whole.head(step))
        resumed = ask(checkpoint=Path(path))
        assert pl.read_parquet(resumed.dataset["path"]).equals(whole)
        assert all(done > step for done, _ in resumed.progress)
    other = pl.read_parquet(kept[0][0])
    other.write_parquet(tmp_path / "other", metadata={"mcp_hub_release": "0"})
    anew = ask(checkpoint=tmp_path / "other")
    assert pl.read_parquet(anew.dataset["path"]).equals(whole)


def test_rows_that_are_not_those_of_the_registration_are_no_result(alone: Alone) -> None:
    trained = onnx_models.iris()
    with pytest.raises(Internal, match="150 rows were read of d:1, which has 151"):
        alone(trained.onnx, trained.signature, iris_csv(), keep=[], rows=151)


def _classes(trained: onnx_models.Trained) -> list[str]:
    classes: list[str] = trained.estimator.classes_.tolist()
    return classes
