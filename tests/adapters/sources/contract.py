"""What every source promises. A source's test class gives `source` and `fill`."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest

from mcp_hub.adapters.errors import NotFound
from mcp_hub.adapters.sources.port import DataSource, Query, Row

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


class DataSourceContract:
    @pytest.fixture
    def source(self) -> DataSource:
        raise NotImplementedError

    @pytest.fixture
    def fill(self) -> Fill:
        """Put rows into an item of the source's, in their order."""
        raise NotImplementedError

    async def test_gives_the_rows_as_they_are(self, source: DataSource, fill: Fill) -> None:
        await fill("people", PEOPLE)
        rows = await read(source, "people", Query(fields=list(PEOPLE[0])))
        assert rows == PEOPLE

    async def test_the_order_is_always_the_same(self, source: DataSource, fill: Fill) -> None:
        await fill("many", [{"n": number} for number in range(2500)])
        first = await read(source, "many", Query(fields=["n"]))
        assert sorted(row["n"] for row in first) == list(range(2500))  # type: ignore[type-var]
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

    async def test_an_unknown_item_is_not_found_and_the_nearest_named(
        self, source: DataSource, fill: Fill
    ) -> None:
        await fill("people", PEOPLE)
        with pytest.raises(NotFound, match="'peple'") as raised:
            await read(source, "peple")
        assert "'people'" in (raised.value.hint or "")

    async def test_names_its_items(self, source: DataSource, fill: Fill) -> None:
        assert await source.items() == []
        await fill("b", PEOPLE)
        await fill("a", PEOPLE)
        assert await source.items() == ["a", "b"]

    async def test_says_what_it_is(self, source: DataSource) -> None:
        assert await source.check()
