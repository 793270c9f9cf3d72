"""What an evaluation must know of all rows before it begins: their targets, and their slices."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.scoring.rows import dataset_slices
from mcp_hub.services.scoring.work import EvaluateConfig
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.tabular.targets import labels_of


class Survey:
    """The values of a task's target and of the column that it is sliced by, each counted.

    `rows` have a target and are scored, `lost` have none. `targets` and `slices` are frames of
    `value` and `rows`, or None; of numbers, the targets are not counted.
    """

    def __init__(self, task: TrainingTask, config: EvaluateConfig) -> None:
        """Read the columns.

        Raises:
            InvalidArgument: no row has a target, or one that has is not what the model predicts.
        """
        self.rows = self.lost = 0
        self.targets: pl.DataFrame | None = None
        self.slices: pl.DataFrame | None = None
        self._type = config.type
        columns = [name for name in dict.fromkeys([task.target, config.by]) if name is not None]
        if not columns:
            self.rows = config.rows
            return
        for frame in dataset_slices(task, columns):
            known = frame if task.target is None else frame.drop_nulls(task.target)
            self.lost += frame.height - known.height
            if task.target is not None:
                self._add_targets(known[task.target])
            if config.by is not None:
                self.slices = _counted(self.slices, known[config.by].cast(pl.String))
            self.rows += known.height
        if not self.rows:
            raise InvalidArgument(
                f"No row of {task.dataset} has a value of the target {task.target!r}.",
                "Evaluate on rows whose true answers are known.",
            )

    def _add_targets(self, targets: pl.Series) -> None:
        if self._type == "regression":
            self._check_numbers(targets)
        elif self._type != "clustering":
            labels_of(targets.clear())
            self.targets = _counted(self.targets, targets)

    def _check_numbers(self, targets: pl.Series) -> None:
        if not targets.dtype.is_numeric():
            raise InvalidArgument(
                f"The target {targets.name!r} holds {targets.dtype} values; the model predicts "
                "numbers.",
                "Give the column of true numbers as target.",
            )
        values = targets.cast(pl.Float64).to_numpy()
        odd = np.flatnonzero(~np.isfinite(values))
        if len(odd):
            raise InvalidArgument(
                f"The target {targets.name!r} is {values[odd[0]]} in row {self.rows + odd[0]} of "
                "those that have one.",
                "Give finite numbers, or null where it is missing (such rows are left out).",
            )


def _counted(counts: pl.DataFrame | None, column: pl.Series) -> pl.DataFrame:
    more = column.alias("value").value_counts(name="rows")
    if counts is None:
        return more
    return pl.concat([counts, more]).group_by("value").agg(pl.col("rows").sum())


def most_frequent(counts: pl.DataFrame, most: int) -> Sequence[tuple[str | None, int]]:
    """The most frequent values, each with its rows."""
    ordered = counts.sort(["rows", "value"], descending=[True, False])
    return list(ordered.head(most).iter_rows())
