"""`mcp-hub migrate` up and down, on both databases: what is kept, lost, refused and recovered."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, insert, inspect, select, text

from mcp_hub import migrations
from mcp_hub.adapters.database import migrating
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import metadata, models, vector_collections, vectors, workers
from mcp_hub.adapters.errors import Conflict, NotFound
from mcp_hub.server.adapters import choose_database
from mcp_hub.server.composition import open_hub
from mcp_hub.server.migrating import migrate, plan_migration
from mcp_hub.server.settings import Settings
from tests import servers
from tests.servers import Server, run_sql
from tests.spawning import Processes, killed_process
from tests.waiting import eventually

T = TypeVar("T")

HEAD, REVISIONS = migrations.HEAD, list(migrations.REVISIONS)

COLLECTION = {"name": "c", "dimensions": 1, "version": 1, "deletion_version": 0}
VECTOR = {"collection": "c", "id": "v", "version": 1, "vector": bytes(4), "payload": {"é": "✓"}}


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """The settings of a hub whose database is empty."""
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path / "data", roots=[tmp_path])
        return
    server: Server = request.getfixturevalue("postgres_server")
    name = f"migrate_{uuid4().hex}"
    asyncio.run(run_sql(server.url, f"CREATE DATABASE {name}"))
    url = servers.postgres_url(server, name)
    yield Settings(data_dir=tmp_path / "data", roots=[tmp_path], database_url=url)
    asyncio.run(run_sql(server.url, f"DROP DATABASE {name} WITH (FORCE)"))


async def on(settings: Settings, work: Callable[[Connection], T]) -> T:
    database = choose_database(settings)
    try:
        return await database.write(work)
    finally:
        await database.close()


def differences(connection: Connection) -> list[object]:
    """Where the schema is not what the queries see."""
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, kind, _: kind != "table" or "telemetry_records_" not in name,
    }
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_all_revisions_make_the_schema_that_the_queries_see(fresh: Settings) -> None:
    done = await migrate(fresh)
    assert (done.before, done.after, done.direction) == (None, HEAD, "up")
    assert [step.revision for step in done.revisions] == REVISIONS
    assert await on(fresh, differences) == []
    assert (await migrate(fresh)).direction == "none"


async def test_one_revision_at_a_time_makes_the_same(fresh: Settings) -> None:
    for revision in REVISIONS:
        done = await migrate(fresh, revision)
        assert [step.revision for step in done.revisions] == [revision]
        assert await on(fresh, migrating.revision) == revision
    assert await on(fresh, differences) == []


async def test_down_and_up_again_keeps_what_the_older_schema_holds(fresh: Settings) -> None:
    await migrate(fresh)
    model = {"name": "Modèle", "last_version": 3, "created_at": 1}

    def fill(connection: Connection) -> None:
        connection.execute(insert(models).values(model))
        connection.execute(insert(vector_collections).values(COLLECTION))
        connection.execute(insert(vectors).values(VECTOR))

    await on(fresh, fill)
    down = await migrate(fresh, "0001", may_lose_data=True)
    assert [step.revision for step in down.revisions] == REVISIONS[:0:-1]
    assert {"vectors": 1, "streams": 0}.items() <= {d.name: d.rows for d in down.drops}.items()
    assert not {"vectors", "streams"} & await on(fresh, tables)
    up = await migrate(fresh)
    assert [step.revision for step in up.revisions] == REVISIONS[1:]
    assert await on(fresh, differences) == []
    assert await on(fresh, lambda c: dict(c.execute(select(models)).mappings().one())) == model
    assert await on(fresh, lambda c: c.execute(select(vectors)).all()) == []


async def test_what_would_be_lost_is_refused_and_named(fresh: Settings) -> None:
    await migrate(fresh)
    await on(fresh, lambda c: c.execute(insert(vector_collections).values(COLLECTION)).close())
    with pytest.raises(Conflict, match=r"drops .*: vector_collections \(1 rows\)") as raised:
        await migrate(fresh, "0002")
    assert "--yes" in (raised.value.hint or "")
    assert await on(fresh, differences) == []
    assert (await migrate(fresh, HEAD)).direction == "none"


async def test_a_plan_is_what_would_run_and_changes_nothing(fresh: Settings) -> None:
    plan = await plan_migration(fresh, "0002")
    assert [step.revision for step in plan.revisions] == ["0001", "0002"]
    assert not plan.done
    assert plan.sql is not None
    if fresh.database_url is None:
        assert not fresh.data_dir.exists()
    else:
        assert await on(fresh, tables) == set()
    statements = [part for part in plan.sql.split(";") if part.strip()]

    def run(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    await on(fresh, run)
    assert await on(fresh, migrating.revision) == "0002"
    await migrate(fresh)
    assert await on(fresh, differences) == []
    down = await plan_migration(fresh, "0002")
    assert "DROP TABLE vectors;" in (down.sql or "")
    assert await on(fresh, differences) == []


@pytest.mark.parametrize("target", ["0999", "base", "", "HEAD", "1"])
async def test_an_unknown_revision_names_the_existing_ones(fresh: Settings, target: str) -> None:
    for go in (migrate, plan_migration):
        with pytest.raises(NotFound) as raised:
            await go(fresh, target)
        known = ", ".join(REVISIONS)
        assert raised.value.hint == f"Existing revisions: {known}, and head, which is {HEAD}."


async def test_a_newer_schema_is_left_alone_whatever_is_asked(fresh: Settings) -> None:
    await migrate(fresh)
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    await on(fresh, lambda c: c.execute(newer).close())
    for target in ("head", "0001"):
        with pytest.raises(Conflict, match="9999") as raised:
            await migrate(fresh, target, may_lose_data=True)
        assert f"`mcp-hub migrate --to {HEAD}` with the newer one" in (raised.value.hint or "")
    assert await on(fresh, migrating.revision) == "9999"
    assert await on(fresh, differences) == []


async def test_a_killed_migration_leaves_nothing_and_the_next_one_does_it(
    fresh: Settings, tmp_path: Path
) -> None:
    await migrate(fresh, "0001")
    stopped = tmp_path / "stopped"
    with killed_process(_stop_half_way, fresh, stopped):
        await eventually(stopped.exists, within_s=60)
    assert await on(fresh, migrating.revision) == "0001"
    assert "streams" not in await on(fresh, tables)
    assert [step.revision for step in (await migrate(fresh)).revisions] == REVISIONS[1:]
    assert await on(fresh, differences) == []


async def _stop_half_way(settings: Settings, stopped: Path) -> None:
    def work(connection: Connection) -> None:
        migrating.apply(connection, migrating.plan("0001", "0002"))
        assert "streams" in tables(connection)
        stopped.touch()
        time.sleep(60)

    await choose_database(settings).migrate(work)


async def test_two_processes_go_the_same_way_once(fresh: Settings, processes: Processes) -> None:
    all_steps = len(REVISIONS)
    for target, steps in ((HEAD, all_steps), ("0001", all_steps - 1), (HEAD, all_steps - 1)):
        go = partial(_revisions, fresh, target)
        done = await processes.run(go, go)
        assert sorted(map(len, done)) == [0, steps]
        assert await on(fresh, migrating.revision) == target
    assert await on(fresh, differences) == []


async def _revisions(settings: Settings, target: str) -> list[str]:
    return [step.revision for step in (await migrate(settings, target)).revisions]


async def test_a_process_that_waits_for_another_says_so(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(database_url=postgres_url)
    holder, other = choose_database(settings), choose_database(settings)

    def hold(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(0.5)"))

    holding = asyncio.create_task(holder.migrate(hold))
    await eventually(lambda: _is_locked(settings))
    await other.migrate(migrating.revision)
    await holding
    assert "Another process migrates" in caplog.text
    for database in (holder, other):
        await database.close()


async def _is_locked(settings: Settings) -> bool:
    query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    return bool(await on(settings, lambda c: c.execute(query).scalar_one()))


async def test_workers_are_stopped_before_the_schema_goes_down(fresh: Settings) -> None:
    await migrate(fresh)
    worker = {
        "id": "worker_a", "host": "elsewhere/boot", "pid": os.getpid(), "concurrency": 1,
        "started_at": 0, "heartbeat_at": 0,
    }  # fmt: skip
    await on(fresh, lambda c: c.execute(insert(workers).values(worker)).close())
    beat = workers.update().values(heartbeat_at=now_ms())
    await on(fresh, lambda c: c.execute(beat).close())
    with pytest.raises(Conflict, match=r"worker_a \(pid \d+ on elsewhere\)"):
        await migrate(fresh, "0002", may_lose_data=True)
    assert await on(fresh, migrating.revision) == HEAD
    await on(fresh, lambda c: c.execute(workers.update().values(heartbeat_at=0)).close())
    assert (await migrate(fresh, "0002")).direction == "down"


async def test_a_running_hub_says_when_its_schema_was_changed(fresh: Settings) -> None:
    async with open_hub(fresh) as hub:
        assert f"schema {HEAD}" in (await hub.health.check()).adapters["database"].detail
        await migrate(fresh, "0002", may_lose_data=True)
        older = (await hub.health.check()).adapters["database"]
        assert older.status == "failing"
        assert f"at revision 0002, and this process needs {HEAD}" in older.detail
        newer = text("UPDATE alembic_version SET version_num = '9999'")
        await on(fresh, lambda c: c.execute(newer).close())
        healthy = (await hub.health.check()).adapters["database"]
        assert (healthy.status, "newer than" in healthy.detail) == ("ok", True)


def test_dropped_columns_count_as_losses() -> None:
    with create_engine("sqlite://").connect() as connection:
        connection.execute(text('CREATE TABLE "order" (a, b)'))
        connection.execute(text('INSERT INTO "order" VALUES (1, NULL), (2, 3)'))
        sql = 'ALTER TABLE "order" DROP COLUMN b;\nDROP INDEX i;\n\nDROP TABLE "order";'
        assert migrating.losses(connection, sql) == [("order.b", 1), ("order", 2)]
