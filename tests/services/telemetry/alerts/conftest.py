"""An evaluator over each database, a real Alertmanager, and who gets a webhook."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.port import Database
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest
from tests import servers
from tests.receiving import Receiver, receiving
from tests.servers import Server


@pytest.fixture(scope="session")
def alertmanager_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = servers.start_alertmanager(Path(tmp_path_factory.mktemp("alertmanager")))
    yield server
    server.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def bus(store: Database) -> AsyncIterator[DatabaseBus]:
    bus = DatabaseBus(store)
    yield bus
    await bus.close()


async def load(ingest: Ingest, value: float, **more: Any) -> None:
    """A metric of now."""
    record = {"name": "load", "service": "api", "value": value, "time": time.time_ns()} | more
    await ingest.record(from_objects([record], "metric"))
