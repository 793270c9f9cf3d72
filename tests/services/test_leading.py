"""Leading: one at a time, followed when it ends, stops or is killed."""

from collections.abc import AsyncIterator, Callable
from functools import partial

import anyio
import pytest
from sqlalchemy import insert, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.telemetry_schema import leases
from mcp_hub.services.leading import lead, run_as_leader
from tests.waiting import eventually


@pytest.fixture(params=["sqlite", "postgresql"])
def open_database(request: pytest.FixtureRequest) -> Callable[[], Database]:
    if request.param == "sqlite":
        return partial(SqliteDatabase, request.getfixturevalue("sqlite_path"))
    return partial(PostgresDatabase, request.getfixturevalue("postgres_url"))


@pytest.fixture
async def shared(open_database: Callable[[], Database]) -> AsyncIterator[Database]:
    found = open_database()
    await found.upgrade()
    yield found
    await found.close()


async def test_there_is_one_leader_at_a_time(database: SqliteDatabase) -> None:
    leading, most, turns = 0, 0, 0

    async def work() -> None:
        nonlocal leading, most, turns
        leading += 1
        most = max(most, leading)
        await anyio.sleep(0.02)
        leading -= 1
        turns += 1

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(partial(run_as_leader, database, "x", work, lease_s=0.3))
    assert (most, turns) == (1, 6)


async def test_names_are_led_apart_and_released(shared: Database) -> None:
    with anyio.fail_after(20):
        async with lead(shared, "a"), lead(shared, "b"):
            found = await shared.read(lambda c: c.execute(select(leases.c.name)).scalars().all())
            assert sorted(found) == ["a", "b"]
        assert await shared.read(lambda c: c.execute(select(leases)).all()) == []
        async with lead(shared, "a"):
            pass


async def test_one_that_was_killed_is_followed_when_its_lease_ends(shared: Database) -> None:
    dead = {"name": "a", "holder": "dead", "expires_at": now_ms() + 700}
    await shared.write(lambda c: c.execute(insert(leases).values(dead)))
    begin = anyio.current_time()
    with anyio.fail_after(20):
        async with lead(shared, "a", lease_s=0.6):
            assert anyio.current_time() - begin > 0.6


async def test_a_lease_is_renewed_while_the_body_runs(shared: Database) -> None:
    async def expires_at() -> int:
        return int(await shared.read(lambda c: c.execute(select(leases.c.expires_at)).scalar_one()))

    with anyio.fail_after(20):
        async with lead(shared, "a", lease_s=0.5):
            first = await expires_at()

            async def renewed() -> bool:
                return await expires_at() > first + 500

            await eventually(renewed)


async def test_the_work_of_one_that_lost_its_lease_is_cancelled(shared: Database) -> None:
    ended = False
    with anyio.fail_after(20):
        async with lead(shared, "a", lease_s=0.6):
            thief = {"holder": "thief", "expires_at": now_ms() + 60_000}
            await shared.write(lambda c: c.execute(update(leases).values(thief)))
            try:
                await anyio.sleep_forever()
            finally:
                ended = True
    assert ended
    held = await shared.read(lambda c: c.execute(select(leases.c.holder)).scalar_one())
    assert held == "thief"


async def test_what_the_body_raises_is_raised_as_it_is(shared: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with lead(shared, "a"):
            raise ZeroDivisionError
    assert await shared.read(lambda c: c.execute(select(leases)).all()) == []
