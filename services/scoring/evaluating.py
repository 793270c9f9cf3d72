"""The job that scores a model version on a data set."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from mcp_hub.services.scoring.comparing import Answers, Comparison, comparison, read_part
from mcp_hub.services.scoring.rows import Scorer
from mcp_hub.services.scoring.surveying import Survey, most_frequent
from mcp_hub.services.scoring.views import Report, SliceScores
from mcp_hub.services.scoring.work import EvaluateConfig
from mcp_hub.services.training.frameworks.base import TrainingTask
from mcp_hub.services.training.run import Run

_SLICES = 30


def evaluate(task: TrainingTask, run: Run) -> None:
    """Score the task's model on its data set, and report metrics and the evaluation.

    Reads the target of all rows first, then runs the model on a batch of them after the other.
    What is kept of these does not grow with the rows.

    Raises:
        InvalidArgument: no row has a target, the model does not know a class of the target, or a
            row does not fit the model's inputs.
    """
    _Evaluation(task, run).run()


@dataclass(slots=True)
class _Slice:
    """The rows with one value of the column that is sliced by, and their tally."""

    value: str | None
    rows: int
    tally: Any


class _Evaluation:
    def __init__(self, task: TrainingTask, run: Run) -> None:
        self._task = task
        self._run = run
        self._config = EvaluateConfig.model_validate(dict(task.config))
        self._scorer = Scorer(task, self._config.features)
        self._survey = Survey(task, self._config)
        self._slices: list[_Slice] = []

    def run(self) -> None:
        compared, tally = self._compare()
        scores = compared.scores(tally)
        report = Report(
            classes=scores.classes,
            confusion=scores.confusion,
            confused=scores.confused,
            slices=[
                SliceScores(
                    value=one.value, rows=one.rows, metrics=compared.scores(one.tally).metrics
                )
                for one in self._slices
            ],
            notes=[*self._notes(), *compared.notes, *scores.notes],
        )
        for name, value in scores.metrics.items():
            self._run.metric(name, value)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.metrics.items())
        rows = self._survey.rows
        self._run.log(f"On {rows} rows of {self._task.dataset}: {shown}")
        for note in report.notes:
            self._run.log(note)
        self._run.evaluation(rows, scores.metrics, report.model_dump(mode="json"))

    def _compare(self) -> tuple[Comparison, Any]:
        """All rows' answers in a tally, and in those of the slices."""
        values = [] if self._survey.slices is None else most_frequent(self._survey.slices, _SLICES)
        compared: Comparison | None = None
        tally: Any = None
        done = 0
        for batch in self._scorer.batches():
            part, frame = read_part(batch, self._scorer.outputs, self._task.target)
            if compared is None:
                compared = comparison(self._config.type, self._survey, part, 1 + len(values))
                tally = compared.tally()
                self._slices = [_Slice(value, rows, compared.tally()) for value, rows in values]
            if frame.height:
                answers = compared.answers(part)
                tally.add(*answers)
                self._add_to_slices(frame, answers)
            done += batch.frame.height
            self._run.progress(done, self._config.rows)
        assert compared is not None
        return compared, tally

    def _add_to_slices(self, frame: pl.DataFrame, answers: Answers) -> None:
        if self._config.by is None:
            return
        values = frame[self._config.by].cast(pl.String)
        for one in self._slices:
            mask = values.eq_missing(pl.Series([one.value], dtype=pl.String)).to_numpy()
            if mask.any():
                one.tally.add(*(None if of_all is None else of_all[mask] for of_all in answers))

    def _notes(self) -> list[str]:
        notes = []
        survey, task, trained_on = self._survey, self._task, self._config.trained_on
        if survey.lost:
            notes.append(f"{survey.lost} rows without a value of {task.target!r} are left out.")
        if trained_on and trained_on.rpartition(":")[0] == task.dataset.rpartition(":")[0]:
            notes.append(
                f"The version was trained on {trained_on}: rows that it has learned from are "
                "among these, so that the scores are better than on new rows."
            )
        if survey.slices is not None and survey.slices.height > _SLICES:
            notes.append(
                f"{self._config.by!r} has {survey.slices.height} values; the {_SLICES} most "
                "frequent are shown."
            )
        return notes
