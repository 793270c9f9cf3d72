"""A telemetry store on each database."""

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.records.postgresql import PostgresRecordStore
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.intake.ingest import Ingest


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request: pytest.FixtureRequest) -> Callable[[], Database]:
    if request.param == "sqlite":
        return partial(SqliteDatabase, request.getfixturevalue("sqlite_path"))
    return partial(PostgresDatabase, request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(open_store: Callable[[], Database]) -> AsyncIterator[Database]:
    """Each database in turn, with the schema and nothing in it."""
    database = open_store()
    await database.upgrade()
    yield database
    await database.close()


@pytest.fixture
def ingest(store: Database) -> Ingest:
    sqlite = store.dialect == "sqlite"
    return Ingest(store, SqliteRecordStore() if sqlite else PostgresRecordStore())
