"""Records go in once, whichever way and however often they come, and rollups follow."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection, delete, func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_attributes,
    telemetry_hours,
    telemetry_pattern_counts,
    telemetry_patterns,
    telemetry_records,
    telemetry_resources,
    telemetry_rollups,
    telemetry_series,
)
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.records.postgresql import PostgresRecordStore
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.intake import ingest as module
from mcp_hub.services.telemetry.intake import naming, rollups
from mcp_hub.services.telemetry.intake.accepting import Batch, from_objects
from mcp_hub.services.telemetry.intake.ingest import Accepted, Ingest, Overloaded
from tests.soak.test_ingest_kills import check_rollups


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


@pytest.fixture
async def database(url: str | None, sqlite_path: Path) -> AsyncIterator[Database]:
    database = PostgresDatabase(url) if url else SqliteDatabase(sqlite_path)
    await database.upgrade()
    yield database
    await database.close()


def new_ingest(database: Database) -> Ingest:
    store = SqliteRecordStore() if database.dialect == "sqlite" else PostgresRecordStore()
    return Ingest(database, store)


@pytest.fixture
def ingest(database: Database) -> Ingest:
    return new_ingest(database)


def batch(count: int, **fields: Any) -> Batch:
    return from_objects([{"name": "a", "value": n} | fields for n in range(count)], "metric")


async def total(database: Database, table: Any = telemetry_records) -> int:
    count = select(func.count()).select_from(table)
    return await database.read(lambda c: int(c.execute(count).scalar_one()))


async def recount(database: Database) -> None:
    def check(connection: Connection) -> None:
        check_rollups(connection, list(connection.execute(select(telemetry_records))))

    await database.read(check)


async def test_what_comes_at_once_is_all_kept(database: Database, ingest: Ingest) -> None:
    sizes = [1, 1, 150, 700, 1, 2_000, 5_001]
    done: list[Accepted] = []

    async def send(size: int) -> None:
        done.append(await ingest.record(batch(size)))

    async with anyio.create_task_group() as tasks:
        for size in sizes:
            tasks.start_soon(send, size)
    assert sorted(one.accepted for one in done) == sorted(sizes)
    assert await total(database) == sum(sizes) == ingest.counts.accepted
    await recount(database)


async def test_a_record_with_an_id_counts_once(database: Database, ingest: Ingest) -> None:
    now = time.time()
    once = from_objects([{"name": "a", "id": "x", "time": now, "body": "b 1"}] * 2, "log")
    assert await ingest.record(once) == Accepted(1, 1, [])
    assert await new_ingest(database).record(once) == Accepted(0, 2, [])
    # The hub chose the time: the id alone tells that it is the same.
    timeless = from_objects([{"name": "a", "id": "y"}], "event")
    again = from_objects([{"name": "a", "id": "y"}], "event")
    assert (await ingest.record(timeless)).accepted == 1
    assert await ingest.record(again) == Accepted(0, 1, [])
    assert await total(database) == 2
    await recount(database)


async def test_names_are_kept_for_discovery(database: Database, ingest: Ingest) -> None:
    records = [
        {
            "name": "login", "service": "web", "body": f"user {n} came", "kind": "log",
            "attributes": {"user": f"u{n}", "ok": True, "tags": ["a"], "size": n % 3},
            "resource": {"host": "h1"},
        }
        for n in range(50)
    ]  # fmt: skip
    for _ in range(3):
        await ingest.record(from_objects(records, "event"))
    fields = await database.read(
        lambda c: {row.key: row for row in c.execute(select(telemetry_attributes))}
    )
    assert {key: (row.types, row.many) for key, row in fields.items()} == {
        "user": ("string", True), "ok": ("boolean", False), "tags": ("array", False),
        "size": ("number", False), "resource.host": ("string", False),
    }  # fmt: skip
    assert fields["size"].examples == "[0,1,2]"
    assert await total(database, telemetry_series) == 1
    assert await total(database, telemetry_resources) == 1
    assert await total(database, telemetry_patterns) == 1
    counts = select(func.sum(telemetry_pattern_counts.c.count))
    assert await database.read(lambda c: int(c.execute(counts).scalar_one())) == 150


async def test_patterns_are_noted_again_after_some_hours(
    database: Database, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def said(*bodies: str) -> None:
        await ingest.record(from_objects([{"name": "a", "body": b} for b in bodies], "log"))

    seen = select(telemetry_patterns.c.last_time)
    await said("up", "down")
    first = await database.read(lambda c: c.execute(seen).scalars().all())
    await said("up", "down")
    assert await database.read(lambda c: c.execute(seen).scalars().all()) == first
    # As after those hours; and that no more of them are taken is said of others only.
    monkeypatch.setattr(naming, "NOTED_EVERY_S", 0)
    monkeypatch.setattr(naming, "MAX_PATTERNS", 2)
    await database.write(lambda c: c.execute(delete(telemetry_patterns)).close())
    for body in ("down", "up", "sideways"):
        await said(body)
    last = await database.read(
        lambda c: c.execute(select(telemetry_patterns.c.mask, *seen.selected_columns)).all()
    )
    assert {row.mask for row in last} == {"up", "down"}
    assert min(row.last_time for row in last) > max(first)


async def test_a_value_of_another_type_is_noted_later(database: Database, ingest: Ingest) -> None:
    for value in ("one", "one", "one", {"a": 1}, 1, True, True, 1, None):
        await ingest.record(from_objects([{"name": "a", "attributes": {"x": value}}], "event"))
    types = await database.read(
        lambda c: c.execute(select(telemetry_attributes.c.types)).scalar_one()
    )
    assert types == "boolean null number object string"


async def test_limits_are_told_of_by_index(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "MAX_SERIES", 2)
    done = await ingest.record(from_objects([{"name": f"n{n}"} for n in range(4)], "event"))
    assert done.accepted == 2
    assert [one.index for one in done.rejected] == [2, 3]
    assert "put what varies into attributes" in done.rejected[0].message
    large = {"name": "n0", "attributes": {"a": "x" * 300_000}}
    told = await ingest.record(from_objects([{"name": "n0"}, large], "event"))
    assert [one.index for one in told.rejected] == [1]


async def test_too_much_at_once_is_refused(
    database: Database, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 100)
    await ingest.ready()
    outcomes: list[object] = []

    async def send() -> None:
        try:
            outcomes.append((await ingest.record(batch(60))).accepted)
        except Overloaded as error:
            outcomes.append(error.code)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(send)
    assert outcomes.count("unavailable") == 3
    assert outcomes.count(60) == 1
    assert ingest.counts.refused == 180
    assert await total(database) == 60


async def test_a_caller_that_leaves_takes_no_other_along(
    database: Database, ingest: Ingest
) -> None:
    done: list[int] = []

    async def send(scope: anyio.CancelScope | None) -> None:
        with scope or anyio.CancelScope():
            done.append((await ingest.record(batch(5))).accepted)

    for _ in range(10):
        async with anyio.create_task_group() as tasks:
            scopes = [anyio.CancelScope() if n % 3 else None for n in range(9)]
            for scope in scopes:
                tasks.start_soon(send, scope)
            await anyio.lowlevel.checkpoint()
            for scope in scopes:
                if scope is not None:
                    scope.cancel()
    assert len(done) >= 30
    assert (await ingest.record(batch(5))).accepted == 5
    await recount(database)


async def test_a_failed_write_is_told_and_forgotten(
    database: Database, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingest.record(batch(3))

    async def fail(*_args: object, **_options: object) -> None:
        raise Unavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(database, "write", fail)
        with pytest.raises(Unavailable):
            await ingest.record(batch(3))
    assert (await ingest.record(batch(3))).accepted == 3
    await recount(database)


async def test_rollups_that_were_forgotten_are_read_again(
    database: Database, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "_KEPT", 3)
    for turn in range(3):
        for name in "abcdef":
            body = f"round {turn}"
            await ingest.record(batch(4, name=name, kind="log", body=f"{name} {body}"))
    assert await total(database, telemetry_rollups) <= 12
    await recount(database)


async def test_late_records_are_noted_for_their_hour(database: Database, ingest: Ingest) -> None:
    old = time.time() - 5 * 3600
    for _ in range(2):
        await ingest.record(batch(2, time=old))
    row = await database.read(lambda c: c.execute(select(telemetry_hours)).one())
    assert (row.hour, row.version) == (int(old // 3600), 2)
