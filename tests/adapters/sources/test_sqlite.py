import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument, TimedOut
from mcp_hub.adapters.sources.port import DataSource, GrowingSource, Query
from mcp_hub.adapters.sources.sqlite import SqliteSource
from tests.adapters.sources.contract import (
    PEOPLE,
    Fill,
    SqlSourceContract,
    read,
    read_after,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "what? #1.db"
    sqlite3.connect(path).close()
    return path


@pytest.fixture
async def source(path: Path) -> AsyncIterator[SqliteSource]:
    source = SqliteSource(path, timeout_s=10)
    yield source
    await source.close()


@pytest.fixture
def run(path: Path) -> Callable[[str], None]:
    def run(script: str) -> None:
        connection = sqlite3.connect(path)
        connection.executescript(script)
        connection.close()

    return run


@pytest.fixture
def fill(path: Path) -> Fill:
    async def fill(item: str, rows: list[dict[str, Any]]) -> None:
        names = list(rows[0]) if rows else ["n"]
        columns = ", ".join(f'"{name}"' for name in names)
        with sqlite3.connect(path) as connection:
            connection.execute(f'CREATE TABLE IF NOT EXISTS "{item}" ({columns})')
            connection.executemany(
                f'INSERT INTO "{item}" VALUES ({", ".join("?" * len(names))})',
                [[_stored(row[name]) for name in names] for row in rows],
            )
        connection.close()

    return fill


def _stored(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return int(value) if isinstance(value, bool) else value


class TestSqliteSource(SqlSourceContract):
    growing = Query(cursor="n")

    @pytest.fixture
    def source(self, source: SqliteSource) -> DataSource:  # type: ignore[override]
        return source

    @pytest.fixture
    def fill(self, fill: Fill) -> Fill:  # type: ignore[override]
        return fill

    @staticmethod
    def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """SQLite has no booleans and no times."""
        return [{name: _stored(value) for name, value in row.items()} for row in rows]


async def test_a_select_with_parameters(source: SqliteSource, fill: Fill) -> None:
    await fill("people", PEOPLE)
    query = Query(sql="SELECT name, age * 2 AS twice FROM people WHERE age > ?", parameters=[0])
    assert await read(source, "", query) == [{"name": "Ada", "twice": 72}]


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("SELECT * FORM people", InvalidArgument, "syntax error"),
        ("SELECT nope FROM people", InvalidArgument, "no such column: nope"),
        ("SELECT * FROM nowhere", InvalidArgument, "no such table: nowhere"),
        ("SELECT * FROM people WHERE age > ?", InvalidArgument, "number of bindings"),
        ("SELECT 1; SELECT 2", InvalidArgument, "one statement at a time"),
        ("SELECT name, name FROM people", InvalidArgument, "named 'name'"),
        ("SELECT zeroblob(100000000)", InvalidArgument, "too big"),
        ("INSERT INTO people VALUES (1, 2, 3, 4, 5) RETURNING name", Denied, "only ever read"),
        ("DELETE FROM people", Denied, "only ever read"),
        ("CREATE TABLE x (a)", Denied, "only ever read"),
        ("ATTACH '/etc/passwd' AS other", Denied, "only ever read"),
        ("VACUUM INTO 'copy.db'", Denied, "only ever read"),
        ("PRAGMA query_only = OFF", Denied, "only ever read"),
        ("-- nothing", Denied, "no rows"),
    ],
)
async def test_a_select_says_what_is_wrong_with_it(
    source: SqliteSource, fill: Fill, query: str, error: type[HubError], message: str
) -> None:
    await fill("people", PEOPLE)
    with pytest.raises(error, match=message) as raised:
        await read(source, "", Query(sql=query))
    assert raised.value.hint
    assert len(await read(source, "people")) == 3


async def test_a_query_that_takes_too_long_is_ended(path: Path) -> None:
    source = SqliteSource(path, timeout_s=0.2)
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    )
    with pytest.raises(TimedOut, match=r"0\.2 s"):
        await read(source, "", Query(sql=endless))
    await source.close()


async def test_tables_views_and_odd_names(source: SqliteSource, run: Callable[[str], None]) -> None:
    run(
        'CREATE TABLE "odd ""name"" ;" ("a b" TEXT PRIMARY KEY) WITHOUT ROWID;'
        'INSERT INTO "odd ""name"" ;" VALUES (\'z\'), (\'a\');'
        'CREATE VIEW v AS SELECT "a b" AS x FROM "odd ""name"" ;" ORDER BY 1 DESC;'
    )
    assert await source.items() == ['odd "name" ;', "v"]
    assert await read(source, 'odd "name" ;') == [{"a b": "a"}, {"a b": "z"}]
    assert await read(source, "v") == [{"x": "z"}, {"x": "a"}]


async def test_what_is_no_sqlite_file_is_said(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    file.write_text("name,age\n" * 200)
    source = SqliteSource(file)
    with pytest.raises(InvalidArgument, match="no sound SQLite file"):
        await source.items()
    await source.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(), "query.cursor is missing"),
        (Query(cursor="m"), "no column 'm'"),
        (Query(cursor="same"), "two rows have the same same, 1"),
    ],
)
async def test_a_cursor_must_grow(
    source: SqliteSource, fill: Fill, query: Query, message: str
) -> None:
    await fill("many", [{"n": number, "same": 1} for number in range(3)])
    growing: GrowingSource = source
    with pytest.raises(InvalidArgument, match=message):
        await read_after(growing, "many", query, None)


async def test_a_select_may_grow(source: SqliteSource, fill: Fill) -> None:
    await fill("many", [{"n": number} for number in range(10)])
    query = Query(sql="SELECT n FROM many WHERE n % ? = 0 -- even;", parameters=[2], cursor="n")
    rows, cursor = await read_after(source, "", query, None)
    await fill("many", [{"n": number} for number in range(10, 14)])
    assert [row["n"] for row in rows] == [0, 2, 4, 6, 8]
    assert (await read_after(source, "", query, cursor))[0] == [{"n": 10}, {"n": 12}]
