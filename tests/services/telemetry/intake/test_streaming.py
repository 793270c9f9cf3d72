"""Telemetry by way of a stream: nothing accepted is lost, and everything is written once."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from sqlalchemy import func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.telemetry_schema import telemetry_records, telemetry_rollups
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.adapters.stream.database import DatabaseStream
from mcp_hub.adapters.stream.port import Stream
from mcp_hub.adapters.stream.redis import RedisStream
from mcp_hub.services.background import in_background
from mcp_hub.services.telemetry.intake import streaming
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Overloaded
from mcp_hub.services.telemetry.intake.streaming import GROUP, StreamedIngest
from tests.servers import Server
from tests.services.streamed import consume
from tests.spawning import killed_process
from tests.waiting import eventually


@pytest.fixture(params=["database", "redis"])
async def stream(request: pytest.FixtureRequest, database: SqliteDatabase) -> AsyncIterator[Stream]:
    if request.param == "database":
        stream: Stream = DatabaseStream(database, "telemetry")
    else:
        url = request.getfixturevalue("redis_server").url
        stream = RedisStream(url, "telemetry", f"test-{uuid4().hex}")
    yield stream
    await stream.close()


def ingest_of(database: Database, stream: Stream, *, idle_s: float = 30.0) -> StreamedIngest:
    return StreamedIngest(database, SqliteRecordStore(), stream, idle_s=idle_s)


def batch(count: int, **more: Any) -> Any:
    return from_objects(
        [{"name": "paid", "value": n, "attributes": {"n": n}, **more} for n in range(count)],
        "event",
    )


async def counted(database: Database) -> tuple[int, int]:
    """Records, and what the rollups say of their number."""
    records = select(func.count()).select_from(telemetry_records)
    rollups = select(func.coalesce(func.sum(telemetry_rollups.c.count), 0))
    return await database.read(
        lambda c: (c.execute(records).scalar_one(), c.execute(rollups).scalar_one())
    )


async def is_done(stream: Stream) -> bool:
    lag = await stream.lag(GROUP)
    return (lag.undelivered, lag.pending) == (0, 0)


async def test_what_is_accepted_is_written(database: SqliteDatabase, stream: Stream) -> None:
    ingest = ingest_of(database, stream)
    done = await ingest.record(batch(1_200))
    assert (done.accepted, done.repeated, done.rejected) == (1_200, 0, [])
    assert await counted(database) == (0, 0)
    assert await ingest.check() == "3 entries wait, 0 are being written"
    async with in_background(ingest.consume):
        await eventually(lambda: is_done(stream))
    assert await counted(database) == (1_200, 1_200)


async def test_what_is_sent_again_counts_once(database: SqliteDatabase, stream: Stream) -> None:
    ingest = ingest_of(database, stream)
    same = batch(1, id="order-1", time="2026-01-01T00:00:00Z")
    for _ in range(3):
        assert (await ingest.record(same)).accepted == 1
    async with in_background(ingest.consume):
        await eventually(lambda: is_done(stream))
    assert await counted(database) == (1, 1)


async def test_an_entry_that_comes_again_counts_once(
    database: SqliteDatabase, stream: Stream
) -> None:
    ingest = ingest_of(database, stream)
    await ingest.record(batch(3))
    await stream.create_group("copying")
    [entry] = await stream.read("copying", "copier")
    await stream.ack("copying", [entry.id])
    await stream.append([entry.body])
    async with in_background(ingest.consume):
        await eventually(lambda: is_done(stream))
    assert await counted(database) == (3, 3)


async def test_another_process_goes_on_where_one_was_killed(
    tmp_path: Path, database: SqliteDatabase, redis_server: Server
) -> None:
    prefix = f"test-{uuid4().hex}"
    stream = RedisStream(redis_server.url, "telemetry", prefix)
    ingest = ingest_of(database, stream, idle_s=0.5)
    for _ in range(60):
        await ingest.record(batch(500))

    async def some_written() -> bool:
        return (await counted(database))[0] > 0

    with killed_process(consume, str(tmp_path / "hub.db"), redis_server.url, prefix):
        await eventually(some_written)
    left = await stream.lag(GROUP)
    assert left.undelivered + left.pending > 0, "it was killed too late to show anything"
    async with in_background(ingest.consume):
        await eventually(lambda: is_done(stream), within_s=60)
    assert await counted(database) == (30_000, 30_000)
    await stream.close()


async def test_what_no_stream_can_carry_is_refused_by_its_index(
    database: SqliteDatabase, stream: Stream
) -> None:
    records = batch(3)
    records.records[1].attributes["n"] = 2**70
    done = await ingest_of(database, stream).record(records)
    assert done.accepted == 2
    assert [one.index for one in done.rejected] == [1]


async def test_too_much_on_the_stream_is_refused(
    database: SqliteDatabase, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "MAX_BEHIND", 1)
    monkeypatch.setattr(streaming, "_LOOKED_FOR_S", 0)
    ingest = ingest_of(database, stream)
    await ingest.record(batch(1_000))
    with pytest.raises(Overloaded):
        await ingest.record(batch(1))
    async with in_background(ingest.consume):
        await eventually(lambda: is_done(stream))
    assert (await ingest.record(batch(1))).accepted == 1


async def test_a_faulty_entry_keeps_nothing_back(
    database: SqliteDatabase,
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(streaming, "_TRIES", 2)
    ingest = ingest_of(database, stream, idle_s=0.1)
    await ingest.record(batch(1))
    await stream.append([b"no record"])
    await ingest.record(batch(1))
    caplog.set_level(logging.CRITICAL, logger=streaming.__name__)
    async with in_background(ingest.consume):
        await eventually(lambda: is_done(stream))
    assert await counted(database) == (2, 2)


async def test_records_wait_while_the_database_is_away(
    database: SqliteDatabase, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = ingest_of(database, stream)
    await ingest.record(batch(5))
    away = anyio.Event()
    write = database.write

    async def fails_once(*args: Any, **options: Any) -> Any:
        # The stream of the database uses it as well: only the records' writes are kept away.
        if "Ingest" in repr(args[0]) and not away.is_set():
            away.set()
            raise Unavailable("The database is away.")
        return await write(*args, **options)

    monkeypatch.setattr(database, "write", fails_once)
    async with in_background(ingest.consume):
        await eventually(lambda: is_done(stream))
    assert away.is_set()
    assert await counted(database) == (5, 5)


async def test_without_its_server_nothing_is_accepted(database: SqliteDatabase) -> None:
    stream = RedisStream("redis://127.0.0.1:1", "telemetry")
    with pytest.raises(Unavailable):
        await ingest_of(database, stream).record(batch(1))
    await stream.close()
