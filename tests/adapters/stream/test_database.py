from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.stream.database import DatabaseStream
from tests.adapters.stream.contract import OpenStream, StreamContract


@asynccontextmanager
async def open_on_sqlite(path: Path) -> AsyncIterator[DatabaseStream]:
    database = SqliteDatabase(path)
    await database.upgrade()
    yield DatabaseStream(database, "events")
    await database.close()


class TestDatabaseStreamOnSqlite(StreamContract):
    @pytest.fixture
    def open_stream(self, sqlite_path: Path) -> OpenStream:
        return partial(open_on_sqlite, sqlite_path)
