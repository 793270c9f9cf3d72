"""A process that writes telemetry from a stream, to be killed."""

from pathlib import Path

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.adapters.stream.redis import RedisStream
from mcp_hub.services.telemetry.intake.streaming import StreamedIngest


async def consume(path: str, url: str, prefix: str) -> None:
    """Write what is on the stream of Redis at `url` into the SQLite file at `path`."""
    stream = RedisStream(url, "telemetry", prefix)
    await StreamedIngest(SqliteDatabase(Path(path)), SqliteRecordStore(), stream).consume()
