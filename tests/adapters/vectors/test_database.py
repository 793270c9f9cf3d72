from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.vectors.database import DatabaseVectors
from tests.adapters.vectors.contract import (
    OpenVectors,
    SharedVectorsContract,
    found,
    random_rows,
    rows,
)
from tests.servers import Server


@asynccontextmanager
async def open_on_sqlite(path: Path) -> AsyncIterator[DatabaseVectors]:
    database = SqliteDatabase(path)
    await database.upgrade()
    yield DatabaseVectors(database, "texts")
    await database.close()


@asynccontextmanager
async def open_on_postgres(url: str, collection: str) -> AsyncIterator[DatabaseVectors]:
    database = PostgresDatabase(url)
    await database.upgrade()
    yield DatabaseVectors(database, collection)
    await database.close()


class TestDatabaseVectorsOnSqlite(SharedVectorsContract):
    @pytest.fixture
    def open_vectors(self, sqlite_path: Path) -> OpenVectors:
        return partial(open_on_sqlite, sqlite_path)


class TestDatabaseVectorsOnPostgres(SharedVectorsContract):
    @pytest.fixture
    def open_vectors(self, postgres_server: Server) -> OpenVectors:
        return partial(open_on_postgres, postgres_server.url, f"texts {uuid4()}")


async def test_collections_are_apart(database: SqliteDatabase) -> None:
    two, three = DatabaseVectors(database, "two"), DatabaseVectors(database, "three")
    await two.upsert(["a", "b"], random_rows(2, 2))
    await three.upsert(["a"], random_rows(1, 3))
    await two.delete(["a"])
    assert (await two.count(), await three.count()) == (1, 1)
    assert [hit.id for hit in await three.search(random_rows(1, 3)[0])] == ["a"]


async def test_a_search_reads_only_what_was_written_since(database: SqliteDatabase) -> None:
    """What the database holds is broken behind the snapshot: only rows that are read show it."""
    writer, reader = DatabaseVectors(database, "texts"), DatabaseVectors(database, "texts")
    await writer.upsert(["a", "b"], rows([1, 0], [0, 1]))
    assert await found(reader) == {"a", "b"}
    await database.write(lambda c: c.exec_driver_sql("DELETE FROM vectors WHERE id = 'a'").close())
    await writer.upsert(["c"], rows([1, 1]))
    assert await found(reader) == {"a", "b", "c"}
    await writer.delete(["b"])
    assert await found(reader) == {"c"}
