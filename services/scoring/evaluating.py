"""The job that scores a model version on a data set."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.inference.decoding import decode_outputs
from mcp_hub.services.registry.views import Scalar
from mcp_hub.services.scoring.measures import (
    Scores,
    score_anomalies,
    score_classes,
    score_clusters,
    score_numbers,
)
from mcp_hub.services.scoring.rows import Batch, Scorer
from mcp_hub.services.scoring.views import Report, SliceScores
from mcp_hub.services.scoring.work import EvaluateConfig
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.frameworks.tabular.targets import labels_of, read_flags
from mcp_hub.services.training.run import Run

_SLICES = 30
_SHOWN = 10

Measure = Callable[[NDArray[np.bool_] | None], Scores]
"""The scores of all rows, or of those that a mask chooses."""


def evaluate(task: TrainingTask, run: Run) -> None:
    """Score the task's model on its data set, and report metrics and the evaluation.

    Raises:
        InvalidArgument: no row has a target, the model does not know a class of the target, or a
            row does not fit the model's inputs.
    """
    _Evaluation(task, run).run()


class _Evaluation:
    def __init__(self, task: TrainingTask, run: Run) -> None:
        self._task = task
        self._run = run
        self._config = EvaluateConfig.model_validate(dict(task.config))
        self._scorer = Scorer(task, self._config.features)
        self._notes: list[str] = []

    def run(self) -> None:
        given = self._collect()
        measure, rows = self._measured(given)
        scores = measure(None)
        report = Report(
            classes=scores.classes,
            confusion=scores.confusion,
            confused=scores.confused,
            slices=self._slices(given, measure),
            notes=[*self._notes, *scores.notes],
        )
        for name, value in scores.metrics.items():
            self._run.metric(name, value)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.metrics.items())
        self._run.log(f"On {rows} rows of {self._task.dataset}: {shown}")
        for note in report.notes:
            self._run.log(note)
        self._run.evaluation(rows, scores.metrics, report.model_dump(mode="json"))

    def _collect(self) -> "_Given":
        """What the model gave for each row that has a target, and the target."""
        target, by, total = self._task.target, self._config.by, self._config.rows
        given = _Given()
        done = 0
        for batch in self._scorer.batches():
            done += batch.frame.height
            given.add(batch, self._scorer, target, by)
            self._run.progress(done, total)
        given.finish()
        if given.lost:
            self._notes.append(f"{given.lost} rows without a value of {target!r} are left out.")
        if not given.rows:
            raise InvalidArgument(
                f"No row of {self._task.dataset} has a value of the target {target!r}.",
                "Evaluate on rows whose true answers are known.",
            )
        trained_on = self._config.trained_on
        if trained_on and trained_on.rpartition(":")[0] == self._task.dataset.rpartition(":")[0]:
            self._notes.append(
                f"The version was trained on {trained_on}: rows that it has learned from are "
                "among these, so that the scores are better than on new rows."
            )
        return given

    def _measured(self, given: "_Given") -> tuple[Measure, int]:
        kind = self._config.type
        if kind == "classification":
            return self._classes(given), given.rows
        if kind == "regression":
            expected = _numbers(given.targets, self._task.target)
            predicted = np.array(given.predictions, dtype=np.float64)
            return lambda mask: score_numbers(_of(expected, mask), _of(predicted, mask)), given.rows
        scores = given.score_table
        if kind == "clustering":
            labels = None if given.targets is None else given.targets.cast(pl.String).to_numpy()
            clusters = np.array(given.predictions)
            return (
                lambda mask: score_clusters(
                    _of(clusters, mask), _maybe(labels, mask), _maybe(scores, mask)
                ),
                given.rows,
            )
        flags = np.array(given.predictions, dtype=bool)
        truth = None if given.targets is None else read_flags(given.targets)
        return (
            lambda mask: score_anomalies(
                _of(flags, mask), _maybe(truth, mask), _maybe(scores, mask)
            ),
            given.rows,
        )

    def _classes(self, given: "_Given") -> Measure:
        assert given.targets is not None
        truth: list[Scalar] = labels_of(given.targets).to_list()
        known = given.classes
        if known is None:
            self._notes.append(
                "The model's signature does not name its classes: they are taken from the target "
                "and the predictions, and there is no measure of its probabilities."
            )
            known = sorted(
                {*truth, *given.predictions}, key=lambda label: (str(type(label)), label)
            )
        code = {label: position for position, label in enumerate(known)}
        if unknown := sorted({label for label in truth if label not in code}, key=str):
            rows = sum(label not in code for label in truth)
            shown = ", ".join(repr(label) for label in unknown[:_SHOWN])
            raise InvalidArgument(
                f"{rows} rows have a class in {self._task.target!r} that the model does not know: "
                f"{shown}{' …' if len(unknown) > _SHOWN else ''}.",
                f"{names_hint(str(unknown[0]), map(str, known), 'classes of the model')} Leave "
                "those rows out, or give the target the model's labels.",
            )
        expected = np.array([code[label] for label in truth])
        predicted = np.array([code.get(label, -1) for label in given.predictions])
        table = given.probability_table if given.classes else None
        return lambda mask: score_classes(
            known, _of(expected, mask), _of(predicted, mask), _maybe(table, mask)
        )

    def _slices(self, given: "_Given", measure: Measure) -> list[SliceScores]:
        if given.by is None:
            return []
        values = given.by.cast(pl.String)
        counts = values.value_counts(name="rows").sort(
            ["rows", values.name], descending=[True, False]
        )
        if counts.height > _SLICES:
            self._notes.append(
                f"{self._config.by!r} has {counts.height} values; the {_SLICES} most frequent are "
                "shown."
            )
        slices = []
        for value, rows in counts.head(_SLICES).iter_rows():
            mask = values.eq_missing(pl.Series([value], dtype=pl.String)).to_numpy()
            slices.append(SliceScores(value=value, rows=rows, metrics=measure(mask).metrics))
        return slices


class _Given:
    """What batches gave, put together."""

    def __init__(self) -> None:
        self.rows = 0
        self.lost = 0
        self.predictions: list[Any] = []
        self.classes: list[Scalar] | None = None
        self.targets: pl.Series | None = None
        self.by: pl.Series | None = None
        self.probability_table: NDArray[np.float64] | None = None
        self.score_table: NDArray[np.float64] | None = None
        self._targets: list[pl.Series] = []
        self._by: list[pl.Series] = []
        self._probabilities: list[NDArray[np.float64]] = []
        self._scores: list[NDArray[np.float64]] = []

    def add(self, batch: Batch, scorer: Scorer, target: str | None, by: str | None) -> None:
        frame, values = batch.frame, batch.values
        known = None
        if target is not None and frame[target].null_count():
            mask = frame[target].is_not_null()
            known = mask.to_numpy()
            self.lost += frame.height - int(known.sum())
            frame = frame.filter(mask)
        self.rows += frame.height
        decoded = decode_outputs(scorer.outputs, values)
        chosen = range(len(decoded.predictions)) if known is None else np.flatnonzero(known)
        self.predictions += [decoded.predictions[row] for row in chosen]
        for field, value in zip(scorer.outputs, values, strict=True):
            if field.role == "probabilities":
                self.classes, table = _table(field.classes, value)
                if table is not None:
                    self._probabilities.append(_of(table, known))
            elif field.role == "score":
                scores = np.asarray(value, dtype=np.float64).reshape(len(value), -1)
                self._scores.append(_of(scores, known))
            elif field.classes and self.classes is None:
                self.classes = field.classes
        if target is not None:
            self._targets.append(frame[target])
        if by is not None:
            self._by.append(frame[by])

    def finish(self) -> None:
        self.targets = pl.concat(self._targets) if self._targets else None
        self.by = pl.concat(self._by) if self._by else None
        self.probability_table = _stacked(self._probabilities)
        self.score_table = _stacked(self._scores)


def _table(
    classes: list[Scalar] | None, value: Any
) -> tuple[list[Scalar] | None, NDArray[np.float64] | None]:
    """The classes and their probabilities [rows, classes], where it shows which is whose."""
    if isinstance(value, list):
        labels = list(value[0]) if value else []
        return labels, np.array([[row[label] for label in labels] for row in value])
    if classes and value.shape[1:] == (len(classes),):
        return classes, np.asarray(value, dtype=np.float64)
    return classes, None


def _numbers(targets: pl.Series | None, name: str | None) -> NDArray[np.float64]:
    assert targets is not None
    if not targets.dtype.is_numeric():
        raise InvalidArgument(
            f"The target {name!r} holds {targets.dtype} values; the model predicts numbers.",
            "Give the column of true numbers as target.",
        )
    values = targets.cast(pl.Float64).to_numpy()
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InvalidArgument(
            f"The target {name!r} is {values[row]} in row {row} of those that have one.",
            "Give finite numbers, or null where it is missing (such rows are left out).",
        )
    return values


def _stacked(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    return np.concatenate(parts) if parts else None


def _of(values: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[Any]:
    return values if mask is None else values[mask]


def _maybe(values: NDArray[Any] | None, mask: NDArray[np.bool_] | None) -> NDArray[Any] | None:
    return None if values is None else _of(values, mask)
