"""What is remembered of a database, whoever changes it meanwhile."""

from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.remembering import Remembered
from mcp_hub.adapters.database.schema import models
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from tests.spawning import Processes


class Reads:
    """Reads a model's newest version, and counts how often."""

    def __init__(self, database: Database, most: int = 8) -> None:
        self.count = 0
        self._remembered: Remembered[int | None] = Remembered(database, most)

    async def __call__(self, name: str = "iris") -> int | None:
        def work(connection: Connection) -> int | None:
            self.count += 1
            return _version(connection, name)

        return await self._remembered.read(name, work)


async def test_it_is_read_once_as_long_as_nothing_is_committed(database: SqliteDatabase) -> None:
    await database.write(_add)
    reads = Reads(database)
    assert [await reads() for _ in range(5)] == [0] * 5
    assert reads.count == 1


async def test_a_rolled_back_change_is_none(database: SqliteDatabase) -> None:
    await database.write(_add)
    reads = Reads(database)
    assert await reads() == 0

    def fail(connection: Connection) -> None:
        _set(1, connection)
        raise KeyError

    with pytest.raises(KeyError):
        await database.write(fail)
    assert await reads() == 0
    assert reads.count == 1


async def test_another_process_is_seen_at_once(
    database: SqliteDatabase, tmp_path: Path, processes: Processes
) -> None:
    await database.write(_add)
    reads = Reads(database)
    assert await reads() == 0
    count = partial(_count_up, tmp_path / "hub.db", 20)
    await processes.run(count, count)
    assert await reads() == 40
    assert reads.count == 2


async def test_a_commit_during_a_read_is_not_missed(database: SqliteDatabase) -> None:
    await database.write(_add)
    remembered: Remembered[int | None] = Remembered(database)

    def read(connection: Connection) -> int | None:
        found = _version(connection, "iris")
        driver = database._connect(())
        driver.execute("UPDATE models SET last_version = 7")
        driver.close()
        return found

    assert await remembered.read("iris", read) == 0
    assert await remembered.read("iris", lambda c: _version(c, "iris")) == 7


async def test_it_outlives_the_log(database: SqliteDatabase) -> None:
    await database.write(_add)
    reads = Reads(database)
    assert await reads() == 0
    # So many commits that the log is moved into the file, and begun anew.
    for number in range(1, 200):
        await database.write(partial(_set, number))
    assert await reads() == 199


async def test_only_so_much_is_kept(database: SqliteDatabase) -> None:
    reads = Reads(database, most=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        assert await reads(name) is None
    assert reads.count == 5


def _add(connection: Connection) -> None:
    connection.execute(insert(models).values(name="iris", last_version=0, created_at=now_ms()))


def _set(number: int, connection: Connection) -> None:
    connection.execute(update(models).values(last_version=number))


def _version(connection: Connection, name: str) -> int | None:
    return connection.scalar(select(models.c.last_version).where(models.c.name == name))


async def _count_up(path: Path, times: int) -> None:
    database = SqliteDatabase(path)
    up = update(models).values(last_version=models.c.last_version + 1)
    for _ in range(times):
        await database.write(lambda c: c.execute(up).close())
    await database.close()
