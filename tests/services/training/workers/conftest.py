"""Either database; and a queue that other programs share, as BullMQ's own library sees it."""

from collections.abc import AsyncIterator
from pathlib import Path

import bullmq
import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.queue.bullmq import BullQueue
from tests.servers import Server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


@pytest.fixture
async def either_database(database_url: str | None, sqlite_path: Path) -> AsyncIterator[Database]:
    database = PostgresDatabase(database_url) if database_url else SqliteDatabase(sqlite_path)
    yield database
    await database.close()


@pytest.fixture
def queue_name() -> str:
    return new_id("queue")


@pytest.fixture
async def shared(redis_server: Server, queue_name: str) -> AsyncIterator[BullQueue]:
    queue = BullQueue(redis_server.url, queue_name)
    yield queue
    await queue.close()


@pytest.fixture
async def bull(redis_server: Server, queue_name: str) -> AsyncIterator[bullmq.Queue]:
    bull = bullmq.Queue(queue_name, {"connection": redis_server.url})
    yield bull
    await bull.close()


@pytest.fixture
async def outside(redis_server: Server, queue_name: str) -> AsyncIterator[bullmq.Worker]:
    """A worker that is no hub's, and takes jobs when it is told to."""
    worker = bullmq.Worker(queue_name, None, {"connection": redis_server.url})
    yield worker
    await worker.close(force=True)
