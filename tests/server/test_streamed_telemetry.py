"""A whole hub that takes telemetry by way of Redis."""

from pathlib import Path

import pytest

from mcp_hub.server.composition import open_hub
from mcp_hub.server.settings import Settings
from mcp_hub.services.telemetry.intake.accepting import from_objects
from tests import servers
from tests.waiting import eventually


async def test_accepted_on_the_stream_and_found_soon(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = servers.start_redis(tmp_path_factory.mktemp("redis"))
    try:
        settings = Settings(
            data_dir=tmp_path,
            roots=[tmp_path],
            redis_url=server.url,
            telemetry={"ingest": "stream"},  # type: ignore[arg-type]
        )
        async with open_hub(settings) as hub:
            done = await hub.telemetry.ingest.record(from_objects([{"name": "paid"}], "event"))
            assert done.accepted == 1

            async def is_found() -> bool:
                return bool((await hub.telemetry.searching.search()).rows)

            async def is_written() -> bool:
                detail = (await hub.health.check()).adapters["stream"].detail
                return detail == "0 entries wait, 0 are being written"

            await eventually(is_found)
            await eventually(is_written)
    finally:
        server.stop()
