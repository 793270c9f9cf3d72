"""The sandbox's contract: what a SELECT gives, and what it cannot do."""

import json
import time
from typing import Any

import anyio
import pytest
from sqlalchemy import text

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument, TimedOut
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.adapters.records.sandbox import MAX_SQL, Limits, Sandbox
from mcp_hub.adapters.records.views import VIEWS
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest

LIMITS = Limits(rows=100, characters=20_000, cell=2_000, timeout_s=10)
SHORT = Limits(rows=100, characters=20_000, cell=2_000, timeout_s=1)
NOW = time.time_ns() // 60_000_000_000 * 60_000_000_000


class SandboxContract:
    """Subclasses give `database`, its `records` and the `sandbox` on it."""

    @pytest.fixture
    async def filled(self, database: Database, records: RecordStore) -> None:
        made: list[dict[str, Any]] = [
            {"name": "request", "kind": "span", "service": "api", "time": NOW + i * 10**6,
             "duration_ms": i, "severity": "error" if i % 10 == 0 else None,
             "trace_id": f"{i + 1:032x}", "span_id": f"{i + 1:016x}", "resource": {"host": "h"},
             "attributes": {"status": 500 if i % 10 == 0 else 200, "http.route": f"/r{i % 3}"}}
            for i in range(200)
        ]  # fmt: skip
        made.append({"name": "app", "kind": "log", "body": "x" * 5_000, "time": NOW})
        made.append({"name": "app", "kind": "log", "body": "user 7 came", "time": NOW})
        await Ingest(database, records).record(from_objects(made, "event"))

    async def test_the_views_say_what_was_recorded(self, sandbox: Sandbox, filled: None) -> None:
        found = await sandbox.select(
            "SELECT name, severity, count(*) AS n, max(duration_ms) AS slowest FROM records "
            "WHERE kind = 'span' GROUP BY name, severity ORDER BY n DESC",
            LIMITS,
        )
        assert found.columns == ["name", "severity", "n", "slowest"]
        assert found.rows == [["request", None, 180, 199], ["request", "error", 20, 190]]
        assert found.ended is None
        one = await sandbox.select(
            "SELECT time, time_ns, trace_id, span_id, parent_id, service, attributes, resource "
            "FROM records WHERE duration_ms = 3 AND attributes->>'http.route' = '/r0'",
            LIMITS,
        )
        row = dict(zip(one.columns, one.rows[0], strict=True))
        assert row["time"][-5:] == ".003Z"
        assert row["time_ns"] == NOW + 3 * 10**6
        assert (row["trace_id"], row["span_id"]) == (f"{4:032x}", f"{4:016x}")
        assert row["parent_id"] is None
        assert json.loads(row["attributes"]) == {"status": 200, "http.route": "/r0"}
        assert json.loads(row["resource"]) == {"host": "h"}
        assert (await sandbox.select("SELECT * FROM rollups WHERE kind = 'span'", LIMITS)).rows == [
            [NOW, one.rows[0][0][:17] + "00.000Z", "span", "request", "api", 200, 20, 200,
             19_900, 0, 199]
        ]  # fmt: skip
        patterns = await sandbox.select(
            "SELECT p.template, p.severity, c.count FROM patterns p "
            "JOIN pattern_counts c ON c.pattern = p.pattern WHERE template LIKE 'user%'",
            LIMITS,
        )
        assert patterns.rows == [["user <*> came", None, 1]]
        keys = await sandbox.select("SELECT key, types FROM attributes ORDER BY key", LIMITS)
        assert keys.rows == [
            ["http.route", "string"], ["resource.host", "string"], ["status", "number"]
        ]  # fmt: skip

    async def test_every_view_can_be_read_whole(self, sandbox: Sandbox, filled: None) -> None:
        for view in VIEWS:
            found = await sandbox.select(f"SELECT * FROM {view.name}", LIMITS)
            assert found.columns == [column.name for column in view.columns]
            assert found.rows

    async def test_ordinary_sql_works(self, sandbox: Sandbox, filled: None) -> None:
        for sql in (
            "WITH slow AS (SELECT * FROM records WHERE duration_ms > 9) SELECT count(*) FROM slow",
            "WITH one AS (SELECT 1 AS x) SELECT count(*) FROM one",
            "WITH names AS (SELECT DISTINCT name FROM records) SELECT count(*) FROM names, NAMES n",
            "SELECT count(*) FROM (SELECT DISTINCT service, kind FROM records) x, rollups r",
            "SELECT name, row_number() OVER (PARTITION BY kind ORDER BY time_ns DESC) FROM records",
            "SELECT a.name FROM records a JOIN records b USING (id) LEFT JOIN rollups r "
            "ON r.name = a.name ORDER BY 1 LIMIT 5 OFFSET 2",
            "SELECT CASE WHEN severity IS NULL THEN 'fine' ELSE severity END, coalesce(value, 0), "
            "upper(substr(name, 1, 3)), length(body) FROM records -- a comment\n",
            "SELECT kind FROM records UNION ALL SELECT key FROM attributes ORDER BY 1",
            "SELECT count(*) FROM records WHERE name IN ('a', 'b') OR body LIKE '%it''s 100\\%%' "
            "OR NOT EXISTS (SELECT 1 FROM patterns)",
            "select Count(*) from RECORDS where Kind = 'log';",
            "SELECT count(*) FROM records WHERE attributes->>'a''b' IS NULL",
            'SELECT 1 AS "what else"',
        ):
            assert (await sandbox.select(sql, LIMITS)).rows, sql

    async def test_anything_else_is_refused(
        self, sandbox: Sandbox, filled: None, database: Database
    ) -> None:
        for sql in (
            "INSERT INTO records (name) VALUES ('x')",
            "UPDATE telemetry_records SET body = 'x'",
            "DELETE FROM telemetry_records",
            "DROP TABLE telemetry_records",
            "WITH d AS (DELETE FROM telemetry_records RETURNING *) SELECT * FROM d",
            "CREATE TABLE x (a int)",
            "SELECT 1; SELECT 2",
            "SELECT 1; DELETE FROM telemetry_records",
            "ATTACH DATABASE '/tmp/x.db' AS x",
            "PRAGMA query_only = OFF",
            "VACUUM INTO '/tmp/x.db'",
            "EXPLAIN SELECT * FROM records",
            "BEGIN",
            "COMMIT",
            "",
            "   -- nothing",
            "SELECT * FROM pragma_table_info('jobs')",
            "SELECT load_extension('x')",
            "SELECT randomblob(1000000000)",
            "SELECT zeroblob(1000000000)",
            "SELECT printf('%1000000000d', 1)",
            "SELECT pg_sleep(100)",
            "SELECT pg_catalog.pg_sleep(100)",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT query_to_xml('select * from jobs', true, true, '')",
            "SELECT set_config('statement_timeout', '0', false)",
            "SELECT current_setting('data_directory')",
            "SELECT lo_import('/etc/passwd')",
            "SELECT dblink('host=x', 'SELECT 1')",
            "SELECT * FROM generate_series(1, 1000000000)",
            "SELECT repeat('x', 1000000000)",
            "COPY telemetry_records TO '/tmp/x'",
            "SET statement_timeout = 0",
            "DO $$ BEGIN PERFORM 1; END $$",
            "SELECT * FROM records FOR UPDATE",
            "SELECT * INTO x FROM records",
            "SELECT 'jobs'::regclass",
            "SELECT date_part('hour from now()), pg_sleep(100), extract(hour', now())",
        ):
            begin = time.monotonic()
            with pytest.raises((Denied, InvalidArgument)) as error:
                await sandbox.select(sql, SHORT)
            assert error.value.hint, sql
            assert time.monotonic() - begin < 0.9, sql
        count = text("SELECT count(*) FROM telemetry_records")
        assert await database.read(lambda c: c.execute(count).scalar_one()) == 202

    @pytest.mark.parametrize(
        "table",
        [
            "jobs", "models", "telemetry_alerts", "telemetry_records", "TELEMETRY_ROLLUPS",
            "sqlite_master", "pragma_database_list", "pg_class", "pg_catalog.pg_roles",
        ],
    )  # fmt: skip
    async def test_no_other_table_is_read(self, sandbox: Sandbox, filled: None, table: str) -> None:
        for sql in (
            "SELECT * FROM {0}",
            "SELECT count(*) FROM {0}",
            "SELECT (SELECT max(1) FROM {0}) FROM records",
            "SELECT 1 FROM records WHERE EXISTS (SELECT 1 FROM {0})",
            "WITH a AS (SELECT * FROM {0}) SELECT * FROM a",
            "SELECT * FROM records UNION SELECT * FROM {0}",
            "WITH records AS (SELECT * FROM {0}) SELECT * FROM records",
            "SELECT * FROM records r JOIN {0} j ON 1 = 1",
            "SELECT * FROM (WITH {0} AS (SELECT 1) SELECT * FROM {0}) a, {0}",
            "SELECT count(*) FROM (WITH {0} AS (SELECT 1) SELECT * FROM {0}) a, {0}",
            "WITH records AS (SELECT * FROM {0}) SELECT count(*) FROM records",
            "SELECT count(*) FROM main.{0}",
            "SELECT * FROM main.{0}",
            "SELECT * FROM public.{0}",
        ):
            with pytest.raises((Denied, InvalidArgument)):
                await sandbox.select(sql.format(table), LIMITS)

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT count(*) FROM records a, records b, records c, records d WHERE a.id < b.id",
            "SELECT a.id FROM records a, records b, records c, records d ORDER BY a.id || d.id",
            "SELECT count(*) FROM (SELECT DISTINCT a.id, b.id, c.id, a.body FROM records a, "
            "records b, records c, records d) x",
        ],
    )
    async def test_what_takes_too_long_is_ended(
        self, sandbox: Sandbox, filled: None, sql: str
    ) -> None:
        begin = time.monotonic()
        async with anyio.create_task_group() as tasks:

            async def other() -> None:
                assert (await sandbox.select("SELECT count(*) FROM records", LIMITS)).rows == [
                    [202]
                ]

            tasks.start_soon(other)
            with pytest.raises(TimedOut, match="1 s") as error:
                await sandbox.select(sql, SHORT)
            assert time.monotonic() - begin < 4
            assert "time_ns" in str(error.value.hint)
        assert (await sandbox.select("SELECT 1", LIMITS)).rows == [[1]]

    async def test_what_is_too_much_is_cut(self, sandbox: Sandbox, filled: None) -> None:
        found = await sandbox.select("SELECT name FROM records", LIMITS)
        assert (len(found.rows), found.ended) == (100, "rows")
        few = Limits(rows=100, characters=300, cell=2_000, timeout_s=10)
        found = await sandbox.select("SELECT trace_id FROM records WHERE kind = 'span'", few)
        assert (len(found.rows), found.ended) == (9, "characters")
        found = await sandbox.select("SELECT body FROM records WHERE body LIKE 'x%'", LIMITS)
        assert found.cut
        assert max(len(row[0] or "") for row in found.rows) == 2_001

    async def test_what_is_wrong_is_told(self, sandbox: Sandbox, filled: None) -> None:
        for sql, message, hint in (
            ("SELECT durationms FROM records", "no column 'durationms'", "'duration_ms'"),
            ("SELECT r.nmae FROM records r", "no column 'nmae'", "'name'"),
            ("SELECT * FROM record", "no view 'record'", "'records'"),
            ("SELECT * FROM telemetry_records", "no view 'telemetry_records'", "records"),
            ("SELECT name FROM records WHERE", "SQL is wrong", "hub://schema/telemetry"),
            ("SELECT count( FROM records", "SQL is wrong", "hub://schema/telemetry"),
            ("SELECT bogus(1)", "function bogus", "records"),
            ("DELETE FROM records", "DELETE", "SELECT"),
            (" \n", "is empty", "hub://schema/telemetry"),
        ):
            with pytest.raises(HubError) as error:
                await sandbox.select(sql, LIMITS)
            assert message in error.value.message, sql
            assert hint in str(error.value.hint), sql
        for sql in ("SELECT '\0'", "SELECT '\ud800'", "SELECT " + "1," * MAX_SQL + "1"):
            with pytest.raises(InvalidArgument):
                await sandbox.select(sql, LIMITS)
        with pytest.raises(HubError):
            await sandbox.select("SELECT " + "(" * 4_000 + "1" + ")" * 4_000, LIMITS)
