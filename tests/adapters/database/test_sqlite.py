import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import OperationalError

from mcp_hub.adapters.database.schema import changes
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Unavailable
from tests.spawning import Processes, file_size_limit

from .contract import DatabaseContract

_ROW = {"topic": "x" * 500, "origin": "o", "created_at": 1}


class TestSqliteDatabase(DatabaseContract):
    @pytest.fixture
    def open_database(self, sqlite_path: Path) -> Callable[[], SqliteDatabase]:
        return partial(SqliteDatabase, sqlite_path)


async def test_processes_may_open_a_new_file_at_once(tmp_path: Path, processes: Processes) -> None:
    work = partial(_open_new_files, tmp_path, 25)
    assert await processes.run(work, work) == (["wal"] * 25, ["wal"] * 25)


async def test_makes_its_folder(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "a" / "ü b?mode=ro" / "hub.db")
    await database.upgrade()
    await database.close()
    assert (tmp_path / "a" / "ü b?mode=ro" / "hub.db").is_file()


async def test_closing_leaves_one_file(database: SqliteDatabase, tmp_path: Path) -> None:
    await database.write(_notice)
    await database.read(_count)
    await database.close()
    assert _files(tmp_path) == ["hub.db"]


async def test_a_read_cannot_write(database: SqliteDatabase) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await database.read(_notice)
    assert await database.read(_count) == 0


async def test_a_wrong_statement_is_not_unavailable(database: SqliteDatabase) -> None:
    with pytest.raises(OperationalError, match="no such table"):
        await database.read(lambda c: c.execute(text("SELECT * FROM elsewhere")).all())


async def test_a_folder_in_place_of_the_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open") as raised:
        await SqliteDatabase(tmp_path).upgrade()
    assert "MCP_HUB_DATA_DIR" in (raised.value.hint or "")


async def test_a_file_in_place_of_the_folder_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be made") as raised:
        await SqliteDatabase(tmp_path / "file" / "hub.db").check()
    assert str(tmp_path / "file" / "hub.db") in raised.value.message


async def test_a_file_that_is_no_database_is_unavailable_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    path.write_bytes(b"name,age\n" * 1000)
    with pytest.raises(Unavailable, match="not a database") as raised:
        await SqliteDatabase(path).upgrade()
    assert "backup" in (raised.value.hint or "")
    assert path.read_bytes() == b"name,age\n" * 1000


async def test_a_damaged_file_is_unavailable(database: SqliteDatabase, tmp_path: Path) -> None:
    await database.write(lambda c: c.execute(insert(changes), [_ROW] * 2000).close())
    await database.close()
    path = tmp_path / "hub.db"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    with pytest.raises(Unavailable, match="malformed"):
        await database.read(lambda c: c.execute(select(changes)).all())


async def test_a_lock_that_is_not_given_back_is_unavailable(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "hub.db", busy_timeout_s=0.05)
    await database.upgrade()
    holder = sqlite3.connect(tmp_path / "hub.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked") as raised:
        await database.write(_notice)
    assert "try again" in (raised.value.hint or "")
    assert await database.read(_count) == 0
    holder.close()
    await database.write(_notice)
    assert await database.read(_count) == 1
    await database.close()


async def test_a_full_database_is_unavailable_and_serves_on(database: SqliteDatabase) -> None:
    def fill(connection: Connection) -> None:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
        for _ in range(100):
            connection.execute(insert(changes).values(_ROW))

    with pytest.raises(Unavailable, match="full") as raised:
        await database.write(fill)
    assert "disk space" in (raised.value.hint or "")
    await database.write(_notice)
    assert await database.read(_count) == 1


async def test_a_file_that_may_not_grow_is_unavailable(
    database: SqliteDatabase, tmp_path: Path, processes: Processes
) -> None:
    work = partial(_outgrow, tmp_path / "hub.db")
    for message in await processes.run(work, work):
        assert "is unavailable" in message
    await database.write(_notice)
    assert await database.read(_count) == 1


def _notice(connection: Connection) -> None:
    connection.execute(insert(changes).values(topic="t", origin="o", created_at=1))


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(changes)).scalar_one()


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _size(path: Path) -> int:
    return path.stat().st_size


async def _open_new_files(folder: Path, files: int) -> list[str]:
    modes = []
    for number in range(files):
        database = SqliteDatabase(folder / str(number) / "hub.db")
        mode = await database.read(lambda c: c.execute(text("PRAGMA journal_mode")).scalar_one())
        modes.append(mode)
        await database.close()
    return modes


async def _outgrow(path: Path) -> str:
    """What is said to a process whose files may not grow further."""
    database = SqliteDatabase(path)
    await database.check()
    with file_size_limit(_size(path)):
        try:
            await database.write(lambda c: c.execute(insert(changes), [_ROW] * 20_000).close())
        except Unavailable as error:
            return error.message
        finally:
            await database.close()
    return "it was not refused"
