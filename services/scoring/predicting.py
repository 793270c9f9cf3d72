"""The job that predicts every row of a data set into a new one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.reading import check_size
from mcp_hub.services.inference.decoding import Decoded, decode_outputs
from mcp_hub.services.registry.views import OutputField, Scalar
from mcp_hub.services.scoring.columns import label_name
from mcp_hub.services.scoring.rows import Batch, Scorer
from mcp_hub.services.scoring.work import PredictConfig
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.run import Run

_RESULT = "predictions.parquet"
_PART_ROWS = 65_536


def predict(task: TrainingTask, run: Run) -> None:
    """Write the kept columns and the predictions of all rows, and report them as a data set.

    The memory that it takes is that of the data set (of Parquet, of a part of it) and of a part
    of the result: parts are written as they fill, and put together by a stream.

    Raises:
        InvalidArgument: a row does not fit the model's inputs, or names of columns clash.
        LimitExceeded: the result would be larger than a data set may be.
    """
    config = PredictConfig.model_validate(dict(task.config))
    scorer = Scorer(task, config.features)
    parts = _Parts(task.folder)
    done = 0
    for batch in scorer.batches():
        kept = [batch.frame[name] for name in config.keep]
        parts.add(pl.DataFrame([*kept, *_added(batch, scorer, config)]))
        done += batch.frame.height
        run.progress(done, config.rows)
    path, schema = parts.finish()
    check_size(done, len(schema))
    added = [
        {"name": name, "dtype": str(dtype), "kind": _kind(name, dtype)}
        for name, dtype in schema.items()
        if name not in config.keep
    ]
    run.log(f"Predicted {done} rows with {config.model}; {path.stat().st_size} bytes of Parquet.")
    run.dataset(path, done, config.keep, added)


class _Parts:
    """Frames, written to files of some rows each and put together in the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[Path] = []
        self._frames: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        self._frames.append(frame)
        self._rows += frame.height
        if self._rows >= _PART_ROWS:
            self._write()

    def finish(self) -> tuple[Path, pl.Schema]:
        """The one file of all, and its columns."""
        if self._frames:
            self._write()
        path = self._folder / _RESULT
        whole = pl.scan_parquet(self._files, glob=False)
        whole.sink_parquet(path)
        return path, whole.collect_schema()

    def _write(self) -> None:
        file = self._folder / f"part-{len(self._files):06}.parquet"
        pl.concat(self._frames).write_parquet(file)
        self._files.append(file)
        self._frames, self._rows = [], 0


def _added(batch: Batch, scorer: Scorer, config: PredictConfig) -> list[pl.Series]:
    decoded = decode_outputs(scorer.outputs, batch.values)
    columns = [_predictions(decoded, scorer.outputs)]
    if config.probabilities and decoded.probabilities:
        columns += [
            pl.Series(
                f"probability_{name}", [row[name] for row in decoded.probabilities], pl.Float64
            )
            for name in decoded.probabilities[0]
        ]
    if decoded.scores is not None:
        columns += _scores(decoded.scores)
    for column in columns:
        if column.name in config.keep:
            raise InvalidArgument(
                f"The data set has a column {column.name!r}, as the predictions have.",
                "Leave it out: keep=[the columns to carry over].",
            )
    return columns


def _predictions(decoded: Decoded, outputs: Sequence[OutputField]) -> pl.Series:
    classes: list[Scalar] = next((field.classes for field in outputs if field.classes), [])
    types = {type(label) for label in classes or decoded.predictions if label is not None}
    name, values = "prediction", decoded.predictions
    if not types:
        # None of them is finite, so that they are numbers.
        types = {float}
    if types <= {int, float} and len(types) > 1:
        types = {float}
    if len(types) == 1 and (dtype := _TYPES.get(types.pop())) is not None:
        return pl.Series(name, values, dtype)
    if classes:
        # Labels of several types: as texts.
        return pl.Series(name, [label_name(value) for value in values], pl.String)
    return pl.Series(name, values)


def _scores(scores: list[Any]) -> list[pl.Series]:
    if not scores or not isinstance(scores[0], list):
        return [pl.Series("score", scores, pl.Float64)]
    table = np.array(scores, dtype=np.float64)
    return [pl.Series(f"score_{index}", table[:, index]) for index in range(table.shape[1])]


def _kind(name: str, dtype: pl.DataType) -> str:
    if name != "prediction" or dtype.is_float():
        return "number"
    return "boolean" if dtype == pl.Boolean else "category"


_TYPES: dict[type, Any] = {
    str: pl.String, bool: pl.Boolean, int: pl.Int64, float: pl.Float64,
}  # fmt: skip
