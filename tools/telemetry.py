"""Telemetry: record it, and ask what happened."""

from typing import Annotated, Any

from pydantic import Field

from mcp_hub.services.telemetry.accepting import from_objects
from mcp_hub.services.telemetry.views import Recorded, RejectedRecord
from mcp_hub.tools.toolset import Toolset, tool


class TelemetryTools(Toolset):
    """The toolset `telemetry`: what goes in, and questions to what was recorded."""

    name = "telemetry"

    @tool(title="Record telemetry", idempotent=True)
    async def telemetry_record(
        self,
        records: Annotated[
            list[dict[str, Any]],
            Field(
                min_length=1,
                max_length=5000,
                description="Each {name, kind?, time?, service?, severity?, value?, unit?, body?, "
                "attributes?, duration_ms?, trace_id?, span_id?, parent_id?, id?}",
            ),
        ],
    ) -> Recorded:
        """Keep events, metrics, spans or logs. `kind` is event if left out; a metric needs a
        value, a span a duration. What varies goes into `attributes`, not into `name`. A record
        that is wrong is refused by its index and the others are kept; with an `id`, sending again
        changes nothing."""
        done = await (await self.hub()).telemetry.ingest.record(from_objects(records, "event"))
        return Recorded(
            accepted=done.accepted,
            repeated=done.repeated,
            rejected=[RejectedRecord(index=r.index, message=r.message) for r in done.rejected],
        )
