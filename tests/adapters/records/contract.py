"""What every record store promises, on the database it is for."""

from typing import Any

import pytest
from sqlalchemy import func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_records
from mcp_hub.adapters.records.port import RecordStore, Row

DAY_NS = 24 * 3600 * 10**9
BEGIN = 1_790_000_000 * 10**9 // DAY_NS * DAY_NS


def row(number: int, time: int = BEGIN, **values: Any) -> Row:
    fields: dict[str, Any] = dict.fromkeys(Row._fields)
    fields |= {"time": time, "id": number.to_bytes(16, "big"), "series": 7, "resource": 0}
    return Row(**(fields | {"attributes": "{}"} | values))


class RecordsContract:
    @pytest.fixture
    def database(self) -> Database:
        """An empty database with the schema."""
        raise NotImplementedError

    @pytest.fixture
    def store(self) -> RecordStore:
        raise NotImplementedError

    @pytest.mark.parametrize("all_new", [True, False])
    @pytest.mark.parametrize("count", [1, 7, 1_234])
    async def test_rows_are_kept(
        self, database: Database, store: RecordStore, count: int, all_new: bool
    ) -> None:
        rows = [row(number, BEGIN + number) for number in range(count)]
        assert await insert(database, store, rows, all_new=all_new) == []
        assert await total(database) == count

    async def test_every_column_is_kept(self, database: Database, store: RecordStore) -> None:
        full = row(
            1, severity=17, trace_id=b"t" * 16, span_id=b"s" * 8, parent_id=b"p" * 8,
            duration_ns=2**62, value=-1.5, unit="ms", body='quote " and ü\n',
            attributes='{"a": "b"}', resource=2**62, pattern=2**62,
        )  # fmt: skip
        await insert(database, store, [full], all_new=True)
        kept = await database.read(lambda c: c.execute(select(telemetry_records)).one()._asdict())
        attributes = kept.pop("attributes")
        assert attributes in ({"a": "b"}, '{"a": "b"}')
        assert kept == {k: v for k, v in full._asdict().items() if k != "attributes"}

    async def test_what_was_there_is_told_of_and_stays(
        self, database: Database, store: RecordStore
    ) -> None:
        await insert(database, store, [row(1, body="first")], all_new=False)
        again = [row(0), row(1, body="second"), row(2), row(2), row(1, BEGIN + 1)]
        assert await insert(database, store, again, all_new=False) == [1, 3]
        assert await total(database) == 4
        bodies = await database.read(
            lambda c: c.execute(select(telemetry_records.c.body)).scalars().all()
        )
        assert sorted(body for body in bodies if body) == ["first"]

    async def test_many_that_were_there(self, database: Database, store: RecordStore) -> None:
        rows = [row(number) for number in range(1_500)]
        await insert(database, store, rows[::2], all_new=True)
        assert await insert(database, store, rows, all_new=False) == list(range(0, 1_500, 2))
        assert await total(database) == 1_500

    async def test_old_ones_are_removed(self, database: Database, store: RecordStore) -> None:
        old = [row(number, BEGIN + number * DAY_NS) for number in range(4)]
        await insert(database, store, old, all_new=True)
        before = BEGIN + 2 * DAY_NS

        async def delete() -> int:
            return await database.write(lambda c: store.delete_before(c, before, 1))

        assert [await delete(), await delete(), await delete()] == [1, 1, 0]
        assert await total(database) == 2
        assert await insert(database, store, [old[0]], all_new=False) == []


async def insert(
    database: Database, store: RecordStore, rows: list[Row], *, all_new: bool
) -> list[int]:
    return await database.write(lambda c: store.insert(c, rows, all_new=all_new))


async def total(database: Database) -> int:
    count = select(func.count()).select_from(telemetry_records)
    return await database.read(lambda c: int(c.execute(count).scalar_one()))
