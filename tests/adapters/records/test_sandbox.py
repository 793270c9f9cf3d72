"""The sandbox on each database, and what only one of them could be tempted to."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument, TimedOut
from mcp_hub.adapters.records.postgresql import PostgresRecordStore
from mcp_hub.adapters.records.postgresql_sandbox import READER, PostgresSandbox
from mcp_hub.adapters.records.postgresql_select import checked_select
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.adapters.records.sqlite_sandbox import SqliteSandbox
from tests import servers
from tests.servers import Server

from .sandbox_contract import LIMITS, SHORT, SandboxContract


class TestSqliteSandbox(SandboxContract):
    @pytest.fixture
    def records(self) -> SqliteRecordStore:
        return SqliteRecordStore()

    @pytest.fixture
    def sandbox(self, database: SqliteDatabase, tmp_path: Path) -> SqliteSandbox:
        return SqliteSandbox(tmp_path / "hub.db")

    @pytest.mark.parametrize(
        "sql",
        [
            "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT max(x) FROM r",
            "WITH RECURSIVE r(x) AS (SELECT 1 UNION SELECT x + 1 FROM r) SELECT max(x) FROM r",
        ],
    )
    async def test_what_recurses_for_ever_is_ended(self, sandbox: SqliteSandbox, sql: str) -> None:
        with pytest.raises(TimedOut):
            await sandbox.select(sql, SHORT)

    async def test_what_recurses_is_counted(self, sandbox: SqliteSandbox, filled: None) -> None:
        for sql in (
            "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r WHERE x < 202) "
            "SELECT count(*) FROM r",
            "WITH RECURSIVE r AS (SELECT name FROM records) SELECT count(*) FROM r",
        ):
            assert (await sandbox.select(sql, LIMITS)).rows == [[202]]

    async def test_values_cannot_grow_without_bound(self, sandbox: SqliteSandbox) -> None:
        doubled = "WITH RECURSIVE r(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM r) "
        for sql in (
            f"{doubled} SELECT max(length(x)) FROM r",
            f"{doubled} SELECT group_concat(x) FROM r",
            "SELECT " + ",".join(["1"] * 2_000),
        ):
            with pytest.raises(HubError):
                await sandbox.select(sql, LIMITS)

    async def test_json_is_taken_apart(self, sandbox: SqliteSandbox, filled: None) -> None:
        found = await sandbox.select(
            "SELECT j.key, count(*) FROM records r, json_each(r.attributes) j GROUP BY 1", LIMITS
        )
        assert found.rows == [["http.route", 200], ["status", 200]]

    @pytest.mark.parametrize(
        "condition",
        ["time > datetime('now')", "minute BETWEEN DATETIME('now') AND 'z'",
         "r.time>='2026-11-27 22:00:00'"],
    )  # fmt: skip
    async def test_a_time_that_would_not_compare_is_refused(
        self, sandbox: SqliteSandbox, condition: str
    ) -> None:
        with pytest.raises(InvalidArgument) as refused:
            await sandbox.select(f"SELECT 1 FROM records r WHERE {condition}", LIMITS)
        assert "time_ns" in str(refused.value.hint)

    @pytest.mark.parametrize(
        "condition",
        ["time > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 hour')", "datetime(time) > datetime()",
         "time > '2100-01-01T00:00'", "time_ns > unixepoch() * 1000000000", "date(time) > date()"],
    )  # fmt: skip
    async def test_a_time_that_compares_is_taken(
        self, sandbox: SqliteSandbox, filled: None, condition: str
    ) -> None:
        found = await sandbox.select(f"SELECT 1 FROM records WHERE {condition}", LIMITS)
        assert found.rows == []

    async def test_comments_cost_no_time(self, sandbox: SqliteSandbox) -> None:
        with pytest.raises(Denied):
            await sandbox.select("/**/" * 2_000 + "x", LIMITS)


class TestPostgresSandbox(SandboxContract):
    @pytest.fixture
    def records(self) -> PostgresRecordStore:
        return PostgresRecordStore()

    @pytest.fixture
    async def database(self, postgres_url: str) -> AsyncIterator[PostgresDatabase]:
        database = PostgresDatabase(postgres_url)
        yield database
        await database.close()

    @pytest.fixture
    def sandbox(self, database: PostgresDatabase) -> PostgresSandbox:
        return PostgresSandbox(database)

    async def test_what_recurses_is_refused(self, sandbox: PostgresSandbox) -> None:
        sql = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT * FROM r"
        with pytest.raises(Denied, match="RECURSIVE"):
            await sandbox.select(sql, LIMITS)

    async def test_rows_that_come_slowly_are_ended_in_time(
        self, sandbox: PostgresSandbox, filled: None
    ) -> None:
        begin = time.monotonic()
        with pytest.raises(TimedOut):
            await sandbox.select(
                "SELECT 1 FROM records a, records b, records c "
                "WHERE md5(a.id || b.id || c.id) LIKE '0000%'",
                SHORT,
            )
        assert time.monotonic() - begin < 3
        assert (await sandbox.select("SELECT 1", LIMITS)).rows == [[1]]

    async def test_what_grows_is_refused(self, sandbox: PostgresSandbox, filled: None) -> None:
        for sql in (
            "SELECT string_agg(body, '') FROM records",
            "SELECT ARRAY(SELECT body FROM records)",
            "SELECT replace(body, 'x', body) FROM records",
            "SELECT " + "||".join(["body"] * 20) + " FROM records",
            "SELECT 'x'::char(10000000)",
            "SELECT lpad('x', 100000000)",
        ):
            with pytest.raises(Denied):
                await sandbox.select(sql, LIMITS)

    async def test_values_that_python_has_not_are_told(self, sandbox: PostgresSandbox) -> None:
        with pytest.raises(InvalidArgument):
            await sandbox.select("SELECT '200000-01-01'::date", LIMITS)
        with pytest.raises(InvalidArgument):
            await sandbox.select("SELECT 1 / 0", LIMITS)

    async def test_a_with_is_not_known_before_it(self, sandbox: PostgresSandbox) -> None:
        sql = "WITH a AS (SELECT * FROM jobs), jobs AS (SELECT 1) SELECT * FROM a"
        with pytest.raises(InvalidArgument, match="no view 'jobs'"):
            await sandbox.select(sql, LIMITS)

    async def test_its_own_functions_work(self, sandbox: PostgresSandbox, filled: None) -> None:
        for sql in (
            "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) FROM records",
            "SELECT date_trunc('minute', to_timestamp(time_ns / 1e9)), count(*) FROM records "
            "WHERE time_ns > (extract(epoch FROM now()) - 7200) * 1e9 GROUP BY 1",
            "SELECT key, count(*) FROM records, jsonb_each_text(attributes) GROUP BY key",
            "SELECT (attributes->>'status')::int AS status, count(*) FILTER (WHERE kind = 'span') "
            "FROM records GROUP BY ROLLUP (1)",
            "SELECT count(*) FROM records WHERE attributes @> '{\"a\": 5}' OR attributes ? 'x'",
            "SELECT DISTINCT ON (kind) kind, name FROM records ORDER BY kind, time_ns DESC",
            "SELECT to_char(now() - interval '5 minutes', 'HH24:MI'), body ~* 'a.*b' FROM records",
            "SELECT date_bin('5 minutes', to_timestamp(time_ns / 1e9), '2000-01-01'::timestamptz) "
            "FROM records",
        ):
            assert (await sandbox.select(sql, LIMITS)).rows, sql

    async def test_a_reader_is_used_where_there_is_one(
        self,
        sandbox: PostgresSandbox,
        filled: None,
        postgres_server: Server,
        postgres_url: str,
        database: PostgresDatabase,
    ) -> None:
        def prepared(*statements: str) -> None:
            for statement in statements:
                asyncio.run(servers.run_sql(postgres_url, statement))

        tables = "telemetry_records, telemetry_series, telemetry_resources"
        await asyncio.to_thread(
            prepared, f"CREATE ROLE {READER}", f"GRANT SELECT ON {tables} TO {READER}"
        )
        try:
            assert (await sandbox.select("SELECT count(*) FROM records", LIMITS)).rows == [[202]]
            with pytest.raises(Denied, match="telemetry_rollups") as error:
                await sandbox.select("SELECT count(*) FROM rollups", LIMITS)
            assert READER in str(error.value.hint)
            who = text("SELECT current_user")
            assert await database.read(lambda c: c.execute(who).scalar_one()) == "hub"
        finally:
            await asyncio.to_thread(prepared, f"DROP OWNED BY {READER}", f"DROP ROLE {READER}")


PARTS = [
    "SELECT", "*", "FROM", "records", "jobs", "pg_sleep", "(", ")", "'", "''", '"', "$$", "--",
    "/*", "*/", ";", ",", "WITH", "AS", "x", "UNION", "WHERE", "E'", "\\", "\n", "::", "regclass",
    "->>", "date_part", "extract", "1", "a.b", "U&", "||", "lateral", "[", "]", "interval", "cast",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=12), st.sampled_from([" ", ""]))
def test_what_passes_reads_no_other_table(parts: list[str], glue: str) -> None:
    """Whatever is written: where it passes, what will be run names no table but the views."""
    try:
        sql = checked_select("SELECT " + glue.join(parts))
    except HubError:
        return
    bare = re.sub(r"""'(?:[^']|'')*'""", "''", sql)
    assert not re.search(r'(?:FROM|JOIN) "(?:jobs|x|a)"(?! AS)', bare)
    # After a comma, what a dot follows is a column.
    assert not re.search(r', "(?:jobs|x|a)"(?! AS|\.)', bare)
    unquoted = re.sub(r'"[^"]*"', "", bare).lower()
    assert "pg_sleep" not in unquoted
    assert ";" not in unquoted
