"""A job's table, from the data set's file to rows that can be learned from, and how well that went.

What is here is the same for every framework that learns from tables.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.data.reading import read_frame
from mcp_hub.services.inference.encoding import Arrays
from mcp_hub.services.registry.views import InputField
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.tabular import TableConfig
from mcp_hub.services.training.frameworks.tabular.columns import (
    Columns,
    choose_columns,
    encode,
    plain_values,
)
from mcp_hub.services.training.frameworks.tabular.features import MAX_CATEGORIES, width_of
from mcp_hub.services.training.frameworks.tabular.reports import (
    Predicted,
    baseline_accuracy,
    confusion_lines,
    confusion_matrix,
    doubts,
    evaluate,
    residual_summary,
)
from mcp_hub.services.training.frameworks.tabular.rows import Data
from mcp_hub.services.training.frameworks.tabular.targets import read_target
from mcp_hub.services.training.run import Run

_NAMES_TOLD = 100


def read_table(task: TrainingTask, config: TableConfig, run: Run) -> Data:
    """The rows that have a target, encoded. Reports and raises as `read_table_and_rows`."""
    return read_table_and_rows(task, config, run)[0]


def read_table_and_rows(
    task: TrainingTask, config: TableConfig, run: Run
) -> tuple[Data, pl.DataFrame]:
    """The rows that have a target, encoded, and as JSON has them; reports what became of each
    column.

    Raises:
        InvalidArgument: a model cannot be learned from them, or `config` does not fit them.
    """
    name = task.target
    frame = read_frame(task.dataset_file, task.dataset_format, task.dataset_options)
    if name not in frame.columns:
        raise InvalidArgument(
            f"The target {name!r} is no column of {task.dataset}."
            if name
            else f"{task.type} needs a target, the column to predict.",
            names_hint(name or "", frame.columns, "columns"),
        )
    known = frame.filter(pl.col(name).is_not_null())
    lost = frame.height - known.height
    if lost:
        run.log(f"{lost} rows without a value of {name!r} are left out.")
    run.param("rows_without_target", lost)
    target = read_target(known[name], task.type)
    inputs, arrays, plain = encode_table(known, name, config, run)
    return Data(inputs, arrays, target, width_of(inputs, arrays)), plain


def encode_table(
    frame: pl.DataFrame, target: str | None, config: TableConfig, run: Run
) -> tuple[list[InputField], Arrays, pl.DataFrame]:
    """The columns to use, as a model's inputs, their tensors, and their values as JSON has them;
    what became of each column is reported.

    Raises:
        InvalidArgument: none is left, or `config` does not fit them.
    """
    columns = choose_columns(frame, target, config)
    plain, unusable = plain_values(frame, columns)
    _report_columns(run, columns, plain, unusable)
    inputs = columns.inputs()
    return inputs, encode(plain, inputs), plain


def report_scores(task: TrainingTask, run: Run, held_out: Data, predicted: Predicted) -> None:
    """All metrics of the held-out rows, and the confusion matrix or the residuals."""
    expected = held_out.target.values
    scores = evaluate(expected, predicted)
    for metric, score in scores.items():
        run.metric(metric, score)
    shown = ", ".join(f"{metric} {score:.4f}" for metric, score in scores.items())
    run.log(f"On {len(expected)} held-out rows: {shown}")
    if held_out.target.classes:
        confusion = confusion_matrix(expected, predicted.values, held_out.target.classes)
        write_artifact(task, run, "confusion_matrix.json", confusion)
        for line in confusion_lines(confusion):
            run.log(line)
        run.metric("baseline_accuracy", baseline_accuracy(expected))
        for doubt in doubts(expected, predicted.values, held_out.target.classes):
            run.log(f"Warning: {doubt}")
    else:
        if scores.get("r2", 1.0) <= 0:
            run.log("Warning: always saying the mean of these rows is as good (R² is not above 0).")
        residuals = residual_summary(expected, predicted.values)
        write_artifact(task, run, "residuals.json", residuals)
        run.param("residuals", residuals["quantiles"])


@contextmanager
def warnings_in_log(run: Run) -> Iterator[None]:
    """Each warning of the libraries once, as a line of the job's log."""

    def log(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        run.log(f"{category.__name__}: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.simplefilter("once")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.showwarning = log
        yield


def _report_columns(
    run: Run, columns: Columns, plain: pl.DataFrame, unusable: dict[str, int]
) -> None:
    kinds: Any = columns.kinds
    if len(kinds) > _NAMES_TOLD:
        kinds = dict(Counter(columns.kinds.values()))
    dropped = dict([*columns.dropped.items()][:_NAMES_TOLD])
    missing = {c.name: c.null_count() for c in plain if c.null_count()}
    missing = dict([*missing.items()][:_NAMES_TOLD])
    run.param("columns", {"used": kinds, "dropped": dropped, "missing": missing})
    counts = Counter(columns.kinds.values())
    run.log("Columns: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()) + ".")
    for column, reason in dropped.items():
        run.log(f"Column {column!r} is not used: {reason}.")
    for column, kind in columns.kinds.items():
        if kind == "category" and (distinct := plain[column].n_unique()) > MAX_CATEGORIES:
            run.log(
                f"Column {column!r} has {distinct} categories; the {MAX_CATEGORIES} most "
                "frequent are told apart."
            )
    for column, count in unusable.items():
        run.log(f"{count} unusable values of {column!r} count as missing.")


def write_artifact(task: TrainingTask, run: Run, name: str, content: dict[str, Any]) -> None:
    """Keep JSON with the model, under that name."""
    path = task.folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    run.artifact(path, name)
