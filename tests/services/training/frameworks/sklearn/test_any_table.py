"""Whatever a small table holds, it trains and agrees, or the job says why not."""

from datetime import datetime
from typing import Any

import polars as pl
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mcp_hub.adapters.errors import HubError
from mcp_hub.services.training.frameworks.sklearn.estimators import CLASSIFIERS, REGRESSORS

from .conftest import Train

_ROWS = 12
_SMALL = {
    "random_forest": {"n_estimators": 5},
    "extra_trees": {"n_estimators": 5},
    "gradient_boosting": {"n_estimators": 5},
    "mlp": {"max_iter": 20},
}
_EARLY, _LATE = (datetime.fromisoformat(day) for day in ("0001-01-01", "9999-12-31"))
_VALUES: list[tuple[Any, pl.DataType]] = [
    (st.floats(width=64), pl.Float64()),
    (st.floats(-100, 100, width=16), pl.Float64()),
    (st.integers(-(2**62), 2**62), pl.Int64()),
    (st.integers(0, 3), pl.Int64()),
    (st.booleans(), pl.Boolean()),
    (st.text(max_size=30), pl.String()),
    (st.sampled_from(["a", "b", "", "É"]), pl.String()),
    (st.lists(st.sampled_from(["über", "Über", "x1", "你好", "🚀"]), max_size=5).map(" ".join),
     pl.String()),
    (st.datetimes(_EARLY, _LATE), pl.Datetime("us")),
]  # fmt: skip


@st.composite
def _column(draw: st.DrawFn) -> pl.Series:
    values, dtype = draw(st.sampled_from(_VALUES))
    if draw(st.booleans()):
        values = st.none() | values
    return pl.Series(draw(st.lists(values, min_size=_ROWS, max_size=_ROWS)), dtype=dtype)


@st.composite
def _table(draw: st.DrawFn) -> pl.DataFrame:
    columns = draw(st.lists(_column(), min_size=1, max_size=4))
    return pl.DataFrame({f"c{i}": column for i, column in enumerate(columns)})


_CLASSES = st.lists(st.sampled_from(["x", "y"]), min_size=_ROWS, max_size=_ROWS)
_NUMBERS = st.lists(st.floats(-1e9, 1e9), min_size=_ROWS, max_size=_ROWS)


def check(train: Train, frame: pl.DataFrame, type: str, config: dict[str, Any]) -> None:
    try:
        result = train(frame, type=type, cv=0, **config)
    except HubError as error:
        refused = error.as_dict()
    else:
        refused = None
    event("refused" if refused else "trained")
    if refused:
        assert refused["code"] in ("invalid_argument", "conflict")
        assert refused["hint"]
        return
    assert result.params["agreement"]["difference"] <= 1e-4
    used = [field.name for field in result.signature.inputs]
    assert len(result.predict([dict.fromkeys(used)])[0]) == 1


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frame=_table(), labels=_CLASSES, estimator=st.sampled_from([*CLASSIFIERS]))
def test_classification(
    train: Train, frame: pl.DataFrame, labels: list[str], estimator: str
) -> None:
    small = _SMALL.get(estimator, {})
    frame = frame.with_columns(y=pl.Series(labels, dtype=pl.String))
    check(train, frame, "classification", {"estimator": estimator, "params": small})


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frame=_table(), numbers=_NUMBERS, estimator=st.sampled_from([*REGRESSORS]))
def test_regression(
    train: Train, frame: pl.DataFrame, numbers: list[float], estimator: str
) -> None:
    small = _SMALL.get(estimator, {})
    frame = frame.with_columns(y=pl.Series(numbers))
    check(train, frame, "regression", {"estimator": estimator, "params": small})
