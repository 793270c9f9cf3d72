"""What the sources promise. A source's test class gives `source` and `fill`."""

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, NotFound
from mcp_hub.adapters.sources.port import (
    DataSource,
    FileSource,
    GrowingSource,
    Query,
    Row,
    Source,
)

Fill = Callable[[str, list[dict[str, Any]]], Awaitable[None]]


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC).replace(tzinfo=None)


PEOPLE: list[dict[str, Any]] = [
    {"name": "Ada", "age": 36, "born": _day(1815, 12, 10), "score": 0.5, "ok": True},
    {"name": "Grace 🚀", "age": None, "born": _day(1906, 12, 9), "score": 1.5, "ok": False},
    {"name": "", "age": -(2**63), "born": None, "score": float("inf"), "ok": None},
]


async def read(source: DataSource, item: str, query: Query | None = None) -> list[Row]:
    async with aclosing(source.rows(item, query or Query())) as batches:
        return [row async for batch in batches for row in batch]


async def read_after(
    source: GrowingSource, item: str, query: Query, cursor: str | None
) -> tuple[list[Row], str | None]:
    """The rows behind a cursor, and the cursor behind them."""
    rows: list[Row] = []
    async with aclosing(source.rows_after(item, query, cursor)) as batches:
        async for batch in batches:
            rows += batch.rows
            cursor = batch.cursor
    return rows, cursor


class SourceContract:
    """What every source promises."""

    @pytest.fixture
    def source(self) -> Source:
        raise NotImplementedError

    @pytest.fixture
    def fill(self) -> Fill:
        """Put rows into an item of the source's, in their order."""
        raise NotImplementedError

    async def test_names_its_items(self, source: Source, fill: Fill) -> None:
        assert await source.items() == []
        await fill("b", PEOPLE)
        await fill("a", PEOPLE)
        assert await source.items() == ["a", "b"]

    async def test_says_what_it_is(self, source: Source) -> None:
        assert await source.check()


class FileSourceContract(SourceContract):
    """What every source of files promises."""

    async def test_gives_the_file_as_it_is_and_says_where_it_lay(
        self, source: FileSource, fill: Fill, tmp_path: Path
    ) -> None:
        await fill("folder/people é.jsonl", PEOPLE)
        file = tmp_path / "content"
        told = await source.fetch("folder/people é.jsonl", file, 10_000)
        assert [json.loads(line) for line in file.read_text().splitlines()] == [
            json.loads(json.dumps(row, default=str)) for row in PEOPLE
        ]
        assert "folder/people é.jsonl" in told

    async def test_too_large_a_file_is_refused_unread(
        self, source: FileSource, fill: Fill, tmp_path: Path
    ) -> None:
        await fill("people.jsonl", PEOPLE)
        with pytest.raises(LimitExceeded, match="at most 10 are"):
            await source.fetch("people.jsonl", tmp_path / "content", 10)
        assert not (tmp_path / "content").exists()

    async def test_an_unknown_item_is_not_found_and_the_nearest_named(
        self, source: FileSource, fill: Fill, tmp_path: Path
    ) -> None:
        await fill("people.csv", PEOPLE)
        with pytest.raises(NotFound, match=r"'peple\.csv'") as raised:
            await source.fetch("peple.csv", tmp_path / "content", 10)
        assert "'people.csv'" in (raised.value.hint or "")


