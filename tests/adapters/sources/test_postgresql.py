from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument, TimedOut, Unavailable
from mcp_hub.adapters.sources.port import DataSource, Query
from mcp_hub.adapters.sources.postgresql import PostgresSource
from tests.adapters.sources.contract import (
    PEOPLE,
    Fill,
    SqlSourceContract,
    read,
    read_after,
)
from tests.proxy import Proxy
from tests.servers import SECRET_KEY, Server, postgres_url, run_sql

SETTING = "data.sources.shop.url"
_TYPES = {int: "bigint", float: "double precision", bool: "boolean", datetime: "timestamp"}


@pytest.fixture
async def url(postgres_server: Server) -> AsyncIterator[str]:
    """A database of its own."""
    name = f"s{uuid4().hex}"
    await run_sql(postgres_server.url, f"CREATE DATABASE {name}")
    yield postgres_url(postgres_server, name)
    await run_sql(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def source(url: str) -> AsyncIterator[PostgresSource]:
    source = PostgresSource(url, SETTING, timeout_s=10)
    yield source
    await source.close()


@pytest.fixture
def fill(url: str) -> Fill:
    async def fill(item: str, rows: list[dict[str, Any]]) -> None:
        names = list(rows[0]) if rows else ["n"]
        types = [
            next(
                (_TYPES.get(type(row[name]), "text") for row in rows if row[name] is not None),
                "text",
            )
            for name in names
        ]
        columns = ", ".join(f'"{n}" {t}' for n, t in zip(names, types, strict=True))
        connection = await asyncpg.connect(url)
        await connection.execute(f'CREATE TABLE IF NOT EXISTS "{item}" ({columns})')
        await connection.copy_records_to_table(
            item, records=[tuple(row[name] for name in names) for row in rows]
        )
        await connection.close()

    return fill


class TestPostgresSource(SqlSourceContract):
    growing = Query(cursor="n")

    @pytest.fixture
    def source(self, source: PostgresSource) -> DataSource:  # type: ignore[override]
        return source

    @pytest.fixture
    def fill(self, fill: Fill) -> Fill:  # type: ignore[override]
        return fill


async def test_a_select_with_parameters_of_their_types(source: PostgresSource, fill: Fill) -> None:
    await fill("people", PEOPLE)
    query = Query(
        sql="SELECT name FROM people WHERE born > $1 AND born < $2::timestamptz AND score > $3 "
        "AND $4::numeric > 0 AND $5::jsonb = '[1]'",
        parameters=["1900-01-01", "2000-01-01T00:00:00Z", 0.7, "1.5", "[1]"],
    )
    assert await read(source, "", query) == [{"name": "Grace 🚀"}]


async def test_types_without_a_like_become_their_nearest(source: PostgresSource) -> None:
    query = """SELECT 1.5::numeric AS n, 'NaN'::numeric AS nn, 'NaN'::float8 AS nan,
        date '2020-01-02' AS d, timestamptz '2020-01-02 03:00+02' AS t, interval '90 s' AS i,
        '{"a": 1}'::jsonb AS j, ARRAY[1, 2] AS a, '\\x0001'::bytea AS b, time '12:30' AS clock,
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS u, inet '10.0.0.1' AS ip, 'x'::"char" AS c
    """
    assert await read(source, "", Query(sql=query)) == [
        {
            "n": 1.5, "nn": None, "nan": None, "d": datetime(2020, 1, 2),  # noqa: DTZ001
            "t": datetime(2020, 1, 2, 1), "i": 90.0, "j": '{"a": 1}', "a": "[1, 2]",  # noqa: DTZ001
            "b": b"\0\1", "clock": "12:30:00", "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "ip": "10.0.0.1", "c": b"x",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "parameters", "error", "message"),
    [
        ("SELECT * FORM people", None, InvalidArgument, 'syntax error at or near "FORM", at char'),
        ("SELECT nope FROM people", None, InvalidArgument, '"nope" does not exist'),
        ("SELECT * FROM nowhere", None, InvalidArgument, '"nowhere" does not exist'),
        ("SELECT 1 / 0", None, InvalidArgument, "division by zero"),
        ("SELECT * FROM people WHERE age > $1", None, InvalidArgument, "parameters do not fit"),
        ("SELECT 1 WHERE 1 = $1", ["x"], InvalidArgument, "parameters do not fit"),
        ("SELECT 1 WHERE now() > $1", ["soon"], InvalidArgument, "parameters do not fit"),
        ("SELECT 1; SELECT 2", None, InvalidArgument, "multiple commands"),
        ("SELECT name, name FROM people", None, InvalidArgument, "named 'name'"),
        ("INSERT INTO people DEFAULT VALUES", None, Denied, "only ever read"),
        ("DELETE FROM people RETURNING name", None, Denied, "read-only transaction"),
        (
            "WITH d AS (DELETE FROM people RETURNING 1) SELECT * FROM d",
            None, Denied, "read-only transaction",
        ),
        ("SELECT * FROM people FOR UPDATE", None, Denied, "read-only transaction"),
        (
            "SELECT set_config('transaction_read_only', 'off', true)",
            None, Denied, "read-write mode",
        ),
        ("CREATE TABLE x (a int)", None, Denied, "only ever read"),
        ("COPY people TO PROGRAM 'cat'", None, Denied, "only ever read"),
    ],
)  # fmt: skip
async def test_a_select_says_what_is_wrong_with_it(
    source: PostgresSource,
    fill: Fill,
    query: str,
    parameters: list[Any] | None,
    error: type[HubError],
    message: str,
) -> None:
    await fill("people", PEOPLE)
    with pytest.raises(error, match=message) as raised:
        await read(source, "", Query(sql=query, parameters=parameters))
    assert raised.value.hint
    assert len(await read(source, "people")) == 3


async def test_a_query_that_takes_too_long_is_ended(url: str) -> None:
    source = PostgresSource(url, SETTING, timeout_s=0.2)
    with pytest.raises(TimedOut, match=r"0\.2 s"):
        await read(source, "", Query(sql="SELECT pg_sleep(60)"))


async def test_tables_of_other_schemas_and_keys(source: PostgresSource, url: str) -> None:
    await run_sql(
        url,
        "CREATE SCHEMA other",
        "CREATE TABLE other.numbers (n int PRIMARY KEY)",
        "INSERT INTO other.numbers VALUES (3), (1), (2)",
        "CREATE VIEW v AS SELECT n AS x FROM other.numbers ORDER BY n DESC",
    )
    assert await source.items() == ["other.numbers", "v"]
    assert await read(source, "other.numbers") == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert await read(source, "v") == [{"x": 3}, {"x": 2}, {"x": 1}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((SECRET_KEY, "wrong-password"), "authentication failed"),
        (("127.0.0.1", "nowhere.invalid"), "cannot be reached"),
        ((":hub-tests", "x:hub-tests"), "authentication failed"),
    ],
)
async def test_what_refuses_is_unavailable(url: str, change: tuple[str, str], message: str) -> None:
    source = PostgresSource(url.replace(*change), SETTING)
    for attempt in (source.check(), read(source, "people")):
        with pytest.raises(Unavailable, match=message) as raised:
            await attempt
        told = f"{raised.value.message} {raised.value.hint}"
        assert SETTING in told
        assert "***@" in told
        assert SECRET_KEY not in told
        assert "wrong-password" not in told


async def test_a_connection_that_breaks_is_unavailable(
    url: str, fill: Fill, postgres_server: Server
) -> None:
    await fill("large", [{"text": "x" * 1_000_000} for _ in range(40)])
    async with Proxy(postgres_server.port).running() as proxy:
        source = PostgresSource(
            url.replace(f":{postgres_server.port}/", f":{proxy.port}/"), SETTING
        )
        assert await source.items() == ["large"]
        proxy.cut_receiving = 20_000_000
        with pytest.raises(Unavailable, match="broke off"):
            await read(source, "large")


async def test_cursors_of_every_kind(source: PostgresSource, url: str) -> None:
    day, time = date(2020, 1, 2), datetime(2020, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001
    await run_sql(
        url,
        "CREATE TABLE k AS SELECT i AS b, i::numeric / 3 AS n, i::text AS t, "
        f"date '{day}' + i AS d, timestamp '{time}' + i * interval '1 day' AS s, "
        f"timestamptz '{time}Z' + i * interval '1 day' AS z FROM generate_series(1, 9) AS i",
    )
    for column in "bntdsz":
        query = Query(cursor=column, limit=4)
        rows, cursor = await read_after(source, "k", query, None)
        assert [row["b"] for row in rows] == [1, 2, 3, 4]
        rows, _ = await read_after(source, "k", query, cursor)
        assert [row["b"] for row in rows] == [5, 6, 7, 8]
    assert rows[0]["s"] == time + timedelta(days=5)
