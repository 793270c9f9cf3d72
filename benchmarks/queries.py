"""Aggregates of `mcp-hub` over a day of telemetry beside the plain SQL on the same database.

The records are taken in through the hub's own ingest, then the hours that have ended are sealed;
the day ends now, so that the last hour is not. Each question is asked of the hub and of the
database in turn, warm, on the same connection settings. The SQL is what one would write by hand:
GROUP BY over the records with their indexes, `json_extract` for attributes, a window function for
percentiles where there is no aggregate for them.
"""

import argparse
import asyncio
import gc
import json
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from query_data import DAY_NS, batches
from sqlalchemy import Connection, text

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.records.postgresql import PostgresRecordStore
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.aggregates.aggregate import Aggregate
from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.records.traces import Traces
from mcp_hub.services.telemetry.storage.sealing import Sealing

CALL_MS = 50.0
"""What calls by name, service and time take at most, at their p95."""
DAY_RATIO = 20.0
ATTRIBUTE_RATIO = 3.0
ACCURACY = 0.01

_FROM = (
    "FROM telemetry_records r JOIN telemetry_series s USING (series) "
    "WHERE r.time >= :since AND r.time < :until"
)


@dataclass(frozen=True, slots=True)
class Question:
    """`limits`: the longest p95 (ms), and the least ratio, of the hub's calls; None for none."""

    title: str
    asked: dict[str, Any]
    sql: str
    limits: tuple[float | None, float | None]
    minutes: int | None = None
    exact: str | None = None
    """What the figures are held against, where that is not `sql`."""


def questions(dialect: str) -> list[Question]:
    def attribute(key: str) -> str:
        if dialect == "postgresql":
            return f"r.attributes->>'{key}'"
        return f"json_extract(r.attributes, '$.\"{key}\"')"

    def percentiles(group: str, number: str, more: str = "") -> str:
        if dialect == "postgresql":
            return (
                f"SELECT {group} g, percentile_disc(0.95) WITHIN GROUP (ORDER BY {number}) "
                f"{_FROM} {more} GROUP BY g"
            )
        return ranked(group, number, more)

    def ranked(group: str, number: str, more: str = "") -> str:
        """The number at the place that the hub takes; percentile_disc takes the one after it."""
        floor = "floor({})" if dialect == "postgresql" else "CAST({} AS INTEGER)"
        place = floor.format("0.95 * (c - 1)")
        return (
            "SELECT g, v FROM (SELECT g, v, row_number() OVER (PARTITION BY g ORDER BY v) n, "
            f"count(*) OVER (PARTITION BY g) c FROM (SELECT {group} g, {number} v {_FROM} {more})"
            f" r) q WHERE n = {place} + 1"
        )

    spans = "AND s.kind = 'span'"
    route = attribute("http.route")
    user = attribute("user.id")
    top = "GROUP BY 1 ORDER BY 2 DESC LIMIT 10"
    fast, day, other = (CALL_MS, None), (CALL_MS, DAY_RATIO), (None, ATTRIBUTE_RATIO)
    return [
        Question(
            "counts by name and minute",
            {"group_by": ["name"], "bucket": "minute", "limit": 50_000},
            f"SELECT s.name, r.time / 60000000000 m, count(*) {_FROM} GROUP BY 1, 2",
            fast,
        ),
        Question(
            "p95 by name over the day",
            {"measure": ["p95"], "kind": "span", "group_by": ["name"]},
            percentiles("s.name", "r.duration_ns", spans),
            day,
            exact=ranked("s.name", "r.duration_ns", spans),
        ),
        Question(
            "p95 by service over the day",
            {"measure": ["p95"], "kind": "span", "group_by": ["service"]},
            percentiles("s.service", "r.duration_ns", spans),
            day,
            exact=ranked("s.service", "r.duration_ns", spans),
        ),
        Question(
            "p95 by name and hour",
            {"measure": ["p95"], "kind": "span", "group_by": ["name"], "bucket": "hour",
             "limit": 1_000},
            percentiles("s.name || (r.time / 3600000000000)", "r.duration_ns", spans),
            day,
            exact=ranked("s.name || (r.time / 3600000000000)", "r.duration_ns", spans),
        ),
        Question(
            "count, errors, avg, max by service",
            {"measure": ["count", "errors", "avg", "max"], "kind": "span",
             "group_by": ["service"]},
            "SELECT s.service, count(*), sum(CASE WHEN severity >= 17 THEN 1 ELSE 0 END), "
            f"avg(duration_ns), max(duration_ns) {_FROM} {spans} GROUP BY 1",
            fast,
        ),
        Question(
            "last five minutes: count, p95",
            {"measure": ["count", "p95"], "kind": "span", "group_by": ["name"]},
            percentiles("s.name", "r.duration_ns", spans),
            fast,
            minutes=5,
            exact=ranked("s.name", "r.duration_ns", spans),
        ),
        Question(
            "top 10 by http.route",
            {"group_by": ["http.route"], "limit": 10},
            f"SELECT {route}, count(*) {_FROM} {top}",
            other,
        ),
        Question(
            "top 10 by user.id (50,000 of them)",
            {"group_by": ["user.id"], "limit": 10},
            f"SELECT {user}, count(*) {_FROM} {top}",
            other,
        ),
        Question(
            "p95 by region",
            {"measure": ["p95"], "kind": "span", "group_by": ["region"]},
            percentiles(attribute("region"), "r.duration_ns", spans),
            other,
            exact=ranked(attribute("region"), "r.duration_ns", spans),
        ),
        Question(
            "unique users by name",
            {"measure": ["unique:user.id"], "kind": "span", "group_by": ["name"]},
            f"SELECT s.name, count(DISTINCT {user}) {_FROM} {spans} GROUP BY 1",
            other,
        ),
        Question(
            "count by region where http.status is 500",
            {"group_by": ["region"], "where": {"http.status": 500}},
            f"SELECT {attribute('region')}, count(*) {_FROM} AND {attribute('http.status')} = "
            f"{chr(39) + '500' + chr(39) if dialect == 'postgresql' else 500} GROUP BY 1",
            other,
        ),
    ]  # fmt: skip