class GrowingSourceContract:
    """What every source promises whose items grow. `growing` is the query that reads them so."""

    growing = Query()

    async def test_what_was_added_comes_after_the_cursor(
        self, source: GrowingSource, fill: Fill
    ) -> None:
        await fill("many", [{"n": number} for number in range(1, 701)])
        first, cursor = await read_after(source, "many", self.growing, None)
        assert [int(row["n"]) for row in first] == list(range(1, 701))  # type: ignore[arg-type]
        assert await read_after(source, "many", self.growing, cursor) == ([], cursor)
        await fill("many", [{"n": number} for number in range(701, 1001)])
        rest, cursor = await read_after(source, "many", self.growing, cursor)
        assert [int(row["n"]) for row in rest] == list(range(701, 1001))  # type: ignore[arg-type]
        assert await read_after(source, "many", self.growing, cursor) == ([], cursor)

    async def test_each_batch_is_a_place_to_go_on_from(
        self, source: GrowingSource, fill: Fill
    ) -> None:
        await fill("many", [{"n": number} for number in range(1, 701)])
        limited = replace(self.growing, limit=300)
        async with aclosing(source.rows_after("many", limited, None)) as batches:
            begun = await anext(batches)
        assert 0 < len(begun.rows) <= 300
        found, cursor = begun.rows, begun.cursor
        while len(found) < 700:
            rows, after = await read_after(source, "many", limited, cursor)
            assert 0 < len(rows) <= 300
            found, cursor = [*found, *rows], after or ""
        assert [int(row["n"]) for row in found] == list(range(1, 701))  # type: ignore[arg-type]


class DataSourceContract(SourceContract):
    """What every source of tables promises."""

    @staticmethod
    def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What a server that lacks some types makes of rows that were put into it."""
        return rows

    async def test_gives_the_rows_as_they_are(self, source: DataSource, fill: Fill) -> None:
        await fill("people", PEOPLE)
        rows = await read(source, "people", Query(fields=list(PEOPLE[0])))
        assert rows == self.told(PEOPLE)

    async def test_the_order_is_always_the_same(self, source: DataSource, fill: Fill) -> None:
        await fill("many", [{"n": number} for number in range(2500)])
        first = await read(source, "many", Query(fields=["n"]))
        assert [int(row["n"]) for row in first] == list(range(2500))  # type: ignore[arg-type]
        assert await read(source, "many", Query(fields=["n"])) == first

    async def test_a_limit_and_fields_leave_out_the_rest(
        self, source: DataSource, fill: Fill
    ) -> None:
        await fill("people", PEOPLE)
        assert await read(source, "people", Query(fields=["name"], limit=2)) == [
            {"name": "Ada"}, {"name": "Grace 🚀"}
        ]  # fmt: skip

    async def test_large_items_come_in_batches(self, source: DataSource, fill: Fill) -> None:
        text = "x" * 1_000_000
        await fill("large", [{"n": number, "text": text} for number in range(40)])
        async with aclosing(source.rows("large", Query())) as batches:
            sizes = [len(batch) async for batch in batches]
        assert sum(sizes) == 40
        assert max(sizes) < 20

    async def test_reading_may_be_left_early(self, source: DataSource, fill: Fill) -> None:
        await fill("large", [{"text": "x" * 1_000_000} for _ in range(40)])
        async with aclosing(source.rows("large", Query())) as batches:
            assert await anext(batches)

    async def test_an_empty_answer_has_no_batches(self, source: DataSource, fill: Fill) -> None:
        await fill("empty", [])
        assert await read(source, "empty") == []

    async def test_a_part_of_a_query_for_other_sources_is_refused(
        self, source: DataSource, fill: Fill
    ) -> None:
        await fill("people", PEOPLE)
        with pytest.raises(InvalidArgument, match=r"query\.cursor is not for"):
            await read(source, "people", Query(cursor="n"))

    async def test_an_unknown_item_is_not_found_and_the_nearest_named(
        self, source: DataSource, fill: Fill
    ) -> None:
        await fill("people", PEOPLE)
        with pytest.raises(NotFound, match="'peple'") as raised:
            await read(source, "peple")
        assert "'people'" in (raised.value.hint or "")


class SqlSourceContract(DataSourceContract, GrowingSourceContract):
    """What every source of SQL promises besides."""

    async def test_a_field_that_is_no_column_is_refused(
        self, source: DataSource, fill: Fill
    ) -> None:
        await fill("people", PEOPLE)
        with pytest.raises(NotFound, match="people has no column 'nam'") as error:
            await read(source, "people", Query(fields=["age", "nam"]))
        assert error.value.hint is not None
        assert error.value.hint.startswith("Did you mean 'name'? Existing columns: age, born,")
