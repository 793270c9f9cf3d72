"""A worker's place in the list of workers."""

from typing import Any

import pytest
from sqlalchemy import update

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import workers
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.training.liveness import Worker, bury, live_workers
from mcp_hub.services.training.workers.registration import Registration

SILENCE_MS = 60_000


async def listed(database: Database) -> list[Worker]:
    return await database.read(lambda c: live_workers(c, SILENCE_MS))


async def bury_as_if_long_silent(database: Database) -> None:
    await database.write(lambda c: c.execute(update(workers).values(heartbeat_at=0)).close())
    await database.write(lambda c: bury(c, SILENCE_MS))
    assert await listed(database) == []


@pytest.fixture
def registration(either_database: Database) -> Registration:
    return Registration(either_database, "worker_1", concurrency=2, gpus=1)


async def test_one_that_was_taken_for_gone_is_in_the_list_again_with_its_next_beat(
    registration: Registration, either_database: Database
) -> None:
    async with registration.held():
        [before] = await listed(either_database)
        await bury_as_if_long_silent(either_database)
        await registration.beat()
        [again] = await listed(either_database)
        assert (again.id, again.concurrency, again.gpus) == ("worker_1", 2, 1)
        assert (again.host, again.pid) == (before.host, before.pid)
    assert await listed(either_database) == []


async def test_a_beat_renews_a_row_that_is_there(
    registration: Registration, either_database: Database
) -> None:
    age = update(workers).values(heartbeat_at=1, started_at=1)
    async with registration.held():
        await either_database.write(lambda c: c.execute(age).close())
        assert await listed(either_database) == []
        await registration.beat()
        [alive] = await listed(either_database)
        assert alive.started_at == 1


async def test_one_that_has_left_to_end_stays_out_of_the_list(database: SqliteDatabase) -> None:
    registration = Registration(database, "worker_1", concurrency=2, gpus=0)
    await registration.enter()
    await registration.leave()
    await registration.beat()
    assert await listed(database) == []


async def test_one_that_could_not_enter_again_does_so_with_its_next_beat(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("The database does not answer.")

    registration = Registration(database, "worker_1", concurrency=2, gpus=0)
    await registration.enter()
    await registration.leave()
    with monkeypatch.context() as patch:
        patch.setattr(database, "write", away)
        with pytest.raises(Unavailable):
            await registration.enter()
    await registration.beat()
    assert len(await listed(database)) == 1
