"""What is learned: classes, or numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.registry.views import Scalar

MIN_ROWS = 10
MAX_CLASSES = 1_000
_EXACT_INTEGERS = 2.0**53
_SMALLEST, _LARGEST = 1e-30, 1e30
_LEAST_SPREAD = 1e-6
"""Of the greatest value: models predict float32, which has about seven digits."""


@dataclass(frozen=True, slots=True)
class Target:
    """The target of each row: a class's position in `classes`, or a number.

    `classes` are the labels, sorted, as JSON has them; None where numbers are learned.
    """

    values: NDArray[Any]
    classes: list[Scalar] | None


def read_target(column: pl.Series, type: str) -> Target:
    """The target in a column without missing values.

    Raises:
        InvalidArgument: a model of that type cannot be learned from it.
    """
    if column.len() < MIN_ROWS:
        raise InvalidArgument(
            f"{column.len()} rows have a value of the target {column.name!r}; "
            f"training needs at least {MIN_ROWS}.",
            "Give more rows.",
        )
    return _read_classes(column) if type == "classification" else _read_numbers(column)


def _read_classes(column: pl.Series) -> Target:
    labels = labels_of(column)
    counts = labels.alias("label").value_counts(name="rows").sort("label")
    classes: list[Scalar] = counts["label"].to_list()
    if len(classes) < 2:
        raise InvalidArgument(
            f"The target {column.name!r} has one class only: {classes[0]!r} in all "
            f"{column.len()} rows.",
            "Classification needs two classes; give rows of another, or another target.",
        )
    numeric = "; to predict it as a number use type='regression'" if _is_number(column) else ""
    single = counts.filter(pl.col("rows") < 2)["label"].to_list()
    if single:
        shown = ", ".join(repr(label) for label in single[:10])
        more = f" and {len(single) - 10} more" if len(single) > 10 else ""
        raise InvalidArgument(
            f"{len(single)} of the {len(classes)} classes of {column.name!r} have a single row: "
            f"{shown}{more}.",
            f"Every class needs at least 2 rows: give more, or leave those rows out{numeric}.",
        )
    if len(classes) > MAX_CLASSES:
        raise InvalidArgument(
            f"The target {column.name!r} has {len(classes)} classes; at most {MAX_CLASSES} "
            "can be told apart.",
            f"Merge classes{numeric}.",
        )
    codes = labels.replace_strict(classes, list(range(len(classes))), return_dtype=pl.Int64)
    return Target(codes.to_numpy(), classes)


def labels_of(column: pl.Series) -> pl.Series:
    """The labels as they are reported: whole floats are integers, dates are ISO 8601."""
    dtype = column.dtype
    if dtype.is_float():
        whole = (column.round() == column) & (column.abs() < _EXACT_INTEGERS)
        return column.cast(pl.Int64) if whole.all() else column.cast(pl.Float64)
    if dtype == pl.UInt64 and int(column.max() or 0) >= 2**63:  # type: ignore[arg-type]
        return column.cast(pl.String)
    if dtype.is_integer():
        return column.cast(pl.Int64)
    if dtype == pl.Date or dtype == pl.Datetime:
        return column.dt.to_string("iso")
    if dtype.is_nested() or dtype == pl.Binary:
        raise InvalidArgument(
            f"The target {column.name!r} holds {dtype} values, which are no labels.",
            "A target holds strings, whole numbers or booleans.",
        )
    return column


def read_flags(column: pl.Series) -> NDArray[np.bool_]:
    """Which rows are known anomalies, in a column without missing values.

    Raises:
        InvalidArgument: the column does not have two values.
    """
    flags = flags_of(column.alias("value").value_counts(name="rows"), column.name)
    return column.replace_strict(flags, return_dtype=pl.Boolean).to_numpy()


def flags_of(counts: pl.DataFrame, target: str) -> dict[Any, bool]:
    """Whether each value of a target is that of known anomalies, from a frame of the `value`s,
    none missing, and their `rows`.

    True, 1 and -1 beside 1 (as scikit-learn writes outliers), or of two texts the rarer one.

    Raises:
        InvalidArgument: the target does not have two values.
    """
    labelled = counts.with_columns(labels_of(counts["value"]).alias("label")).sort("rows", "label")
    labels: list[Scalar] = labelled["label"].to_list()
    if set(labels) <= {0, 1}:
        anomalous: Scalar = 1
    elif set(labels) == {-1, 1}:
        anomalous = -1
    elif len(labels) == 2:
        anomalous = labels[0]
    else:
        shown = ", ".join(repr(label) for label in labels[:5])
        raise InvalidArgument(
            f"The target {target!r} has {len(labels)} values ({shown}); known anomalies are a "
            "column of two.",
            "Give a column of booleans, of 0 and 1, or of two labels of which the rarer is "
            "anomalous.",
        )
    flags = [label == anomalous for label in labels]
    return dict(zip(labelled["value"].to_list(), flags, strict=True))


def _read_numbers(column: pl.Series) -> Target:
    if not _is_number(column):
        raise InvalidArgument(
            f"The target {column.name!r} is not numeric: it holds {column.dtype} values such as "
            f"{str(column[0])[:60]!r}.",
            "Regression predicts numbers; use type='classification', or another target.",
        )
    values = column.cast(pl.Float64).to_numpy()
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InvalidArgument(
            f"The target {column.name!r} is {values[row]} in row {row} of those that have one.",
            "Give finite numbers, or null where it is missing (such rows are left out).",
        )
    largest, spread = float(np.abs(values).max()), float(values.std())
    if not _SMALLEST < largest < _LARGEST and spread:
        raise InvalidArgument(
            f"The greatest value of the target {column.name!r} is {largest:g} in size; models "
            f"predict float32, which is sound from {_SMALLEST:g} to {_LARGEST:g}.",
            "Give the target in another unit, or its logarithm.",
        )
    if spread <= _LEAST_SPREAD * largest:
        raise InvalidArgument(
            f"The target {column.name!r} is about {values[0]:g} in every row.",
            "Choose another target, or give the differences from that value.",
        )
    return Target(values, None)


def _is_number(column: pl.Series) -> bool:
    return column.dtype.is_numeric()
