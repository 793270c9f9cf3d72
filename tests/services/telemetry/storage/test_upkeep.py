"""Upkeep: hours are sealed and old records removed, each kind for its own time."""

import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection, func, select, text, update

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_hours,
    telemetry_patterns,
    telemetry_records,
    telemetry_rollups,
    telemetry_segments,
    telemetry_series,
)
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.adapters.records.postgresql import PostgresRecordStore
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.aggregates.aggregate import Aggregate
from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.envelope import KINDS, Kind, Record, new_id
from mcp_hub.services.telemetry.intake.accepting import Batch
from mcp_hub.services.telemetry.intake.ingest import HOUR_NS, Ingest
from mcp_hub.services.telemetry.storage import frames
from mcp_hub.services.telemetry.storage.retention import Kept, Retention
from mcp_hub.services.telemetry.storage.sealing import Sealing, _begun, _Writing
from mcp_hub.services.telemetry.storage.upkeep import Upkeep
from tests.waiting import eventually

NOW_HOUR = time.time_ns() // HOUR_NS
FOREVER: Mapping[Kind, float] = dict.fromkeys(KINDS, 1_000.0)


def store_of(database: Database) -> RecordStore:
    return SqliteRecordStore() if database.dialect == "sqlite" else PostgresRecordStore()


def records(hours_ago: list[int], per_hour: int = 3) -> list[Record]:
    return [
        Record(id=new_id(moment), kind=kind, name="n", time=moment, value=1.0, duration_ns=5,
               body="text", attributes={"n": number})
        for hours in hours_ago
        for kind in KINDS
        for number in range(per_hour)
        for moment in [(NOW_HOUR - hours) * HOUR_NS + number]
    ]  # fmt: skip


async def recorded(ingest: Ingest, some: list[Record]) -> None:
    await ingest.record(Batch(some, list(range(len(some)))))


async def rows(database: Database, statement: Any) -> list[Any]:
    return await database.read(lambda c: list(c.execute(statement).all()))


async def test_each_kind_is_kept_for_its_own_time(store: Database, ingest: Ingest) -> None:
    await recorded(ingest, records([100, 60, 30, 2]))
    await Sealing(store).seal_due()
    days: dict[Kind, float] = {"event": 4, "metric": 3, "span": 1, "log": 2}
    retention = Retention(store, store_of(store), Kept(days, 5))
    assert await retention.remove_old() == (1 + 1 + 3 + 2) * 3 + 0
    kept = await rows(
        store,
        select(telemetry_series.c.kind, func.count())
        .join(telemetry_records, telemetry_records.c.series == telemetry_series.c.series)
        .group_by(telemetry_series.c.kind),
    )
    assert dict(map(tuple, kept)) == {"event": 9, "metric": 9, "span": 3, "log": 6}
    parts = await rows(store, select(telemetry_segments.c.kind, telemetry_segments.c.hour))
    hours = Counter(kind for kind, _ in {tuple(part) for part in parts})
    assert hours == {"": 4, "event": 3, "metric": 3, "span": 1, "log": 2}
    aggregating = Aggregating(store)
    for by in ("kind", "severity"):
        asked = Aggregate(group_by=[by, "kind"][: 1 + (by != "kind")], since="-5d", limit=10)
        table = await aggregating.aggregate(asked)
        total = sum(row[-1] for row in table.rows)
        # Counts outlive the records; what is asked of the records themselves does not.
        assert total == (48 if by == "kind" else 27)
    sizes = await rows(store, select(func.sum(telemetry_hours.c.bytes)))
    length = func.sum(func.length(telemetry_segments.c.data))
    assert [int(one) for one in sizes[0]] == [
        int(one) for one in (await rows(store, select(length)))[0]
    ]
    assert await Retention(store, store_of(store), Kept(days, 5)).remove_old() == 0
    await Retention(store, store_of(store), Kept(dict.fromkeys(KINDS, 0.5), 0.5)).remove_old()
    assert {row.minute // 60 for row in await rows(store, select(telemetry_rollups.c.minute))} == {
        NOW_HOUR - 2
    }
    assert [row.hour for row in await rows(store, select(telemetry_hours.c.hour))] == [NOW_HOUR - 2]


async def test_patterns_not_seen_for_long_are_removed(store: Database, ingest: Ingest) -> None:
    made = [
        Record(id=new_id(moment), kind=kind, name="n", time=moment, body=body)
        for moment in [NOW_HOUR * HOUR_NS]
        for kind, body in (("log", "came"), ("log", "went"), ("event", "came"))
    ]  # fmt: skip
    await recorded(ingest, made)
    retention = Retention(
        store, store_of(store), Kept({"event": 9, "metric": 1, "span": 1, "log": 2}, 9)
    )
    patterns = select(telemetry_series.c.kind, telemetry_patterns.c.mask).join(
        telemetry_patterns, telemetry_patterns.c.series == telemetry_series.c.series
    )
    await retention.remove_old()
    assert len(await rows(store, patterns)) == 3
    at = update(telemetry_patterns).values(last_time=(NOW_HOUR - 3 * 24) * HOUR_NS)
    await store.write(lambda c: c.execute(at.where(telemetry_patterns.c.mask == "came")).close())
    await retention.remove_old()
    assert sorted(map(tuple, await rows(store, patterns))) == [("event", "came"), ("log", "went")]


