from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from sqlalchemy import select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.tasks_schema import tasks as table
from mcp_hub.adapters.errors import NotFound
from mcp_hub.services.tasks.service import TTL_MS, TaskService
from mcp_hub.services.tasks.views import Call, Task

YES = {"action": "accept"}
TWO = Call({"file": "a"}, {"first": {"method": "ask"}, "second": {"method": "ask"}}, "state")


@pytest.fixture(params=["sqlite", "postgresql"])
def open_database(request: pytest.FixtureRequest) -> Callable[[], Database]:
    if request.param == "sqlite":
        return partial(SqliteDatabase, request.getfixturevalue("sqlite_path"))
    return partial(PostgresDatabase, request.getfixturevalue("postgres_url"))


@pytest.fixture
async def anywhere(open_database: Callable[[], Database]) -> AsyncIterator[Database]:
    database = open_database()
    await database.upgrade()
    yield database
    await database.close()


@pytest.fixture
def tasks(anywhere: Database) -> TaskService:
    return TaskService(anywhere)


async def set_time(database: Database, task_id: str, **times: Any) -> None:
    statement = update(table).where(table.c.id == task_id).values(**times)
    await database.write(lambda c: c.execute(statement))


def answered(task: Task | None) -> dict[str, Any]:
    assert task is not None
    assert task.call is not None
    return dict(task.call.answers or {})


async def test_a_task_is_found_by_its_owner_only(tasks: TaskService) -> None:
    followed = await tasks.follow("ann", "train", "job_1")
    asking = await tasks.ask("ann", "delete", TWO)
    assert (followed.subject, followed.status, followed.call) == ("job_1", "followed", None)
    assert (asking.status, asking.held, asking.ttl_ms) == ("asking", False, TTL_MS)
    assert asking.call is not None
    assert asking.call.pending == TWO.questions
    assert await tasks.get("ann", followed.id) == followed
    for task in (followed, asking):
        for ask in (tasks.get, tasks.cancel, partial(tasks.answer, answers={"first": YES})):
            with pytest.raises(NotFound):
                await ask("bob", task.id)
    assert await tasks.get("ann", asking.id) == asking


async def test_ids_cannot_be_guessed(tasks: TaskService) -> None:
    ids = {(await tasks.follow("", "train", "job_1")).id for _ in range(3)}
    assert {len(one) for one in ids} == {len("task_") + 26}
    assert len(ids) == 3


async def test_the_last_answer_gives_the_call_to_one(tasks: TaskService) -> None:
    task = await tasks.ask("", "delete", TWO)
    assert await tasks.answer("", task.id, {"other": YES}) is None
    assert await tasks.answer("", task.id, {"first": YES, "other": YES}) is None
    between = await tasks.get("", task.id)
    assert between.call is not None
    assert between.call.pending.keys() == {"second"}
    last = await tasks.answer("", task.id, {"first": {"action": "decline"}, "second": YES})
    assert answered(last) == {"first": YES, "second": YES}
    assert last is not None
    assert last.call is not None
    assert (last.call.state, last.call.arguments) == ("state", {"file": "a"})
    assert (await tasks.get("", task.id)).held
    assert await tasks.answer("", task.id, {"second": YES}) is None
    await tasks.cancel("", task.id)
    await tasks.end(task.id, result={"content": []})
    ended = await tasks.get("", task.id)
    assert (ended.status, ended.result) == ("completed", {"content": []})


async def test_of_many_who_bring_the_last_answer_one_goes_on(tasks: TaskService) -> None:
    task = await tasks.ask("", "delete", TWO)
    given: list[Task | None] = []

    async def answer() -> None:
        given.append(await tasks.answer("", task.id, {"first": YES, "second": YES}))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(answer)
    assert len([one for one in given if one is not None]) == 1


async def test_what_a_dead_process_held_is_asked_again(
    tasks: TaskService, anywhere: Database
) -> None:
    task = await tasks.ask("", "delete", TWO)
    await tasks.answer("", task.id, {"first": YES})
    assert await tasks.answer("", task.id, {"second": YES}) is not None
    await set_time(anywhere, task.id, held_until=now_ms())
    again = await tasks.get("", task.id)
    assert (again.status, again.held) == ("asking", False)
    assert again.call is not None
    assert again.call.pending.keys() == {"second"}
    no = {"action": "decline"}
    last = await tasks.answer("", task.id, {"second": no})
    assert answered(last) == {"first": YES, "second": no}


async def test_a_call_may_ask_further(tasks: TaskService) -> None:
    task = await tasks.ask("", "delete", TWO)
    assert await tasks.answer("", task.id, {"first": YES, "second": YES}) is not None
    await tasks.ask_again(task.id, Call({"file": "a"}, {"third": {}}, None))
    further = await tasks.get("", task.id)
    assert (further.status, further.held) == ("asking", False)
    assert further.call == Call({"file": "a"}, {"third": {}}, None, {})
    assert answered(await tasks.answer("", task.id, {"third": YES})) == {"third": YES}
    await tasks.end(task.id, error={"code": 1, "message": "broken"})
    failed = await tasks.get("", task.id)
    assert (failed.status, failed.error) == ("failed", {"code": 1, "message": "broken"})


async def test_what_is_cancelled_is_not_asked_any_more(tasks: TaskService) -> None:
    task = await tasks.ask("", "delete", TWO)
    await tasks.cancel("", task.id)
    assert (await tasks.get("", task.id)).status == "cancelled"
    assert await tasks.answer("", task.id, {"first": YES, "second": YES}) is None
    await tasks.end(task.id, result={})
    assert (await tasks.get("", task.id)).status == "cancelled"


async def test_what_has_expired_is_gone(tasks: TaskService, anywhere: Database) -> None:
    task = await tasks.follow("", "train", "job_1")
    await set_time(anywhere, task.id, expires_at=now_ms())
    with pytest.raises(NotFound):
        await tasks.get("", task.id)
    newer = await tasks.follow("", "train", "job_1")
    kept = await anywhere.read(lambda c: c.execute(select(table.c.id)).scalars().all())
    assert kept == [newer.id]
