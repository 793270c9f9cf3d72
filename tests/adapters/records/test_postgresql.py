from collections.abc import AsyncIterator

import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.adapters.records.postgresql import PostgresRecordStore
from tests.adapters.records.contract import RecordsContract


class TestPostgresRecordStore(RecordsContract):
    @pytest.fixture
    async def database(self, postgres_url: str) -> AsyncIterator[Database]:
        database = PostgresDatabase(postgres_url)
        yield database
        await database.close()

    @pytest.fixture
    def store(self) -> RecordStore:
        return PostgresRecordStore()
