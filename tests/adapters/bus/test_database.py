import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import asyncpg
import pytest
from sqlalchemy import Connection, insert, select

from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.schema import changes
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Unavailable
from tests.adapters.bus.contract import BusContract, OpenBus
from tests.waiting import eventually


@asynccontextmanager
async def open_on(
    open_database: Callable[[], SqliteDatabase | PostgresDatabase],
) -> AsyncIterator[DatabaseBus]:
    database = open_database()
    await database.upgrade()
    bus = DatabaseBus(database, poll_s=0.02)
    yield bus
    await bus.close()
    await database.close()


class TestDatabaseBusOnSqlite(BusContract):
    @pytest.fixture
    def open_bus(self, sqlite_path: Path) -> OpenBus:
        return partial(open_on, partial(SqliteDatabase, sqlite_path))


class TestDatabaseBusOnPostgres(BusContract):
    @pytest.fixture
    def open_bus(self, postgres_url: str) -> OpenBus:
        return partial(open_on, partial(PostgresDatabase, postgres_url))


def _pollers() -> list[asyncio.Task[None]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "mcp-hub bus"]


async def test_polls_only_while_somebody_listens(bus: DatabaseBus) -> None:
    await bus.publish("t")
    assert len(_pollers()) == 0
    async with bus.subscribe():
        async with bus.subscribe():
            assert len(_pollers()) == 1
        assert len(_pollers()) == 1
    assert len(_pollers()) == 0
    async with bus.subscribe():
        await bus.close()
        assert len(_pollers()) == 0


async def test_a_subscription_outlives_the_request_that_began_polling(
    bus: DatabaseBus, database: SqliteDatabase
) -> None:
    begun = anyio.Event()

    async def request() -> None:
        async with bus.subscribe():
            begun.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        await begun.wait()
        async with bus.subscribe() as notices:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.fail_after(10):
                await DatabaseBus(database).publish("after the request")
                assert await notices.receive() == "after the request"


async def test_forgets_old_notices(database: SqliteDatabase) -> None:
    def age(connection: Connection) -> None:
        for topic, hours in [("new", 0), ("old", 2)]:
            created_at = now_ms() - hours * 3_600_000
            connection.execute(
                insert(changes).values(topic=topic, origin="", created_at=created_at)
            )

    await database.write(age)
    await DatabaseBus(database).publish("newest")
    topics = select(changes.c.topic).order_by(changes.c.id)
    assert await database.read(lambda c: c.execute(topics).scalars().all()) == ["new", "newest"]


async def test_polling_survives_an_outage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, away = tmp_path / "data", tmp_path / "away"
    database = SqliteDatabase(folder / "hub.db")
    await database.upgrade()
    bus = DatabaseBus(database, poll_s=0.01)
    async with bus.subscribe() as notices:
        folder.rename(away)
        folder.touch()
        await database.close()
        await eventually(lambda: "Notices of other processes are late" in caplog.text)
        folder.unlink()
        away.rename(folder)
        other = SqliteDatabase(folder / "hub.db")
        await DatabaseBus(other).publish("after the outage")
        with anyio.fail_after(10):
            assert await notices.receive() == "after the outage"
        await other.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    await bus.close()
    await database.close()


async def test_a_notice_that_cannot_be_sent_is_told_here_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = SqliteDatabase(tmp_path / "hub.db", busy_timeout_s=0.05)
    await database.upgrade()
    bus = DatabaseBus(database)
    holder = sqlite3.connect(tmp_path / "hub.db", isolation_level=None)
    async with bus.subscribe() as notices:
        holder.execute("BEGIN IMMEDIATE")
        await bus.publish("models://iris")
        assert notices.receive_nowait() == "models://iris"
    assert "models://iris" in caplog.text
    holder.close()
    await bus.close()
    await database.close()


async def test_subscribing_to_a_database_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bus = DatabaseBus(SqliteDatabase(tmp_path / "file" / "hub.db"))
    with pytest.raises(Unavailable):
        async with bus.subscribe():
            pass
    assert _pollers() == []


async def test_a_notice_that_commits_after_a_later_one_is_told(postgres_url: str) -> None:
    slow = await asyncpg.connect(postgres_url)
    async with open_on(partial(PostgresDatabase, postgres_url)) as bus, bus.subscribe() as notices:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("INSERT INTO changes (topic, origin, created_at) VALUES ('a', 'o', 0)")
        async with open_on(partial(PostgresDatabase, postgres_url)) as other:
            await other.publish("b")
        with anyio.fail_after(10):
            assert await notices.receive() == "b"
            await transaction.commit()
            assert await notices.receive() == "a"
    await slow.close()
