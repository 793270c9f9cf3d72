"""What the registry tools return, and what a model version promises about its inputs."""

from typing import Any, Literal

from pydantic import Field

from mcp_hub.services.views import View

FieldKind = Literal["number", "boolean", "category", "text", "datetime", "tensor"]
Scalar = str | int | float | bool
"""A class label, as JSON has it. Strict in comparisons: True is not 1."""


class InputField(View):
    """One named input of a model: what a caller gives, and what the ONNX graph takes.

    `kind` says how a JSON value becomes the tensor: `number` and `boolean` become float32 [n, 1]
    (null becomes NaN), `category` and `text` become string [n, 1] (null becomes ""), `datetime`
    (ISO 8601) becomes float32 [n, 6] (year, month, day, weekday from 0 = Monday, hour, minute;
    null becomes NaN), and `tensor` takes nested lists of the given dtype and shape.
    """

    name: str
    dtype: str = Field(description="float32, float64, int64, string, bool, …")
    shape: list[int | None] = Field(description="null is the number of rows")
    kind: FieldKind = "tensor"
    nullable: bool = False


class OutputField(View):
    """One named output. A classifier's has `classes`: the labels in the order of its columns.

    A `score` goes with the prediction: the distance to each cluster, how anomalous a row is.
    """

    name: str
    dtype: str
    shape: list[int | None]
    role: Literal["prediction", "probabilities", "score", "other"] = "other"
    classes: list[Scalar] | None = None


class Signature(View):
    inputs: list[InputField]
    outputs: list[OutputField]


SERVED_MODEL = "model.onnx"
"""The artifact of a version that predictions are made with."""


class Artifact(View):
    name: str
    sha256: str
    bytes: int


class ModelView(View):
    """A model version, immutable but for its aliases and tags."""

    model: str = Field(description="name:version, a reference to exactly this version")
    name: str
    version: int
    aliases: list[str]
    description: str
    flavor: str
    signature: Signature
    omitted_inputs: int = Field(
        default=0, description="Inputs left out of `signature`; model_get(limit=…) lists more"
    )
    metrics: dict[str, float]
    params: dict[str, Any]
    tags: dict[str, str]
    artifacts: list[Artifact]
    content: Any = Field(default=None, description="Of the artifact that was asked for")
    job_id: str | None
    dataset: str | None
    created_by: str
    created_at: str


class ModelTags(View):
    """The tags of a version after a change."""

    model: str
    tags: dict[str, str]


class ModelSummary(View):
    """A model in a list: its newest version, and where its aliases point."""

    name: str
    version: int
    versions: int
    aliases: dict[str, int]
    metrics: dict[str, float]
    tags: dict[str, str]
    created_at: str


class GateResult(View):
    gate: str
    passed: bool
    expected: Any
    actual: Any
    note: str | None = None


class Promotion(View):
    """A decision on moving an alias, kept for good."""

    promoted: bool
    name: str
    alias: str
    version: int
    previous: int | None = Field(description="Where the alias pointed before; promote it to undo")
    gates: list[GateResult]
    reason: str
    decided_by: str
    decided_at: str


class MetricRow(View):
    """One metric across the compared versions, in their order; null where one lacks it."""

    metric: str
    values: list[float | None]
    best: str | None = Field(description="The version with the best value; null on a tie")


class ModelComparison(View):
    models: list[str]
    metrics: list[MetricRow]
    differing_params: dict[str, list[Any]]
    same_signature: bool
    same_dataset: bool


class EvaluationSummary(View):
    """How a version did on a data set; model_evaluate with the same arguments tells the rest."""

    dataset: str
    target: str | None
    rows: int
    metrics: dict[str, float]
    job_id: str
    evaluated_by: str
    evaluated_at: str


class Lineage(View):
    """Where a version came from, how it did on data sets, and what was decided about it."""

    model: str
    job: dict[str, Any] | None
    dataset: dict[str, Any] | None
    evaluations: list[EvaluationSummary]
    promotions: list[Promotion]
    aliases: list[str]


class Deleted(View):
    deleted: list[str] = Field(description="References that are gone")
    restored: list[str] = Field(default=[], description="References that are back")
    note: str
