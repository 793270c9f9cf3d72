"""Telemetry to ask questions of."""

import time
from typing import Any

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.records.postgresql import PostgresRecordStore
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.envelope import Kind
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.views import Table
from mcp_hub.services.telemetry.windows import Window

MINUTE = 60 * 10**9
NOW = time.time_ns() // MINUTE * MINUTE
HOUR = Window(NOW - 60 * MINUTE, NOW)


class Recorded:
    """A database, and what brings records into it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        store = SqliteRecordStore() if database.dialect == "sqlite" else PostgresRecordStore()
        self.ingest = Ingest(database, store)

    async def add(self, *records: dict[str, Any], kind: Kind = "event") -> None:
        done = await self.ingest.record(from_objects(records, kind))
        assert done.accepted == len(records), done.rejected

    async def logs(
        self, minutes_ago: float, *bodies: str, service: str = "auth", **more: Any
    ) -> None:
        """A log record of each body, so long before NOW."""
        time_ns = NOW - round(minutes_ago * MINUTE)
        record = {"name": "log", "time": time_ns, "service": service, **more}
        await self.add(*({**record, "body": body} for body in bodies), kind="log")


def rows(table: Table) -> list[dict[str, Any]]:
    """A table's rows by their columns' names."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]
