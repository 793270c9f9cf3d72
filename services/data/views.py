"""What the data tools return."""

from typing import Any, Literal

from pydantic import Field

from mcp_hub.services.views import View

ColumnKind = Literal["number", "boolean", "category", "text", "datetime", "constant", "identifier"]
"""What a column means to a model, inferred from its type and values."""


class ColumnSchema(View):
    name: str
    dtype: str = Field(description="The stored type, as polars names it")
    kind: ColumnKind


class DatasetView(View):
    """A version of a data set: immutable, content-hashed."""

    dataset: str = Field(description="name:version, a reference to exactly this content")
    id: str
    name: str
    version: int
    format: str
    rows: int
    bytes: int
    sha256: str
    source: str
    created_at: str
    columns: list[ColumnSchema]


class DatasetSummary(View):
    """A data set in a list; `version` is the newest."""

    name: str
    version: int
    rows: int
    columns: int
    format: str
    created_at: str


class ColumnProfile(View):
    """One column's statistics over all rows. Numbers get the quantiles, others the top values."""

    name: str
    dtype: str
    kind: ColumnKind
    missing: int
    missing_rate: float
    distinct: int
    mean: float | None = None
    std: float | None = None
    min: float | str | None = None
    p25: float | None = None
    median: float | None = None
    p75: float | None = None
    max: float | str | None = None
    top: dict[str, int] | None = Field(default=None, description="Most frequent values → rows")
    mean_length: float | None = Field(default=None, description="Text: mean characters per value")


class TargetProfile(View):
    """How a target column is distributed, and the job type that suits it."""

    column: str
    suggested_type: Literal["classification", "regression"]
    distribution: dict[str, float]
    note: str | None = None


class DataWarning(View):
    """Something about the data that usually spoils a model."""

    code: Literal[
        "duplicate_rows", "leakage", "constant", "identifier", "missing", "imbalance",
        "rare_class", "duplicate_columns", "few_rows",
    ]  # fmt: skip
    columns: list[str]
    message: str


class DatasetProfile(View):
    dataset: str
    rows: int
    columns: list[ColumnProfile]
    omitted_columns: int = 0
    target: TargetProfile | None = None
    warnings: list[DataWarning]


class DatasetPreview(View):
    """The first rows, as a table: the columns once, then a list a row. Long texts are cut."""

    dataset: str
    columns: list[str]
    rows: list[list[Any]]
    total_rows: int
    truncated: bool


class RuleResult(View):
    rule: str
    column: str | None
    passed: bool
    expected: Any
    actual: Any
    failing_rows: list[int] = Field(default=[], description="The first row numbers, from 0")


class DatasetValidation(View):
    dataset: str
    passed: bool
    results: list[RuleResult]
