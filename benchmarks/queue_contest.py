"""Enqueue and drain no-op messages through the hub's queues, and beside them `bullmq` and `saq`.

All run in one process, one after another, in several rounds; the figures are medians. Messages
are added by as many tasks as are drained at once. The hub's queues are drained as its worker
does it: a claim takes as many messages as there are free places, and each is acknowledged by its
own task. `bullmq` and `saq` are used as their documentation shows: `Queue.add` or `enqueue`, and
a `Worker` with that concurrency.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import anyio
import asyncpg
import bullmq
import pytest
import saq
from redis.asyncio import Redis

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.queue.bullmq import BullQueue
from mcp_hub.adapters.queue.database import DatabaseQueue
from mcp_hub.adapters.queue.port import Claim, Queue

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import servers

SQLITE, POSTGRES, OURS, BARE, SAQ = (
    "database queue, SQLite", "database queue, PostgreSQL", "BullQueue (ours on BullMQ)",
    "bullmq, bare", "saq",
)  # fmt: skip
SQLITE_FLOOR = 2000
BULLMQ_FLOOR = 0.7
DURABILITY = (
    "What is acknowledged survives the death of any process, but not of the machine: SQLite in "
    "WAL mode with synchronous=NORMAL, Redis with appendfsync=everysec, PostgreSQL with fsync=off."
)
_PAYLOAD = {"job_id": "job_7kq2m9xw4c", "name": "iris", "config": {"model": "forest"}}


class Load(NamedTuple):
    messages: int
    concurrency: int


class Times(NamedTuple):
    """Seconds."""

    enqueue: float
    drain: float


Contender = Callable[[Load], Awaitable[Times]]


async def shared_out(load: Load, add: Callable[[int], Awaitable[Any]]) -> float:
    """The seconds it takes to add all messages, shared out between the tasks."""

    async def add_every(first: int) -> None:
        for number in range(first, load.messages, load.concurrency):
            await add(number)

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for first in range(load.concurrency):
            tasks.start_soon(add_every, first)
    return time.perf_counter() - began


async def drain(queue: Queue, load: Load) -> float:
    """The seconds it takes to claim and acknowledge all messages."""
    done = running = 0
    freed = anyio.Event()

    async def work(claim: Claim) -> None:
        nonlocal done, running
        assert await queue.ack(claim)
        done += 1
        running -= 1
        freed.set()

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        while done < load.messages:
            if running < load.concurrency:
                for claim in await queue.claim("bench", 60, load.concurrency - running):
                    running += 1
                    tasks.start_soon(work, claim)
            if running:
                freed = anyio.Event()
                await freed.wait()
    return time.perf_counter() - began


async def through_port(queue: Queue, load: Load) -> Times:
    enqueue = await shared_out(load, lambda n: queue.enqueue(f"job_{n}", payload=_PAYLOAD))
    return Times(enqueue, await drain(queue, load))


async def on_database(database: Database, load: Load) -> Times:
    return await through_port(DatabaseQueue(database, new_id("queue")), load)


async def on_bullmq(url: str, load: Load) -> Times:
    queue = BullQueue(url, new_id("queue"))
    try:
        return await through_port(queue, load)
    finally:
        await queue.close()


async def bare_bullmq(url: str, load: Load) -> Times:
    name, done, all_done = new_id("queue"), 0, anyio.Event()
    queue = bullmq.Queue(name, {"connection": url})
    options = {"removeOnComplete": True}
    enqueue = await shared_out(load, lambda n: queue.add("noop", _PAYLOAD, options))

    async def process(_job: bullmq.Job, _token: str) -> None:
        pass

    def count(*_: object) -> None:
        nonlocal done
        done += 1
        if done == load.messages:
            all_done.set()

    began = time.perf_counter()
    worker = bullmq.Worker(name, process, {"connection": url, "concurrency": load.concurrency})
    worker.on("completed", count)
    await all_done.wait()
    seconds = time.perf_counter() - began
    await worker.close(force=True)
    await queue.close()
    return Times(enqueue, seconds)


async def with_saq(url: str, load: Load) -> Times:
    done, all_done = 0, anyio.Event()
    queue = saq.Queue.from_url(url, name=new_id("queue"))
    await queue.connect()
    enqueue = await shared_out(load, lambda n: queue.enqueue("noop", ttl=60, payload=_PAYLOAD))

    async def noop(_context: Any, *, payload: Any) -> None:
        pass

    async def count(_context: Any) -> None:
        nonlocal done
        done += 1
        if done == load.messages:
            all_done.set()

    logging.getLogger("saq").setLevel(logging.ERROR)
    worker = saq.Worker(queue, [("noop", noop)], concurrency=load.concurrency, after_process=count)
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.start)
        await all_done.wait()
        seconds = time.perf_counter() - began
        await worker.stop()
        tasks.cancel_scope.cancel()
    await queue.disconnect()
    return Times(enqueue, seconds)


@asynccontextmanager
async def contenders(folder: Path) -> AsyncIterator[dict[str, Contender]]:
    """The contenders whose servers can be had here, each with its server running."""
    async with AsyncExitStack() as stack:
        sqlite = SqliteDatabase(folder / "queue.db")
        await sqlite.upgrade()
        stack.push_async_callback(sqlite.close)
        found: dict[str, Contender] = {SQLITE: partial(on_database, sqlite)}
        with suppress(pytest.skip.Exception):
            server = servers.start_postgres(folder / "postgres")
            stack.callback(server.stop)
            await _relax_postgres(server.url)
            postgres = PostgresDatabase(server.url)
            await postgres.upgrade()
            stack.push_async_callback(postgres.close)
            found[POSTGRES] = partial(on_database, postgres)
        server = servers.start_redis(folder / "redis")
        stack.callback(server.stop)
        async with Redis.from_url(server.url) as redis:
            await redis.config_set("appendfsync", "everysec")
        found[OURS] = partial(on_bullmq, server.url)
        found[BARE] = partial(bare_bullmq, server.url)
        found[SAQ] = partial(with_saq, server.url)
        yield found


async def _relax_postgres(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER SYSTEM SET fsync = off")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


async def contest(load: Load, rounds: int, folder: Path) -> dict[str, Times]:
    """The median times of each contender."""
    times: dict[str, list[Times]] = {}
    async with contenders(folder) as found:
        names = list(found)
        for number in range(rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                times.setdefault(name, []).append(await found[name](load))
    return {
        name: Times(*(median(column) for column in zip(*times[name], strict=True)))
        for name in names
    }


def report(load: Load, rounds: int, times: dict[str, Times]) -> None:
    bare = times[BARE]
    print(f"{load.messages:,} no-op messages, {load.concurrency} at a time, medians of {rounds}")
    print(f"{'':28}{'enqueued/s':>12}{'drained/s':>12}{'× bare bullmq':>24}")
    for name, (enqueue, seconds) in times.items():
        ratios = f"{bare.enqueue / enqueue:.2f} enqueued, {bare.drain / seconds:.2f} drained"
        print(
            f"{name:28}{load.messages / enqueue:12,.0f}{load.messages / seconds:12,.0f}  {ratios}"
        )
    print(DURABILITY)
    print(f"Floors: SQLite {SQLITE_FLOOR:,} drained/s; ours {BULLMQ_FLOOR} × bare bullmq.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    load = Load(options.messages, options.concurrency)
    with tempfile.TemporaryDirectory() as folder:
        # PostgreSQL does not run as root: it has to get into the folder as another user.
        Path(folder).chmod(0o755)
        times = anyio.run(contest, load, options.rounds, Path(folder))
    if options.json:
        print(json.dumps({name: seconds._asdict() for name, seconds in times.items()}))
    else:
        report(load, options.rounds, times)


if __name__ == "__main__":
    main()
