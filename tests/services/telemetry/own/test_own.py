"""The hub's records of itself: kept soon, kept at the end, bounded, and never in the way."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, select

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.telemetry_schema import telemetry_records, telemetry_series
from mcp_hub.adapters.errors import NotFound, Unavailable
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.envelope import ERROR
from mcp_hub.services.telemetry.intake.accepting import Batch
from mcp_hub.services.telemetry.intake.ingest import Accepted, Ingest
from mcp_hub.services.telemetry.own import own as module
from mcp_hub.services.telemetry.own import tracing
from mcp_hub.services.telemetry.own.own import SILENT, Collected, OwnTelemetry
from tests.waiting import eventually


@pytest.fixture
def ingest(database: SqliteDatabase) -> Ingest:
    return Ingest(database, SqliteRecordStore())


async def kept(database: SqliteDatabase) -> list[Any]:
    records, series = telemetry_records, telemetry_series

    def read(connection: Connection) -> list[Any]:
        joined = records.join(series, records.c.series == series.c.series)
        query = select(records, series.c.name, series.c.service).select_from(joined)
        return list(connection.execute(query.order_by(records.c.time)))

    return await database.read(read)


async def test_spans_nest_and_are_kept_while_the_hub_runs(
    database: SqliteDatabase, ingest: Ingest
) -> None:
    own = OwnTelemetry()
    above = tracing.child_of(None)
    async with own.kept_by(ingest):
        with own.span("outer", {"size": 3}, parent=above) as outer, own.span("inner"):
            own.event("happened")

        async def all_kept() -> bool:
            return len(await kept(database)) == 3

        await eventually(all_kept)
    by_name = {row.name: row for row in await kept(database)}
    assert {row.trace_id for row in by_name.values()} == {above.trace_id}
    assert by_name["outer"].parent_id == above.span_id
    assert by_name["inner"].parent_id == outer.context.span_id
    assert by_name["happened"].span_id == by_name["inner"].span_id
    assert by_name["outer"].duration_ns >= by_name["inner"].duration_ns
    assert json.loads(by_name["outer"].attributes) == {"size": 3}
    assert {row.service for row in by_name.values()} == {"mcp-hub"}


async def test_what_is_left_is_kept_at_the_end(database: SqliteDatabase, ingest: Ingest) -> None:
    own = OwnTelemetry()
    async with own.kept_by(ingest):
        own.event("last")
    assert [row.name for row in await kept(database)] == ["last"]


async def test_an_error_is_the_spans_and_is_raised_on(
    database: SqliteDatabase, ingest: Ingest
) -> None:
    own = OwnTelemetry()
    async with own.kept_by(ingest):
        with pytest.raises(NotFound), own.span("find"):
            raise NotFound("There is no 'secret'.")
        with pytest.raises(ZeroDivisionError), own.span("divide"):
            _ = 1 / 0
    rows = {row.name: row for row in await kept(database)}
    assert json.loads(rows["find"].attributes) == {"error.type": "not_found"}
    assert json.loads(rows["divide"].attributes) == {"error.type": "ZeroDivisionError"}
    assert {row.severity for row in rows.values()} == {ERROR}


@pytest.mark.parametrize(
    ("collected", "names"),
    [
        (Collected(usage=True, errors=False), ["well"]),
        (Collected(usage=False, errors=True), ["badly"]),
        (Collected(usage=False, errors=False), []),
    ],
)
async def test_only_what_is_to_be_collected_is_kept(
    database: SqliteDatabase, ingest: Ingest, collected: Collected, names: list[str]
) -> None:
    own = OwnTelemetry(collected)
    async with own.kept_by(ingest):
        with own.span("well"):
            pass
        own.event("badly", error="unavailable")
    assert [row.name for row in await kept(database)] == names


async def test_where_nothing_is_collected_a_trace_is_passed_on_as_it_came() -> None:
    above = tracing.child_of(None)
    with SILENT.span("call", parent=above):
        assert tracing.current() == above
    with SILENT.span("call"):
        assert tracing.current() is None


async def test_the_buffer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BUFFERED", 10)
    own = OwnTelemetry()
    for _ in range(25):
        own.event("again")
    assert (own.buffered, own.dropped) == (10, 15)


class _Failing(Ingest):
    """Ingest over a database that is out of reach for the first `failures` times."""

    def fail(self, failures: int, error: Callable[[], Exception]) -> None:
        self.failures, self.error = failures, error

    async def record(self, batch: Batch) -> Accepted:
        if self.failures:
            self.failures -= 1
            raise self.error()
        return await super().record(batch)


async def test_what_the_database_refuses_for_now_is_kept_later(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.02)
    ingest = _Failing(database, SqliteRecordStore())
    ingest.fail(2, lambda: Unavailable("out of reach"))
    own = OwnTelemetry()
    async with own.kept_by(ingest):
        own.event("first")
        own.event("second")
        await eventually(lambda: own.buffered == 0)
    assert [row.name for row in await kept(database)] == ["first", "second"]
    assert own.dropped == 0


async def test_a_fault_of_the_hubs_loses_records_and_nothing_else(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.02)
    ingest = _Failing(database, SqliteRecordStore())
    ingest.fail(1, lambda: ZeroDivisionError())
    own = OwnTelemetry()
    async with own.kept_by(ingest):
        own.event("lost")
        await eventually(lambda: own.dropped == 1)
        own.event("kept")
    assert [row.name for row in await kept(database)] == ["kept"]
