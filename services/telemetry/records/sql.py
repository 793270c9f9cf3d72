"""`telemetry_sql`: one SELECT over views of what was recorded."""

from mcp_hub.adapters.database.port import Dialect
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.records.sandbox import Limits, Sandbox
from mcp_hub.adapters.records.views import VIEWS
from mcp_hub.services.telemetry.filtering.filters import FIELDS, OPS
from mcp_hub.services.telemetry.views import SqlResult, TelemetrySchema

TIMEOUT_S = 10.0
MAX_ROWS = 1_000

_UNASKED = Limits(rows=100, characters=14_000, cell=1_000, timeout_s=TIMEOUT_S)
_CHARACTERS_ASKED = 150_000
_CELL_ASKED = 70_000

_EXAMPLES = {
    "sqlite": [
        "SELECT service, count(*) AS n, avg(duration_ms) FROM records WHERE kind = 'span' AND "
        "time_ns > (unixepoch() - 3600) * 1000000000 GROUP BY service ORDER BY n DESC",
        "SELECT attributes->>'http.route' AS route, count(*) FROM records WHERE "
        "attributes->>'status' >= 500 GROUP BY 1",
        "SELECT minute, sum(errors) FROM rollups WHERE service = 'api' AND minute > "
        "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day') GROUP BY minute",
        "SELECT j.key, count(*) FROM records r, json_each(r.attributes) j GROUP BY 1",
    ],
    "postgresql": [
        "SELECT service, count(*) AS n, percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) "
        "FROM records WHERE kind = 'span' AND time_ns > (extract(epoch FROM now()) - 3600) * 1e9 "
        "GROUP BY service ORDER BY n DESC",
        "SELECT attributes->>'http.route' AS route, count(*) FROM records WHERE "
        "(attributes->>'status')::int >= 500 GROUP BY 1",
        "SELECT minute, sum(errors) FROM rollups WHERE service = 'api' GROUP BY minute",
        "SELECT key, count(*) FROM records, jsonb_each(attributes) GROUP BY 1",
    ],
}
_WHERE = (
    '{"field": value} or {"field": {op: value, …}}; all must hold. A field is one of `fields`, an '
    "attribute's key (attributes.key where it has the name of a field), or resource.key. What is "
    "missing or null fits only ne, not_in and exists: false. Values compare within their type: "
    "the text 5 is not the number 5. A severity's name stands for its four numbers."
)


class Sql:
    """SELECTs of an agent's own, within limits."""

    def __init__(self, sandbox: Sandbox, dialect: Dialect) -> None:
        self._sandbox = sandbox
        self._dialect = dialect

    async def select(self, sql: str, limit: int | None = None) -> SqlResult:
        """The rows of a SELECT; with a `limit`, that many and longer texts. Raises as `Sandbox`."""
        limits = _UNASKED
        if limit is not None:
            if not 1 <= limit <= MAX_ROWS:
                raise InvalidArgument(f"limit is {limit}; it must be from 1 to {MAX_ROWS:,}.")
            limits = Limits(limit, _CHARACTERS_ASKED, _CELL_ASKED, TIMEOUT_S)
        found = await self._sandbox.select(sql, limits)
        notes = []
        if found.ended:
            notes.append(
                f"Only the first {len(found.rows):,} rows: aggregate, add LIMIT and OFFSET, or "
                f"give limit (at most {MAX_ROWS:,})."
            )
        if found.cut:
            notes.append("Long texts are cut: use substr, or give limit.")
        return SqlResult(
            columns=found.columns,
            rows=found.rows,
            truncated=found.ended is not None,
            note=" ".join(notes) or None,
        )

    def schema(self) -> TelemetrySchema:
        """What `where` and SELECTs may name."""
        return TelemetrySchema(
            dialect=self._dialect,
            views={
                view.name: {"": view.says, **{one.name: one.says for one in view.columns}}
                for view in VIEWS
            },
            examples=_EXAMPLES[self._dialect],
            where=_WHERE,
            fields=FIELDS,
            operators=list(OPS),
            limits=(
                f"One SELECT or WITH … SELECT; {TIMEOUT_S:g} s; {_UNASKED.rows} rows unless limit "
                "is given. Percentiles of many records, and groups by time: telemetry_aggregate."
            ),
        )
