"""What the telemetry tools return."""

from typing import Any

from pydantic import Field

from mcp_hub.services.views import View


class RejectedRecord(View):
    index: int = Field(description="Its place in what was sent, from 0")
    message: str


class Recorded(View):
    accepted: int = Field(description="Committed now")
    repeated: int = Field(description="Committed before: the same id and time")
    rejected: list[RejectedRecord]
    rejected_count: int | None = Field(None, description="Of all, where only the first are shown")


class Table(View):
    """Rows under their columns' names, which stand there once."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool = Field(description="Whether there are more rows than these")
    next_cursor: str | None = None
    note: str | None = None


class Findings(View):
    """The best of what was found, best first, as rows under their columns' names."""

    columns: list[str]
    rows: list[list[Any]]
    note: str | None = None


class SearchResult(Table):
    same: dict[str, Any] | None = Field(
        default=None, description="Columns that are the same in every row, said once"
    )


class TraceView(View):
    trace_id: str
    time: str
    duration_ms: float
    spans: int
    others: int = Field(description="Logs, events and metrics of the trace")
    errors: int
    services: dict[str, int] = Field(description="Spans of each")
    columns: list[str]
    rows: list[list[Any]] = Field(description="The tree, each row before those below it")
    truncated: bool
    note: str | None


class FieldsView(Table):
    series: list[list[Any]] | None = Field(
        default=None, description="Of one name: kind, service, count_24h, unit"
    )


class SqlResult(View):
    columns: list[str]
    rows: list[list[Any]]
    truncated: bool
    note: str | None


class TelemetrySchema(View):
    dialect: str = Field(description="The SQL that telemetry_sql takes: SQLite's or PostgreSQL's")
    views: dict[str, dict[str, str]] = Field(description="What each is (under ''), and its columns")
    examples: list[str]
    where: str
    fields: dict[str, str]
    operators: list[str]
    limits: str
