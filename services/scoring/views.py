"""What scoring a data set with a model returns."""

from typing import Literal

from pydantic import Field

from mcp_hub.services.registry.views import Scalar
from mcp_hub.services.training.views import JobStatus, Progress
from mcp_hub.services.views import Error, View

ModelType = Literal["classification", "regression", "clustering", "anomaly"]


class ClassScores(View):
    label: Scalar
    rows: int
    precision: float
    recall: float
    f1: float


class Confusion(View):
    """A row for each true class, a column for each predicted one."""

    labels: list[Scalar]
    matrix: list[list[int]]


class SliceScores(View):
    """The rows with one value of the column `by`."""

    value: str | None
    rows: int
    metrics: dict[str, float]


class Report(View):
    """What of an evaluation is no single number."""

    classes: list[ClassScores] = Field(default=[], description="Worst F1 first, 30 at most")
    confusion: Confusion | None = Field(default=None, description="Up to 12 classes")
    confused: list[tuple[Scalar, Scalar, int]] = Field(
        default=[], description="Of more classes: true, predicted, rows; most frequent first"
    )
    slices: list[SliceScores] = Field(default=[], description="Largest first, 30 at most")
    notes: list[str] = Field(default=[])


class Evaluation(View):
    """How a model version did on a data set; `metrics` is empty until `status` is succeeded."""

    job_id: str
    status: JobStatus
    model: str
    dataset: str
    target: str | None
    type: ModelType
    rows: int | None = Field(default=None, description="Rows scored, those with a target")
    metrics: dict[str, float] = Field(default={})
    report: Report | None = None
    progress: Progress | None = None
    error: Error | None = None
    note: str | None = None
    evaluated_by: str | None = None
    evaluated_at: str | None = None


class BatchPrediction(View):
    """Predictions of all rows of a data set: `result` is the new data set's name:version."""

    job_id: str
    status: JobStatus
    model: str
    dataset: str
    result: str | None = None
    rows: int | None = None
    columns: list[str] = Field(default=[], description="The columns that were added")
    progress: Progress | None = None
    error: Error | None = None
    note: str | None = None
