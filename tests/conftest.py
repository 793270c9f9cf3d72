"""Fixtures for every test: the embedded adapters on a fresh folder, and a watch on the loop."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import mcp_hub
from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.queue.database import DatabaseQueue

from .loop_watch import LoopWatch
from .spawning import Processes


@pytest.fixture(scope="session")
def loop_watch() -> Iterator[LoopWatch]:
    with LoopWatch(Path(mcp_hub.__file__).parent).running() as watch:
        yield watch


@pytest.fixture(autouse=True)
def _loop_turns(loop_watch: LoopWatch) -> Iterator[None]:
    """Fail a test in which our code blocks the event loop."""
    loop_watch.blocked.clear()
    yield
    assert not loop_watch.blocked, "\n".join(loop_watch.blocked)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.close()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "hub.db")
    await database.upgrade()
    yield database
    await database.close()


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path / "blobs")


@pytest.fixture
async def bus(database: SqliteDatabase) -> AsyncIterator[DatabaseBus]:
    bus = DatabaseBus(database)
    yield bus
    await bus.close()


@pytest.fixture
def queue(database: SqliteDatabase) -> DatabaseQueue:
    return DatabaseQueue(database, "jobs")
