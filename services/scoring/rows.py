"""Rows of a data set through a registered model, a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_hub.adapters.errors import InvalidArgument, Unavailable
from mcp_hub.services.cores import usable_cores
from mcp_hub.services.data.slicing import read_slices
from mcp_hub.services.inference.decoding import wanted_outputs
from mcp_hub.services.inference.encoding import Arrays
from mcp_hub.services.inference.runtime import OnnxError, open_session, run_session
from mcp_hub.services.registry.views import InputField, OutputField
from mcp_hub.services.training.frameworks.base import StagedModel, TrainingTask
from mcp_hub.services.training.frameworks.tabular.columns import Columns, encode, plain_values

_MOST_ROWS = 8_192
_CELLS = 400_000
"""Of a batch, counted in inputs or in outputs, whichever are more."""
_OPEN_WIDTH = 64
"""What an axis counts whose size the signature leaves open."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows, and what the model gave for them: a value for each of the wanted outputs."""

    frame: pl.DataFrame
    values: list[Any]


def dataset_slices(
    task: TrainingTask, columns: Sequence[str] | None = None, first: int = 0
) -> Iterator[pl.DataFrame]:
    """The rows of the task's data set; see `read_slices`."""
    return read_slices(
        task.dataset_file, task.dataset_format, task.dataset_options,
        dtypes=task.dataset_dtypes, columns=columns, first=first,
    )  # fmt: skip


class Scorer:
    """A model version at work on a data set.

    `outputs` are those that make a prediction, in the order of each batch's `values`.
    """

    def __init__(self, task: TrainingTask, features: Sequence[str] | None) -> None:
        assert task.uses is not None
        self._task = task
        self._uses: StagedModel = task.uses
        self._features = features
        self.outputs: list[OutputField] = wanted_outputs(self._uses.signature.outputs)
        try:
            self._session = open_session(self._uses.file.read_bytes(), len(usable_cores()))
        except OnnxError as error:
            raise Unavailable(f"{self._uses.model} cannot be run here: {error}") from error

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """All rows of the data set from `first` on, in their order.

        Raises:
            InvalidArgument: a row does not fit the model's inputs, or the model fails on it.
        """
        size = self._rows_at_once()
        for frame in dataset_slices(self._task, first=first):
            for part in frame.iter_slices(size):
                yield Batch(part, self._run(part, first, size))
                first += part.height

    def _rows_at_once(self) -> int:
        fixed = self._uses.signature.inputs[0].shape[:1]
        if fixed and fixed[0] is not None:
            return fixed[0]
        widths = [
            sum(prod(size or _OPEN_WIDTH for size in field.shape[1:]) for field in fields)
            for fields in (self._uses.signature.inputs, self.outputs)
        ]
        return max(1, min(_MOST_ROWS, _CELLS // max(1, *widths)))

    def _run(self, frame: pl.DataFrame, first: int, size: int) -> list[Any]:
        names = [field.name for field in self.outputs]
        whole = self._uses.signature.inputs[0].shape[:1] == [size]
        lacking = size - frame.height if whole else 0
        if lacking:
            # A model of a fixed number of rows: the last row fills up, and is cut off again.
            frame = pl.concat([frame, *[frame.tail(1)] * lacking])
        try:
            arrays = self._encode(frame)
            values = run_session(self._session, names, arrays)
        except InvalidArgument as error:
            where = f"In the rows from {first} on: " if first else ""
            raise InvalidArgument(f"{where}{error.message}", error.hint) from error
        except OnnxError as error:
            raise InvalidArgument(
                f"{self._uses.model} failed on the rows from {first} on: {error}.",
                "Check the columns against the signature that model_get tells.",
            ) from error
        return [value[: frame.height - lacking] for value in values] if lacking else values

    def _encode(self, frame: pl.DataFrame) -> Arrays:
        inputs = self._uses.signature.inputs
        if self._features is not None:
            return {inputs[0].name: _matrix(frame, self._features, inputs[0])}
        arrays = {
            field.name: _tensor(frame[field.name], field)
            for field in inputs
            if field.kind == "tensor"
        }
        plain = [field for field in inputs if field.kind != "tensor"]
        if plain:
            kinds: dict[str, Any] = {field.name: field.kind for field in plain}
            arrays |= encode(plain_values(frame, Columns(kinds, {}))[0], plain)
        return arrays


def _matrix(frame: pl.DataFrame, features: Sequence[str], field: InputField) -> NDArray[Any]:
    return np.column_stack([_cells(frame[name], field) for name in features])


def _tensor(column: pl.Series, field: InputField) -> NDArray[Any]:
    """A column as [rows, …]: one value a row, or a list of as many as the input takes."""
    shape = [size or -1 for size in field.shape[1:]]
    rows = column.len()
    if column.dtype.is_nested():
        cells = _cells(column.explode(), field)
        if cells.size % rows:
            raise _unfit(column, field, "lists of different lengths")
    else:
        cells = _cells(column, field)
    try:
        return cells.reshape([rows, *shape] if field.shape else [])
    except ValueError as error:
        raise _unfit(column, field, f"{cells.size // rows} values a row") from error


def _cells(column: pl.Series, field: InputField) -> NDArray[Any]:
    """Values in the type that the input takes; a missing one only where that is a float."""
    if field.dtype == "string":
        if column.null_count():
            raise _unfit(column, field, "missing values")
        return np.array(column.cast(pl.String).to_list(), dtype=object)
    if not column.dtype.is_numeric() and column.dtype != pl.Boolean:
        raise _unfit(column, field, f"{column.dtype} values")
    dtype = np.dtype(field.dtype)
    if column.null_count() and dtype.kind != "f":
        raise _unfit(column, field, "missing values")
    values = column.cast(pl.Float64).to_numpy() if dtype.kind == "f" else column.to_numpy()
    of_floats = dtype.kind in "iu" and values.dtype.kind == "f"
    if of_floats and not np.equal(values, np.round(values)).all():
        raise _unfit(column, field, "fractions")
    return values.astype(dtype)


def _unfit(column: pl.Series, field: InputField, has: str) -> InvalidArgument:
    return InvalidArgument(
        f"The column {column.name!r} has {has}; the model's input {field.name!r} takes "
        f"{field.dtype} of the shape {field.shape}.",
        "Register the data set with this column as the model takes it.",
    )
