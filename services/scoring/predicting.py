"""The job that predicts every row of a data set into a new one."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mcp_hub import __version__
from mcp_hub.adapters.errors import Internal, InvalidArgument
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
_LEAST_INTERVAL_S = 1.0
_SHARE_OF_CHECKPOINTS = 0.05
"""How much of the time may go into writing checkpoints, each of which has all rows so far."""
_RELEASE = "mcp_hub_release"


def predict(task: TrainingTask, run: Run) -> None:
    """Write the kept columns and the predictions of all rows, and report them as a data set.

    Goes on behind the rows that the task's checkpoint holds. The memory that it takes is that of a
    part of the data set and of a part of the result: parts are written as they fill, and put
    together by a stream.

    Raises:
        InvalidArgument: a row does not fit the model's inputs, or names of columns clash.
        LimitExceeded: the result would be larger than a data set may be.
    """
    config = PredictConfig.model_validate(dict(task.config))
    scorer = Scorer(task, config.features)
    result = _Result(task, run)
    for batch in scorer.batches(first=result.rows):
        kept = [batch.frame[name] for name in config.keep]
        result.add(pl.DataFrame([*kept, *_added(batch, scorer, config)]))
        run.progress(result.rows, config.rows)
        result.keep_when_due()
    path, schema = result.finish()
    if result.rows != config.rows:
        raise Internal(f"{result.rows} rows were read of {task.dataset}, which has {config.rows}.")
    check_size(result.rows, len(schema))
    added = [
        {"name": name, "dtype": str(dtype), "kind": _kind(name, dtype)}
        for name, dtype in schema.items()
        if name not in config.keep
    ]
    size = path.stat().st_size
    run.log(f"Predicted {result.rows} rows with {config.model}; {size} bytes of Parquet.")
    run.dataset(path, result.rows, config.keep, added)


class _Result:
    """Frames, written to files of some rows each and put together in the end.

    `rows` counts those that are there; a checkpoint of an earlier attempt is its beginning.
    """

    def __init__(self, task: TrainingTask, run: Run) -> None:
        self.rows = 0
        self._folder = task.folder
        self._run = run
        self._files: list[Path] = []
        self._frames: list[pl.DataFrame] = []
        self._held = 0
        self._kept_at = time.monotonic()
        self._interval = _LEAST_INTERVAL_S
        if task.checkpoint is not None:
            self._restore(task.checkpoint)

    def add(self, frame: pl.DataFrame) -> None:
        self._frames.append(frame)
        self._held += frame.height
        self.rows += frame.height
        if self._held >= _PART_ROWS:
            self._write()

    def keep_when_due(self) -> None:
        """Report what is there as a checkpoint, if the last one is long enough ago."""
        began = time.monotonic()
        if began - self._kept_at < self._interval:
            return
        self._run.checkpoint(self._join(f"rows-{self.rows}.parquet"), step=self.rows)
        self._kept_at = time.monotonic()
        cost = self._kept_at - began
        self._interval = max(_LEAST_INTERVAL_S, cost / _SHARE_OF_CHECKPOINTS)

    def finish(self) -> tuple[Path, pl.Schema]:
        """The one file of all, and its columns."""
        path = self._join(_RESULT)
        return path, pl.Schema(pl.read_parquet_schema(path))

    def _restore(self, checkpoint: Path) -> None:
        if pl.read_parquet_metadata(checkpoint).get(_RELEASE) != __version__:
            self._run.log("Begins anew: the checkpoint is of another release of mcp-hub.")
            return
        self._files = [checkpoint]
        self.rows = pl.scan_parquet(checkpoint, glob=False).select(pl.len()).collect().item()
        self._run.log(f"Goes on behind the {self.rows} rows of the checkpoint.")

    def _join(self, name: str) -> Path:
        """All rows so far in one file, which takes the place of their parts."""
        self._write()
        path = self._folder / name
        whole = pl.scan_parquet(self._files, glob=False)
        whole.sink_parquet(path, maintain_order=True, metadata={_RELEASE: __version__})
        for file in self._files:
            file.unlink()
        self._files = [path]
        return path

    def _write(self) -> None:
        if self._frames:
            file = self._folder / f"part-{self.rows}.parquet"
            pl.concat(self._frames).write_parquet(file)
            self._files.append(file)
            self._frames, self._held = [], 0


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