async def test_it_runs_in_the_background_of_one_process(store: Database, ingest: Ingest) -> None:
    await recorded(ingest, records([3, 2]))
    upkeep = Upkeep(store, Sealing(store), Retention(store, store_of(store), Kept(FOREVER, 2_000)))
    assert "2 wait to be sealed" in await upkeep.check()
    with anyio.fail_after(20):
        async with upkeep.running(begin_s=0), upkeep.running(begin_s=0):

            async def are_sealed() -> bool:
                return "2 hours sealed" in await upkeep.check()

            await eventually(are_sealed)
    told = await upkeep.check()
    assert "no hour waits" in told
    assert "MB" in told


@pytest.mark.parametrize("broken", ["hour", "sealing"])
async def test_what_cannot_be_sealed_keeps_nothing_else_from_being_done(
    store: Database, ingest: Ingest, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, broken: str,
) -> None:  # fmt: skip
    await recorded(ingest, records([60, 3, 2]))
    sealing = Sealing(store)
    if broken == "hour":
        minute = telemetry_rollups.c.minute
        damaged = update(telemetry_rollups).where(minute == (NOW_HOUR - 3) * 60)
        await store.write(lambda c: c.execute(damaged.values(sketch=b"odd")).close())
    else:
        monkeypatch.setattr(sealing, "seal_due", partial(store.read, _fail))
    retention = Retention(store, store_of(store), Kept(dict.fromkeys(KINDS, 2.0), 2_000))
    upkeep = Upkeep(store, sealing, retention)

    async def is_removed() -> bool:
        return (await rows(store, select(func.count()).select_from(telemetry_records)))[0][0] == 24

    with anyio.fail_after(20):
        async with upkeep.running(begin_s=0):
            await eventually(is_removed)
    hours = [NOW_HOUR - 3] if broken == "hour" else [NOW_HOUR - 60, NOW_HOUR - 3, NOW_HOUR - 2]
    assert await Sealing(store).waiting() == hours
    if broken == "hour":
        named = datetime.fromtimestamp((NOW_HOUR - 3) * 3600, UTC).strftime("%Y-%m-%dT%H:%MZ")
        assert named in caplog.text


def _fail(connection: Connection) -> None:
    connection.execute(text("SELECT no_such_column")).close()


async def test_records_that_come_while_an_hour_is_sealed_are_not_lost(
    store: Database, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(ingest, records([5]))
    finish = _Writing.finish

    async def finish_late(self: _Writing) -> bool:
        await recorded(ingest, records([5], per_hour=1))
        return await finish(self)

    sealing = Sealing(store)
    with monkeypatch.context() as patch:
        patch.setattr(_Writing, "finish", finish_late)
        assert await sealing.seal_due() == 0
    assert await sealing.waiting() == [NOW_HOUR - 5]
    assert await sealing.seal_due() == 1
    assert await sealing.waiting() == []
    table = await Aggregating(store).aggregate(Aggregate(group_by=["n"], since="-1d"))
    assert sum(count for _, count in table.rows) == 4 * 4


async def test_two_that_seal_the_same_hour_make_it_whole(store: Database, ingest: Ingest) -> None:
    await recorded(ingest, records([4, 3], per_hour=40))
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(Sealing(store).seal_due)
    await Sealing(store).seal_due()
    assert await Sealing(store).waiting() == []
    table = await Aggregating(store).aggregate(Aggregate(group_by=["severity"], since="-1d"))
    assert table.rows == [[None, 2 * 4 * 40]]


async def test_one_that_begins_an_hour_anew_ends_the_sealing_before(
    store: Database, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recorded(ingest, records([4]))
    add = _Writing.add
    added = []

    async def add_and_begin_anew(self: _Writing, kind: str, columns: Mapping[str, bytes]) -> None:
        await add(self, kind, columns)
        added.append(kind)
        if len(added) == 2:
            await store.write(lambda c: _begun(c, self.hour))

    with monkeypatch.context() as patch:
        patch.setattr(_Writing, "add", add_and_begin_anew)
        assert not await Sealing(store).seal(NOW_HOUR - 4)
    assert len(added) == 3
    assert await Sealing(store).waiting() == [NOW_HOUR - 4]
    assert await Sealing(store).seal_due() == 1
    for by in ("kind", "severity"):
        asked = Aggregate(group_by=[by], since="-1d")
        table = await Aggregating(store).aggregate(asked)
        assert sum(count for _, count in table.rows) == 4 * 3


async def test_large_hours_are_sealed_in_parts(
    store: Database, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_hub.services.telemetry.storage.sealing.PART", 60)
    monkeypatch.setattr("mcp_hub.services.telemetry.storage.sealing._PAGE", 25)
    monkeypatch.setattr(frames, "_OWN_COLUMNS", 0)
    await recorded(ingest, records([4], per_hour=70))
    assert await Sealing(store).seal_due() == 1
    parts = await rows(store, select(func.max(telemetry_segments.c.part)))
    assert parts[0][0] >= 1
    asked = Aggregate(measure=["count", "max:n", "unique:n"], group_by=["kind"], since="-1d")
    table = await Aggregating(store).aggregate(asked)
    assert sorted(table.rows) == [[kind, 70, 69, 70] for kind in sorted(KINDS)]
