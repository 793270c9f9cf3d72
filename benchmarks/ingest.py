"""Telemetry into `mcp-hub serve` over HTTP, beside the bare insertion of the same rows.

Bulk: batches of 1,000 records, JSON over ten connections, as many as an OpenTelemetry Collector
opens by default, until the last one is committed, with all that the hub does for them: validation,
names, patterns, rollups. With fewer connections fewer batches share a transaction. Beside it, in
alternating rounds, the rows that this left in `telemetry_records` are written into another database
with the same tables and indexes, one transaction for each 1,000: by `executemany` (SQLite) or
asyncpg's COPY (PostgreSQL). The ratio is the median of the rounds' ratios.

Single: one event a request, so many a second, each timed from the moment it was due.

Both databases: what is acknowledged survives the death of any process, but not of the machine
(SQLite in WAL mode with synchronous=NORMAL, PostgreSQL with fsync=off). Memory is the server's
resident peak over everything that it was sent.
"""

import argparse
import asyncio
import gc
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import uvloop
from ingest_load import batches, send_all, send_steadily

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import servers
from tests.processes import hub_environment
from tests.server.serving import Served, serving, wait_until_ready

FLOOR = 0.5
P99_MS = 10.0
MEMORY_MB = 256
_BATCH = 1_000
_SINGLE_CONNECTIONS = 32
_COLUMNS = (
    "time", "id", "series", "severity", "trace_id", "span_id", "parent_id", "duration_ns", "value",
    "unit", "body", "attributes", "resource", "pattern",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM telemetry_records"
"""Both databases answer in the order in which the rows were inserted."""
_INSERT = (
    f"INSERT INTO telemetry_records ({', '.join(_COLUMNS)}) "
    f"VALUES ({', '.join('?' * len(_COLUMNS))})"
)

Rows = Sequence[Sequence[Any]]


class Bulk(NamedTuple):
    """Records a second in each round."""

    hub: list[float]
    bare: list[float]

    @property
    def ratio(self) -> float:
        return median(hub / bare for hub, bare in zip(self.hub, self.bare, strict=True))


@contextmanager
def hub(folder: Path, **variables: str) -> Iterator[Served]:
    with serving(hub_environment(folder, **variables)) as served:
        wait_until_ready(served)
        yield served


def port_of(served: Served) -> int:
    port = urlsplit(served.url).port
    assert port
    return port


def peak_mb(served: Served) -> float:
    """The most memory that the server has had resident."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def chunks(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))


def bare_sqlite(path: Path, rows: Rows) -> float:
    """Seconds that a program takes that does nothing but insert."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    begin = time.perf_counter()
    for chunk in chunks(rows):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, chunk)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - begin
    connection.close()
    return seconds


async def bare_postgres(url: str, rows: Rows) -> float:
    """As `bare_sqlite`."""
    connection = await asyncpg.connect(url)
    begin = time.perf_counter()
    for chunk in chunks(rows):
        await connection.copy_records_to_table("telemetry_records", records=chunk, columns=_COLUMNS)
    seconds = time.perf_counter() - begin
    await connection.close()
    return seconds


def new_rows(rows: Rows, known: set[bytes]) -> Rows:
    """The rows that were not there before this round."""
    new = [row for row in rows if bytes(row[1]) not in known]
    known.update(bytes(row[1]) for row in new)
    return new


def bulk(
    served: Served,
    read: Callable[[], Rows],
    write: Callable[[Rows], float],
    options: argparse.Namespace,
) -> Bulk:
    """The hub beside `write`, which says how long it took, of the rows that `read` finds new."""
    result, known = Bulk([], []), set[bytes]()
    new_rows(read(), known)
    count = options.records
    for number in range(options.rounds + 1):
        sent = batches(count // _BATCH, _BATCH, number)
        seconds = uvloop.run(send_all(port_of(served), sent, options.connections))
        rows = new_rows(read(), known)
        assert len(rows) == count
        bare_seconds = write(rows)
        if number:  # the first round warms both up
            result.hub.append(count / seconds)
            result.bare.append(count / bare_seconds)
    return result


def read_sqlite(path: Path) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(_SELECT).fetchall()


async def read_postgres(url: str) -> Rows:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(_SELECT)
    await connection.close()
    return [tuple(row) for row in rows]


def single(served: Served, per_s: int, seconds: float) -> dict[str, float]:
    """Milliseconds to the commit of single events."""
    bodies = batches(int(per_s * seconds), 1, 1_000)
    gc.collect()
    gc.disable()
    times = uvloop.run(send_steadily(port_of(served), bodies, per_s, _SINGLE_CONNECTIONS))
    gc.enable()
    cuts = quantiles(times, n=1000)
    return {
        "per_s": per_s,
        "seconds": seconds,
        "p50_ms": cuts[499] * 1000,
        "p99_ms": cuts[989] * 1000,
        "max_ms": max(times) * 1000,
    }


def run_sqlite(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        with hub(Path(other)):
            pass  # makes the tables
        bare = Path(other) / "data" / "hub.db"
        with hub(Path(one)) as served:
            steady = single(served, options.per_s, options.seconds)
            read = partial(read_sqlite, Path(one) / "data" / "hub.db")
            write = partial(bare_sqlite, bare)
            fast = bulk(served, read, write, options)
            return _result(fast, steady, peak_mb(served))


def run_postgres(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mcp-hub-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL runs as another user
        server = servers.start_postgres(Path(folder) / "postgres")
        try:
            bare = servers.postgres_url(server, "bare")
            asyncio.run(servers.run_sql(server.url, "CREATE DATABASE bare"))
            with hub(Path(folder), MCP_HUB_DATABASE_URL=bare):
                pass
            with hub(Path(folder), MCP_HUB_DATABASE_URL=server.url) as served:
                steady = single(served, options.per_s, options.seconds)
                read = lambda: asyncio.run(read_postgres(server.url))  # noqa: E731
                write = lambda rows: asyncio.run(bare_postgres(bare, rows))  # noqa: E731
                fast = bulk(served, read, write, options)
                return _result(fast, steady, peak_mb(served))
        finally:
            server.stop()


def _result(bulk: Bulk, steady: dict[str, float], memory: float) -> dict[str, Any]:
    return {
        "ratio": bulk.ratio,
        "hub_per_s": median(bulk.hub),
        "bare_per_s": median(bulk.bare),
        "single": steady,
        "peak_mb": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--records", type=int, default=100_000, help="of a round")
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--per-s", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = {"sqlite": run_sqlite, "postgresql": run_postgres}
    results = {name: run(options) for name, run in runs.items() if options.only in (None, name)}
    if options.json:
        print(json.dumps(results))
        return
    for name, result in results.items():
        steady = result["single"]
        bare = "executemany" if name == "sqlite" else "COPY"
        print(
            f"{name}: batches of {_BATCH:,} over {options.connections} connections, "
            f"median of {options.rounds} rounds"
        )
        print(f"  bare {bare:<11} {result['bare_per_s']:9,.0f} records/s")
        print(f"  mcp-hub serve    {result['hub_per_s']:9,.0f} records/s")
        print(f"  ratio            {result['ratio']:9.2f}    (at least {FLOOR})")
        print(f"single events, {steady['per_s']:,} a second for {steady['seconds']:g} s")
        print(f"  p50 to commit    {steady['p50_ms']:9.1f} ms")
        print(f"  p99              {steady['p99_ms']:9.1f} ms (under {P99_MS:g})")
        print(f"  peak resident    {result['peak_mb']:9.0f} MB (at most {MEMORY_MB})")


if __name__ == "__main__":
    main()
