"""Fixtures for every test: the embedded adapters on a fresh folder, and a watch on the loop."""

import asyncio
import gc
import logging
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

import mcp_hub
from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.queue.database import DatabaseQueue

from . import servers
from .containers.images import PYTHON
from .engine import add_python, locked, shared_engine
from .loop_watch import LoopWatch
from .servers import Server
from .spawning import Processes


def pytest_collection_finish() -> None:
    # What the collection imported and made stays: no later collection of garbage need look at it.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def loop_watch() -> Iterator[LoopWatch]:
    # Read once a process: whichever test comes first is not to pay for it on its loop.
    assert mcp_hub.__version__
    with LoopWatch(Path(mcp_hub.__file__).parent).running() as watch:
        yield watch


@pytest.fixture(autouse=True)
def _loop_turns(loop_watch: LoopWatch) -> Iterator[None]:
    """Fail a test in which our code blocks the event loop."""
    loop_watch.blocked.clear()
    yield
    assert not loop_watch.blocked, "\n".join(loop_watch.blocked)


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """Take back the level of the hub's log, which commands set for their whole process."""
    hub = logging.getLogger("mcp_hub")
    level = hub.level
    yield
    hub.setLevel(level)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema, to copy: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "hub.db"

    async def migrate() -> None:
        database = SqliteDatabase(path)
        await database.upgrade()
        await database.close()

    asyncio.run(migrate())
    return path


@pytest.fixture
def sqlite_path(tmp_path: Path, sqlite_template: Path) -> Path:
    """The file of a database of the test's own, with the schema and nothing in it."""
    return Path(shutil.copy(sqlite_template, tmp_path / "hub.db"))


@pytest.fixture
async def database(sqlite_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(sqlite_path)
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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    # The user that PostgreSQL runs as where the tests run as root cannot enter pytest's folders.
    with TemporaryDirectory(prefix="mcp-hub-postgres-") as folder:
        server = servers.start_postgres(Path(folder))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = servers.start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = servers.start_s3(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mongodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = servers.start_mongodb(tmp_path_factory.mktemp("mongodb"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def engine_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Docker engine with the image TINY, which all tests share."""
    folder = tmp_path_factory.getbasetemp()
    # Each of pytest-xdist's workers has a folder below one of them all.
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with shared_engine(folder / "shared-engine") as url:
        yield url


@pytest.fixture(scope="session")
def python_image(engine_url: str) -> str:
    """The image that has Python, `mcp`, and the servers of `tests/containers/servers`."""
    with locked(Path(engine_url.removeprefix("unix://")).parent.parent):
        add_python(engine_url)
    return PYTHON


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Server) -> str:
    """The name of a database with the schema, to copy."""

    async def migrate() -> None:
        database = PostgresDatabase(servers.postgres_url(postgres_server, name))
        await database.upgrade()
        await database.close()

    name = "hub_template"
    asyncio.run(servers.run_sql(postgres_server.url, f"CREATE DATABASE {name}"))
    asyncio.run(migrate())
    return name


@pytest.fixture
def postgres_url(postgres_server: Server, postgres_template: str) -> Iterator[str]:
    """The URL of a database of the test's own, with the schema and nothing in it."""
    name = f"test_{uuid4().hex}"
    create = f"CREATE DATABASE {name} TEMPLATE {postgres_template}"
    asyncio.run(servers.run_sql(postgres_server.url, create))
    yield servers.postgres_url(postgres_server, name)
    asyncio.run(servers.run_sql(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)"))