async def timed(call: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = await call()
    return (time.perf_counter() - began) * 1000, result


async def fill(database: Database, records: int, end_ns: int) -> dict[str, float]:
    store = SqliteRecordStore() if database.dialect == "sqlite" else PostgresRecordStore()
    ingest = Ingest(database, store)
    began = time.perf_counter()
    for batch in batches(records, end_ns):
        await ingest.record(batch)
    loaded = time.perf_counter()
    sealed = await Sealing(database).seal_due()
    return {"load_s": loaded - began, "seal_s": time.perf_counter() - loaded, "sealed": sealed}


async def ask(
    database: Database, question: Question, end_ns: int, calls: int, repeats: int
) -> dict[str, Any]:
    length = DAY_NS if question.minutes is None else question.minutes * 60 * 10**9
    window = {"since": end_ns - length, "until": end_ns}
    aggregating = Aggregating(database)
    asked = Aggregate(**question.asked, **window)
    statement = text(question.sql)

    async def of_hub() -> Any:
        return await aggregating.aggregate(asked)

    async def of_sql() -> Any:
        return await database.read(lambda c: c.execute(statement, window).fetchall())

    table, rows = await of_hub(), await of_sql()
    if question.exact is not None:
        exact = text(question.exact)
        rows = await database.read(lambda c: c.execute(exact, window).fetchall())
    # As the servers do once they have started.
    gc.collect()
    gc.freeze()
    hub_ms, sql_ms, cpu_ms = [], [], []
    for number in range(calls):
        began = time.process_time()
        hub_ms.append((await timed(of_hub))[0])
        cpu_ms.append((time.process_time() - began) * 1000)
        if number % -(-calls // repeats) == 0:
            sql_ms.append((await timed(of_sql))[0])
    return {
        "hub_ms": median(hub_ms),
        "hub_p95_ms": quantiles(hub_ms, n=20, method="inclusive")[-1],
        "hub_cpu_ms": median(cpu_ms),
        "sql_ms": median(sql_ms),
        "ratio": median(sql_ms) / median(hub_ms),
        "rows": len(table.rows),
        "error": error_of(question, table.rows, rows),
    }


TRACE = "a trace by id"


async def ask_trace(database: Database, calls: int) -> dict[str, Any]:
    """The newest traces, each as a tree by the hub, and as bare rows by the index of plain SQL."""
    traces = Traces(database)
    ids = (await traces.newest())[:calls]
    statement = text("SELECT * FROM telemetry_records WHERE trace_id = :id")
    hub_ms, sql_ms, cpu_ms = [], [], []
    for id in ids:
        began = time.process_time()
        took, view = await timed(lambda id=id: traces.trace(id))
        hub_ms.append(took)
        cpu_ms.append((time.process_time() - began) * 1000)
        read = partial(
            Connection.execute, statement=statement, parameters={"id": bytes.fromhex(id)}
        )
        took, _ = await timed(lambda read=read: database.read(lambda c: read(c).fetchall()))
        sql_ms.append(took)
    return {
        "hub_ms": median(hub_ms),
        "hub_p95_ms": quantiles(hub_ms, n=20, method="inclusive")[-1],
        "hub_cpu_ms": median(cpu_ms),
        "sql_ms": median(sql_ms),
        "ratio": median(sql_ms) / median(hub_ms),
        "rows": len(view.rows),
        "error": 0.0,
    }


def error_of(question: Question, ours: list[list[Any]], theirs: Any) -> float:
    """The largest relative error: of percentiles, else of counts."""
    column = 2 if question.minutes is not None else -1
    if "bucket" in question.asked:
        mine = sorted(row[-1] for row in ours)
        sqls = sorted(float(row[-1]) for row in theirs)
    elif "limit" in question.asked:
        mine, sqls = [row[-1] for row in ours], [float(row[-1]) for row in theirs]
    else:
        exact = {str(row[0]): float(row[-1]) for row in theirs}
        mine = [row[column] for row in ours]
        sqls = [exact[str(row[0])] for row in ours]
    is_time = any(m[0] in "pma" and m != "count" for m in question.asked.get("measure", []))
    scale = 1e6 if is_time else 1.0
    assert len(mine) == len(sqls), (question.title, len(mine), len(sqls))
    return max(
        (abs(a * scale - b) / abs(b) if b else abs(a) for a, b in zip(mine, sqls, strict=True)),
        default=0.0,
    )


def faults_of(question: Question, result: dict[str, Any]) -> list[str]:
    slowest, least = question.limits
    found = []
    if slowest is not None and result["hub_p95_ms"] > slowest:
        found.append(f"p95 over {slowest:g} ms")
    if least is not None and result["ratio"] < least:
        found.append(f"under {least:g}×")
    if result["error"] > ACCURACY:
        found.append(f"error {result['error']:.2%}")
    return found


async def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    database: Database
    if options.database_url:
        database = PostgresDatabase(options.database_url, statement_timeout_s=300)
    else:
        database = SqliteDatabase(options.file or folder / "hub.db")
    await database.upgrade()
    marker = folder / "end"
    if options.file is not None:
        marker = options.file.with_suffix(".end")
    filled: dict[str, float] = {}
    if marker.exists():
        end_ns = int(marker.read_text())
    else:
        end_ns = time.time_ns()
        filled = await fill(database, options.records, end_ns)
        marker.write_text(str(end_ns))
    results = {}
    for question in questions(database.dialect):
        result = await ask(database, question, end_ns, options.calls, options.repeats)
        results[question.title] = result | {"faults": faults_of(question, result)}
        if not options.json:
            show(question.title, results[question.title])
    traced = await ask_trace(database, options.calls)
    results[TRACE] = traced | {
        "faults": [f"p95 over {CALL_MS:g} ms"] if traced["hub_p95_ms"] > CALL_MS else []
    }
    if not options.json:
        show(TRACE, results[TRACE])
    await database.close()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"dialect": database.dialect, "rss_mb": rss, **filled, "questions": results}


def show(title: str, result: dict[str, Any]) -> None:
    print(
        f"{title:42} {result['hub_ms']:9.1f} {result['hub_p95_ms']:9.1f} "
        f"{result['hub_cpu_ms']:8.1f} {result['sql_ms']:10.0f} "
        f"{result['ratio']:8.1f}× {result['rows']:7,} {result['error']:8.2%}  "
        f"{', '.join(result['faults']) or 'ok'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3, help="of the plain SQL")
    parser.add_argument("--database-url", help="an empty PostgreSQL database instead of SQLite")
    parser.add_argument("--file", type=Path, help="SQLite's file, kept, and used again if there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.json:
        print(
            f"{'':42} {'hub p50':>9} {'p95 ms':>9} {'CPU ms':>8} "
            f"{'SQL p50':>10} {'ratio':>9} {'rows':>7} error"
        )
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(run(options, Path(folder)))
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{result['dialect']}, {result['rss_mb']} MB at most; "
        + ", ".join(f"{key} {value:.0f}" for key, value in result.items() if key.endswith("_s"))
    )


if __name__ == "__main__":
    main()
