import re
from functools import partial
from pathlib import Path

import anyio
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from mcp_hub import migrations
from mcp_hub.adapters.database.schema import metadata
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Conflict
from tests.spawning import Processes


async def test_the_revisions_make_the_schema_that_the_queries_see(
    database: SqliteDatabase,
) -> None:
    assert await database.read(_differences) == []


async def test_the_revisions_say_the_same_as_the_schema(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    """What Alembic's comparison leaves out: AUTOINCREMENT, names, the order of key columns."""
    direct = SqliteDatabase(tmp_path / "direct.db")
    await direct.write(metadata.create_all)
    assert await database.read(_definitions) == await direct.read(_definitions)
    await direct.close()


def test_head_is_the_last_revision() -> None:
    script = ScriptDirectory.from_config(migrations.alembic_config())
    assert script.get_heads() == [migrations.HEAD]


async def test_upgrade_names_what_it_applied(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "hub.db")
    applied = await database.upgrade()
    assert applied[-1] == migrations.HEAD
    assert await database.upgrade() == []
    await database.close()


async def test_two_processes_upgrade_a_fresh_file_at_once(
    tmp_path: Path, processes: Processes
) -> None:
    for attempt in range(5):
        path = tmp_path / f"{attempt}.db"
        upgrade = partial(_upgrade, path)
        applied = await processes.run(upgrade, upgrade)
        assert sorted(map(len, applied)) == [0, max(map(len, applied))]
        database = SqliteDatabase(path)
        assert await database.read(_differences) == []
        await database.close()


async def test_two_databases_are_upgraded_at_once_in_one_process(tmp_path: Path) -> None:
    databases = [SqliteDatabase(tmp_path / f"{number}.db") for number in range(4)]
    async with anyio.create_task_group() as tasks:
        for database in databases:
            tasks.start_soon(database.upgrade)
    for database in databases:
        assert await database.read(_differences) == []
        await database.close()


async def test_a_newer_schema_is_refused_and_left_alone(database: SqliteDatabase) -> None:
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    await database.write(lambda c: c.execute(newer).close())
    with pytest.raises(Conflict, match="9999") as raised:
        await database.upgrade()
    assert migrations.HEAD in (raised.value.hint or "")
    assert await database.read(_version) == "9999"
    assert await database.read(_differences) == []


async def test_goes_down_and_up_again(database: SqliteDatabase) -> None:
    await database.write(lambda c: command.downgrade(migrations.alembic_config(c), "base"))
    assert await database.read(_tables) == {"alembic_version"}
    assert (await database.upgrade())[-1] == migrations.HEAD
    assert await database.read(_differences) == []


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "hub.db")
    # The last table of the first revision is in the way of its migration.
    await database.write(lambda c: c.execute(text("CREATE TABLE model_aliases (a)")).close())
    with pytest.raises(Exception, match="already exists"):
        await database.upgrade()
    assert await database.read(_tables) == {"model_aliases"}
    await database.close()


def test_the_schema_can_be_said_to_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        assert table.name in str(CreateTable(table).compile(dialect=dialect))


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True}
    )
    return list(compare_metadata(context, metadata))


def _definitions(connection: Connection) -> dict[str, list[str]]:
    """Each table's and index's definition, as lines in a fixed order.

    SQLite writes a column that was added later behind the last one, on the same line.
    """
    query = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {
        name: sorted(
            " ".join(line.split()).rstrip(",") for line in re.split(r"\n|, (?=\w+ [A-Z]+)", sql)
        )
        for name, sql in connection.execute(query)
        if name != "alembic_version"
    }


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def _version(connection: Connection) -> str:
    version: str = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    return version


async def _upgrade(path: Path) -> list[str]:
    database = SqliteDatabase(path)
    applied = await database.upgrade()
    await database.close()
    return applied
