"""A model's answers beside the true ones, by its type, as the tallies take them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mcp_hub.adapters.errors import InvalidArgument, names_hint
from mcp_hub.services.inference.decoding import decode_outputs
from mcp_hub.services.registry.views import OutputField, Scalar
from mcp_hub.services.scoring.digests import limit_for
from mcp_hub.services.scoring.measures import (
    AnomalyTally,
    ClassTally,
    ClusterTally,
    NumberTally,
    Scores,
)
from mcp_hub.services.scoring.rows import Batch
from mcp_hub.services.scoring.surveying import Survey
from mcp_hub.services.scoring.views import ModelType
from mcp_hub.services.training.frameworks.tabular.targets import flags_of, labels_of

_SHOWN = 10

Answers = tuple[NDArray[Any] | None, ...]
"""What a tally's `add` takes: of each row something, or nothing of any row."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that have a target, and what the model gave for each.

    `classes` are those of which there are `probabilities` [rows, classes], or that are known
    without; `scores` is [rows, …].
    """

    targets: pl.Series | None
    predictions: list[Any]
    classes: list[Scalar] | None
    probabilities: NDArray[np.float64] | None
    scores: NDArray[np.float64] | None


class Comparison(Protocol):
    """How the answers of one type of model are compared."""

    notes: list[str]

    def tally(self) -> Any:
        """An empty tally."""
        ...

    def answers(self, part: Part) -> Answers:
        """The answers of a part's rows, for a tally to take in."""
        ...

    def scores(self, tally: Any) -> Scores:
        """What a tally has come to."""
        ...


def read_part(
    batch: Batch, outputs: list[OutputField], target: str | None
) -> tuple[Part, pl.DataFrame]:
    """The rows of a batch that have a target."""
    decoded = decode_outputs(outputs, batch.values)
    classes: list[Scalar] | None = None
    probabilities = scores = None
    for field, value in zip(outputs, batch.values, strict=True):
        if field.role == "probabilities":
            classes, probabilities = _table(field.classes, value)
        elif field.role == "score":
            scores = np.asarray(value, dtype=np.float64).reshape(len(value), -1)
        elif field.classes and classes is None:
            classes = field.classes
    if target is None:
        return Part(None, decoded.predictions, classes, probabilities, scores), batch.frame
    targets = batch.frame[target]
    known = targets.is_not_null().to_numpy()
    part = Part(
        targets.drop_nulls(),
        [decoded.predictions[row] for row in np.flatnonzero(known)],
        classes,
        None if probabilities is None else probabilities[known],
        None if scores is None else scores[known],
    )
    return part, batch.frame.filter(targets.is_not_null())


def comparison(type: ModelType, survey: Survey, first: Part, tallies: int) -> Comparison:
    """How to compare the answers of that type of model, of which `first` shows some.

    `tallies` are how many there will be.

    Raises:
        InvalidArgument: the model does not know a class of the target, or the target of an
            anomaly detector has not two values.
    """
    return _COMPARISONS[type](survey, first, tallies)


class _Classes:
    def __init__(self, survey: Survey, first: Part, tallies: int) -> None:
        assert survey.targets is not None
        assert first.targets is not None
        self.notes: list[str] = []
        values = survey.targets["value"]
        labels: list[Scalar] = labels_of(values).to_list()
        self._is_open = first.classes is None
        if self._is_open:
            self.notes.append(
                "The model's signature does not name its classes: they are taken from the target "
                "and the predictions, and there is no measure of its probabilities."
            )
        classes = labels if first.classes is None else first.classes
        self._code: dict[Scalar, int] = {label: code for code, label in enumerate(classes)}
        rows = survey.targets["rows"].to_list()
        self._check_known(first.targets.name, dict(zip(labels, rows, strict=True)))
        codes = [self._code[label] for label in labels]
        self._code_of_value = dict(zip(values.to_list(), codes, strict=True))
        self._probable = 0 if first.probabilities is None else len(classes)
        self._limit = limit_for(tallies * self._probable)

    def _check_known(self, target: str, rows: dict[Scalar, int]) -> None:
        unknown = sorted((label for label in rows if label not in self._code), key=str)
        if unknown:
            shown = ", ".join(repr(label) for label in unknown[:_SHOWN])
            raise InvalidArgument(
                f"{sum(rows[label] for label in unknown)} rows have a class in {target!r} that "
                f"the model does not know: {shown}{' …' if len(unknown) > _SHOWN else ''}.",
                f"{names_hint(str(unknown[0]), map(str, self._code), 'classes of the model')} "
                "Leave those rows out, or give the target the model's labels.",
            )

    def tally(self) -> ClassTally:
        return ClassTally(self._limit, self._probable)

    def answers(self, part: Part) -> Answers:
        assert part.targets is not None
        expected = part.targets.replace_strict(self._code_of_value, return_dtype=pl.Int64)
        if self._is_open:
            for label in part.predictions:
                self._code.setdefault(label, len(self._code))
        predicted = [self._code.get(label, -1) for label in part.predictions]
        return expected.to_numpy(), np.array(predicted, dtype=np.intp), part.probabilities

    def scores(self, tally: ClassTally) -> Scores:
        if not self._is_open:
            return tally.scores(list(self._code))
        classes = sorted(self._code, key=lambda label: (str(type(label)), label))
        place = {label: rank for rank, label in enumerate(classes)}
        return tally.scores(classes, np.array([place[label] for label in self._code]))


class _Numbers:
    def __init__(self, survey: Survey, first: Part, tallies: int) -> None:
        self.notes: list[str] = []
        self._limit = limit_for(tallies * 2)

    def tally(self) -> NumberTally:
        return NumberTally(self._limit)

    def answers(self, part: Part) -> Answers:
        assert part.targets is not None
        expected = part.targets.cast(pl.Float64).to_numpy()
        return expected, np.array(part.predictions, dtype=np.float64)

    def scores(self, tally: NumberTally) -> Scores:
        return tally.scores()


class _Clusters:
    def __init__(self, survey: Survey, first: Part, tallies: int) -> None:
        self.notes: list[str] = []

    def tally(self) -> ClusterTally:
        return ClusterTally()

    def answers(self, part: Part) -> Answers:
        labels = None if part.targets is None else part.targets.cast(pl.String).to_numpy()
        return np.array(part.predictions), labels, part.scores

    def scores(self, tally: ClusterTally) -> Scores:
        return tally.scores()


class _Anomalies:
    def __init__(self, survey: Survey, first: Part, tallies: int) -> None:
        self.notes: list[str] = []
        self._limit = limit_for(tallies)
        self._flag_of_value: dict[Any, bool] = {}
        if survey.targets is not None and first.targets is not None:
            self._flag_of_value = flags_of(survey.targets, first.targets.name)

    def tally(self) -> AnomalyTally:
        return AnomalyTally(self._limit)

    def answers(self, part: Part) -> Answers:
        truth = None
        if part.targets is not None:
            flags = part.targets.replace_strict(self._flag_of_value, return_dtype=pl.Boolean)
            truth = flags.to_numpy()
        return np.array(part.predictions, dtype=bool), truth, part.scores

    def scores(self, tally: AnomalyTally) -> Scores:
        return tally.scores()


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


_COMPARISONS: dict[ModelType, Callable[[Survey, Part, int], Comparison]] = {
    "classification": _Classes,
    "regression": _Numbers,
    "clustering": _Clusters,
    "anomaly": _Anomalies,
}
