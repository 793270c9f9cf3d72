"""What the data tools return."""

from typing import Any, Literal

from pydantic import Field

from mcp_hub.services.views import Error, View

_NAMES_SHOWN = 20

ColumnKind = Literal["number", "boolean", "category", "text", "datetime", "constant", "identifier"]
"""What a column means to a model, inferred from its type and values."""


class ColumnSchema(View):
    name: str
    dtype: str = Field(description="The stored type, as polars names it")
    kind: ColumnKind


class StreamView(View):
    """How a data set grows with its source."""

    status: Literal["growing", "stopped", "failed"]
    interval_s: float
    batch_rows: int
    keep_versions: int
    checked_at: str = Field(description="When new rows were last looked for")
    error: Error | None = Field(default=None, description="Why the last look failed")


class DatasetView(View):
    """A version of a data set: immutable, content-hashed."""

    dataset: str = Field(description="name:version, a reference to exactly this content")
    id: str
    name: str
    version: int
    format: str
    options: dict[str, Any] = Field(description="How the file is read: given and found options")
    rows: int
    bytes: int
    sha256: str
    source: str = Field(description='The file or NAME:ITEM that was registered, or "inline"')
    created_at: str
    columns: list[ColumnSchema]
    omitted_columns: int = Field(default=0, description="Further columns, left out here")
    stream: StreamView | None = Field(default=None, description="Of a data set that grows")
    warnings: list[str] = Field(default=[], description="What may be misread; on registering")

    def summary(self) -> "DatasetSummary":
        """What a list says of it."""
        return DatasetSummary(
            name=self.name,
            version=self.version,
            rows=self.rows,
            columns=len(self.columns),
            format=self.format,
            created_at=self.created_at,
            stream=self.stream,
        )


class DatasetSummary(View):
    """A data set in short; `version` is the newest."""

    name: str
    version: int
    rows: int
    columns: int
    format: str
    created_at: str
    stream: StreamView | None = Field(default=None, description="Of a data set that grows")


class DatasetDeletion(View):
    """What was deleted of a data set."""

    deleted: list[str] = Field(description="Versions that are gone")
    omitted: int = Field(default=0, description="Further ones, left out here")
    note: str


class ColumnProfile(View):
    """One column's statistics over all rows. Numbers get the quantiles, others the top values."""

    name: str
    dtype: str
    kind: ColumnKind
    missing: int
    missing_rate: float
    distinct: int
    mean: float | None = None
    std: float | None = Field(default=None, description="Sample standard deviation")
    min: int | float | str | None = None
    p25: float | None = None
    median: float | None = None
    p75: float | None = None
    max: int | float | str | None = None
    top: dict[str, int] | None = Field(default=None, description="Most frequent values → rows")
    mean_length: float | None = Field(default=None, description="Text: mean characters per value")


class TargetProfile(View):
    """How a target column is distributed, and the job type that suits it."""

    column: str
    suggested_type: Literal["classification", "regression"]
    distribution: dict[str, int | float] = Field(
        description="Classification: class → rows, most frequent first; regression: statistics"
    )
    note: str | None = None


class DataWarning(View):
    """Something about the data that usually spoils a model."""

    code: Literal[
        "duplicate_rows", "leakage", "constant", "identifier", "missing", "imbalance",
        "rare_class", "duplicate_columns", "few_rows", "infinite", "numbers_as_text",
        "mostly_numbers", "leading_zeros", "date_order",
    ]  # fmt: skip
    columns: list[str]
    message: str

    @classmethod
    def about(cls, code: str, columns: list[str], message: str) -> "DataWarning":
        """A warning that names at most 20 of its columns, and says so where there are more."""
        if len(columns) > _NAMES_SHOWN:
            message += f" {len(columns)} columns, of which {_NAMES_SHOWN} are named."
        return cls.model_validate(
            {"code": code, "columns": columns[:_NAMES_SHOWN], "message": message}
        )

    def __str__(self) -> str:
        return f"{self.code} ({', '.join(self.columns)}): {self.message}"


class DatasetProfile(View):
    """What a data set holds and what may spoil a model, from all of its rows."""

    dataset: str
    rows: int
    columns: list[ColumnProfile]
    omitted_columns: int = Field(default=0, description="Further columns, left out here")
    target: TargetProfile | None = None
    warnings: list[DataWarning]


class DatasetPreview(View):
    """The first rows, as a table: the columns once, then a list a row. Long texts are cut."""

    dataset: str
    columns: list[str]
    rows: list[list[Any]]
    total_rows: int
    truncated: bool = Field(description="True where cells were cut, or fewer rows fit than asked")
    omitted_columns: int = Field(default=0, description="Further columns, left out here")


class RuleResult(View):
    """One check of one rule. `actual` is what was found: the extreme value, the values that are
    not allowed, the rate, the count, or for drift each column's index, the largest first."""

    rule: str
    column: str | None
    passed: bool
    expected: Any
    actual: Any
    failing: int = Field(default=0, description="How many rows fail")
    failing_rows: list[int] = Field(default=[], description="The first row numbers, from 0")
    note: str | None = Field(default=None, description="Columns that drift leaves out here")


class DatasetValidation(View):
    """The checks, failed ones first."""

    dataset: str
    passed: bool
    results: list[RuleResult]
    omitted_results: int = Field(default=0, description="Further checks, left out here")
