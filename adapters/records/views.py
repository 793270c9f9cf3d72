"""What `telemetry_sql` reads: a few views with readable names, ids, times and severities."""

from dataclasses import dataclass

from mcp_hub.adapters.database.port import Dialect


@dataclass(frozen=True, slots=True)
class Column:
    """A view's column: what it says, and the expression that gives it on each database."""

    name: str
    says: str
    sqlite: str
    postgresql: str = ""
    """Where it differs from SQLite's."""


@dataclass(frozen=True, slots=True)
class SqlView:
    name: str
    says: str
    columns: tuple[Column, ...]
    source: str
    """What follows FROM."""

    def select(self, dialect: Dialect) -> str:
        """The SELECT that the view stands for."""
        columns = ", ".join(
            f'{(dialect == "postgresql" and one.postgresql) or one.sqlite} AS "{one.name}"'
            for one in self.columns
        )
        return f"SELECT {columns} FROM {self.source}"


def _hex(column: str) -> tuple[str, str]:
    return f"lower(hex({column}))", f"encode({column}, 'hex')"


def _id(column: str, name: str, says: str) -> Column:
    sqlite, postgresql = _hex(column)
    return Column(name, says, f"CASE WHEN {column} IS NULL THEN NULL ELSE {sqlite} END", postgresql)


def _iso(nanoseconds: str, name: str, says: str) -> Column:
    return Column(
        name,
        says,
        f"strftime('%Y-%m-%dT%H:%M:%fZ', {nanoseconds} / 1000000000.0, 'unixepoch')",
        f"to_char(to_timestamp({nanoseconds} / 1000000000.0) AT TIME ZONE 'UTC', "
        '\'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\')',
    )


def _severity(column: str) -> Column:
    names = " ".join(
        f"WHEN {(place + 1) * 4} THEN '{name}'"
        for place, name in enumerate(("trace", "debug", "info", "warn", "error", "fatal"))
    )
    return Column(
        "severity", "trace, debug, info, warn, error or fatal",
        f"CASE ({column} + 3) / 4 * 4 {names} END",
    )  # fmt: skip


_SERIES = (
    Column("kind", "event, metric, span or log", "s.kind"),
    Column("name", "name", "s.name"),
    Column("service", "service", "s.service"),
)
_MINUTE_NS = "r.minute * 60000000000"
_MEASURE_MS = "CASE WHEN s.kind = 'span' THEN {} / 1000000.0 ELSE {} END"


def _measure(name: str, says: str) -> Column:
    whole = f'{name}(r."{name}")'
    return Column(name, says, _MEASURE_MS.format(whole, whole))


VIEWS = (
    SqlView(
        "records",
        "every record",
        (
            Column("time_ns", "nanoseconds since 1970: filter by it, it has the index", "r.time"),
            _iso("r.time", "time", "ISO 8601, UTC"),
            *_SERIES,
            _severity("r.severity"),
            Column("severity_number", "1 to 24; error is 17 to 20", "r.severity"),
            Column("duration_ms", "a span's", "r.duration_ns / 1000000.0"),
            Column("value", "a metric's", "r.value"),
            Column("unit", "unit", "r.unit"),
            Column("body", "a log's text", "r.body"),
            Column("attributes", "JSON object", "r.attributes"),
            Column("resource", "JSON object: what produced it", "o.attributes"),
            _id("r.trace_id", "trace_id", "hex"),
            _id("r.span_id", "span_id", "hex"),
            _id("r.parent_id", "parent_id", "hex"),
            _id("r.id", "id", "hex"),
            Column("pattern", "of patterns", "r.pattern"),
        ),
        "telemetry_records r JOIN telemetry_series s ON s.series = r.series "
        "LEFT JOIN telemetry_resources o ON o.resource = r.resource",
    ),
    SqlView(
        "rollups",
        "counts and measures by minute: fast",
        (
            Column("minute_ns", "the minute's begin, nanoseconds since 1970", _MINUTE_NS),
            _iso(_MINUTE_NS, "minute", "ISO 8601, UTC"),
            *_SERIES,
            Column("count", "records", "sum(r.count)"),
            Column("errors", "those of severity error and above", "sum(r.errors)"),
            Column("measured", "those with a measure: a span's ms, else value", "sum(r.measured)"),
            _measure("sum", "of the measures"),
            _measure("min", "of the measures"),
            _measure("max", "of the measures"),
        ),
        "telemetry_rollups r JOIN telemetry_series s ON s.series = r.series "
        "GROUP BY r.minute, s.kind, s.name, s.service",
    ),
    SqlView(
        "patterns",
        "texts of bodies with what varies masked",
        (
            Column("pattern", "number", "p.pattern"),
            *_SERIES,
            Column("template", "masked text", "p.mask"),
            Column("example", "the first body", "p.example"),
            _severity("p.severity"),
            Column("first_time_ns", "nanoseconds since 1970", "p.first_time"),
            _iso("p.first_time", "first_time", "ISO 8601, UTC"),
        ),
        "telemetry_patterns p JOIN telemetry_series s ON s.series = p.series",
    ),
    SqlView(
        "pattern_counts",
        "records of each pattern by minute",
        (
            Column("minute_ns", "the minute's begin, nanoseconds since 1970", _MINUTE_NS),
            Column("pattern", "of patterns", "r.pattern"),
            Column("count", "records", "sum(r.count)"),
        ),
        "telemetry_pattern_counts r GROUP BY r.minute, r.pattern",
    ),
    SqlView(
        "attributes",
        "the keys that attributes have",
        (
            *_SERIES,
            Column("key", "key; resource.… for resources", "a.key"),
            Column("types", "JSON types seen", "a.types"),
            Column("examples", "JSON list of values", "a.examples"),
        ),
        "telemetry_attributes a JOIN telemetry_series s ON s.series = a.series",
    ),
)
TABLES = (
    "telemetry_records",
    "telemetry_series",
    "telemetry_resources",
    "telemetry_rollups",
    "telemetry_patterns",
    "telemetry_pattern_counts",
    "telemetry_attributes",
)
"""What the views read."""

VIEW_NAMES = tuple(view.name for view in VIEWS)
COLUMN_NAMES = tuple(dict.fromkeys(column.name for view in VIEWS for column in view.columns))
