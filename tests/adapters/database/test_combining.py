import threading
from collections.abc import Callable
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection, insert, select

from mcp_hub.adapters.database.combining import CombinedWrites
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import models
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Unavailable


def add(name: str, connection: Connection) -> str:
    connection.execute(insert(models).values(name=name, last_version=0, created_at=now_ms()))
    return name


async def names(database: SqliteDatabase) -> list[str]:
    query = select(models.c.name).order_by(models.c.name)
    return await database.read(lambda c: list(c.execute(query).scalars()))


class Held:
    """A change that a test lets go on."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self._go = threading.Event()

    def work(self, _: Connection) -> None:
        anyio.from_thread.run_sync(self.begun.set)
        assert self._go.wait(30)

    def let_go(self) -> None:
        self._go.set()


async def test_changes_asked_for_together_share_a_transaction(database: SqliteDatabase) -> None:
    writes = CombinedWrites(database)
    transactions: list[object] = []
    results: list[str] = []

    async def change(number: int) -> None:
        def work(connection: Connection) -> str:
            transactions.append(connection.get_transaction())
            return add(f"model_{number:03}", connection)

        results.append(await writes.run(work))

    held = Held()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writes.run, held.work)
        await held.begun.wait()
        for number in range(150):
            tasks.start_soon(change, number)
        await checkpoint()
        held.let_go()
    assert sorted(results) == await names(database) == [f"model_{n:03}" for n in range(150)]
    assert [transactions.count(each) for each in dict.fromkeys(transactions)] == [100, 50]


async def test_all_of_a_transaction_that_fails_are_told(database: SqliteDatabase) -> None:
    writes = CombinedWrites(database)
    refused: list[str] = []

    def refuse(_: Connection) -> None:
        raise Unavailable("The disk is full.")

    async def change(work: Callable[[Connection], object]) -> None:
        try:
            await writes.run(work)
        except Unavailable as error:
            refused.append(error.message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change, partial(add, "iris"))
        tasks.start_soon(change, refuse)
    assert refused == ["The disk is full."] * 2
    assert await names(database) == []
    assert await writes.run(partial(add, "iris")) == "iris"


@pytest.mark.parametrize("cancelled", range(3))
async def test_a_cancelled_caller_holds_nobody_up(database: SqliteDatabase, cancelled: int) -> None:
    """The first runs the transaction, the second would run the next, the third only waits."""
    writes = CombinedWrites(database)
    held = Held()
    scopes: list[anyio.CancelScope] = []
    done: list[str] = []

    async def change(name: str) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            done.append(await writes.run(held.work if name == "0" else partial(add, name)) or name)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change, "0")
            await held.begun.wait()
            for name in ("1", "2", "3"):
                tasks.start_soon(change, name)
                await checkpoint()
            scopes[cancelled].cancel()
            await checkpoint()
            held.let_go()
    others = {"0", "1", "2", "3"} - {str(cancelled)}
    assert others <= set(done)
    assert set(await names(database)) >= others - {"0"}
    assert await writes.run(partial(add, "after")) == "after"
