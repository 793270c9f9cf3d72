from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from tests.adapters.records.contract import RecordsContract


class TestSqliteRecordStore(RecordsContract):
    @pytest.fixture
    async def database(self, sqlite_path: Path) -> AsyncIterator[Database]:
        database = SqliteDatabase(sqlite_path)
        yield database
        await database.close()

    @pytest.fixture
    def store(self) -> RecordStore:
        return SqliteRecordStore()
