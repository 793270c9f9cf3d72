"""The server is killed while telemetry comes in: what was acknowledged is there, once.

Clients send batches, each again, the same bytes, until it is acknowledged. Some name their
records' ids, some send OTLP, which has none. At the end every record is there once, and the
rollups equal a recount. The short run is part of `make test`; `make soak` kills 50 times.
"""

import json
import math
import random
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import httpx2
import pytest
from anyio import to_thread
from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_pattern_counts,
    telemetry_records,
    telemetry_rollups,
    telemetry_series,
)
from mcp_hub.services.telemetry import sketch
from tests.processes import hub_environment, start
from tests.servers import free_port
from tests.waiting import eventually

SEED = 20261127
CLIENTS = 4
MINUTE_NS = 60 * 10**9


@dataclass(slots=True)
class Sent:
    """What the clients sent and saw acknowledged."""

    records: int = 0
    repeats: int = 0
    ids: list[bytes] = field(default_factory=list)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """The database's URL; None for the embedded one."""
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.soak)])
async def test_what_was_acknowledged_is_there_once(
    url: str | None, kills: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = hub_environment(tmp_path, **({"MCP_HUB_DATABASE_URL": url} if url else {}))
    port = free_port()
    sent = Sent()
    stop = anyio.Event()
    async with serving(environment, port, tmp_path / "serve.log") as server:
        with anyio.fail_after(60 + kills * 10):
            async with anyio.create_task_group() as tasks:
                for number in range(CLIENTS):
                    tasks.start_soon(send_until, stop, number, port, sent)
                await kill_repeatedly(server, kills, sent)
                stop.set()
    database: Database = (
        PostgresDatabase(url) if url else SqliteDatabase(tmp_path / "data" / "hub.db")
    )
    try:
        await database.read(lambda connection: check(connection, sent))
    finally:
        await database.close()
    with capsys.disabled():
        told = f"{sent.records} records, {sent.repeats} repeated requests"
        print(f"\n{database.dialect}: {kills} kills, {told}")


@dataclass(slots=True)
class Serving:
    """A server that is started again on the same port after each kill."""

    environment: dict[str, str]
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ("serve", "--port", str(self.port))
        self.process = start(self.environment, *command, log=self.log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def serving(environment: dict[str, str], port: int, log: Path) -> AsyncIterator[Serving]:
    server = Serving(environment, port, log)
    await to_thread.run_sync(server.start)
    try:
        yield server
    finally:
        await to_thread.run_sync(server.kill)


async def kill_repeatedly(server: Serving, kills: int, sent: Sent) -> None:
    """Kill the server at random instants while it takes records in."""
    chance = random.Random(SEED)
    for _ in range(kills):
        before = sent.records
        await eventually(lambda before=before: sent.records > before)  # type: ignore[misc]
        await anyio.sleep(chance.uniform(0, 0.5))
        await to_thread.run_sync(server.kill)
        await to_thread.run_sync(server.start)
    before = sent.records
    await eventually(lambda: sent.records > before)


async def send_until(stop: anyio.Event, number: int, port: int, sent: Sent) -> None:
    """Send batch after batch, each until it is acknowledged."""
    chance = random.Random(SEED + number)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        while not stop.is_set():
            count = chance.choice((1, 20, 300))
            path, body, ids = (events if chance.random() < 0.7 else otlp_logs)(chance, count)
            headers = {"content-type": "application/json"}
            while True:
                with suppress(httpx2.HTTPError):
                    response = await http.post(path, content=body, headers=headers)
                    if response.status_code == 200:
                        break
                    assert response.status_code == 503, response.text
                sent.repeats += 1
                await anyio.sleep(0.02)
            sent.records += count
            sent.ids += ids


def events(chance: random.Random, count: int) -> tuple[str, bytes, list[bytes]]:
    ids = [UUID(int=chance.getrandbits(128), version=4) for _ in range(count)]
    kinds: list[dict[str, Any]] = [
        {"kind": "metric", "value": chance.lognormvariate(0, 2)},
        {"kind": "span", "duration_ms": chance.lognormvariate(2, 1)},
        {"kind": "log", "severity": "error", "body": f"job {chance.getrandbits(20)} failed"},
        {"kind": "event", "attributes": {"n": chance.getrandbits(20)}},
    ]
    records = [
        chance.choice(kinds)
        | {
            "id": str(id),
            "name": f"name-{chance.randrange(20)}",
            "service": f"service-{chance.randrange(3)}",
            "time": time.time_ns() - chance.randrange(5 * MINUTE_NS),
        }
        for id in ids
    ]
    return "/api/telemetry/events", json.dumps(records).encode(), [id.bytes for id in ids]


def otlp_logs(chance: random.Random, count: int) -> tuple[str, bytes, list[bytes]]:
    logs = [
        {
            "timeUnixNano": str(time.time_ns() - chance.randrange(5 * MINUTE_NS)),
            "body": {"stringValue": f"request {chance.getrandbits(30)} done"},
        }
        for _ in range(count)
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "otlp"}}]}
    request = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": logs}]}]}
    return "/v1/logs", json.dumps(request).encode(), []


def check(connection: Connection, sent: Sent) -> None:
    records = connection.execute(select(telemetry_records)).all()
    ids = [bytes(record.id) for record in records]
    assert len(records) == sent.records
    assert len(set(ids)) == len(ids)
    assert set(sent.ids) <= set(ids)
    check_rollups(connection, list(records))


def check_rollups(connection: Connection, records: list[Any]) -> None:
    """The rollups of all writers together are what a recount finds."""
    spans = set(
        connection.execute(
            select(telemetry_series.c.series).where(telemetry_series.c.kind == "span")
        ).scalars()
    )
    measures: dict[tuple[int, int], list[float]] = {}
    counts: Counter[tuple[int, int]] = Counter()
    errors: Counter[tuple[int, int]] = Counter()
    patterns: Counter[tuple[int, int]] = Counter()
    for record in records:
        at = (record.time // MINUTE_NS, record.series)
        counts[at] += 1
        errors[at] += (record.severity or 0) >= 17
        measure = record.duration_ns if record.series in spans else record.value
        measures.setdefault(at, []).extend([] if measure is None else [measure])
        if record.pattern is not None:
            patterns[at[0], record.pattern] += 1
    found: dict[tuple[int, int], list[Any]] = {}
    for rollup in connection.execute(select(telemetry_rollups)):
        found.setdefault((rollup.minute, rollup.series), []).append(rollup)
    assert found.keys() == counts.keys()
    for at, rollups in found.items():
        values = measures[at]
        assert sum(one.count for one in rollups) == counts[at]
        assert sum(one.errors for one in rollups) == errors[at]
        assert sum(one.measured for one in rollups) == len(values)
        assert math.isclose(sum(one.sum for one in rollups), math.fsum(values), rel_tol=1e-9)
        bins, _ = sketch.decode([bytes(one.sketch) for one in rollups])
        assert bins["count"].sum() == len(values)
        if values:
            assert min(one.min for one in rollups if one.min is not None) == min(values)
            assert max(one.max for one in rollups if one.max is not None) == max(values)
    table = telemetry_pattern_counts
    told = connection.execute(
        select(table.c.minute, table.c.pattern, func.sum(table.c.count)).group_by(
            table.c.minute, table.c.pattern
        )
    )
    assert {(minute, pattern): count for minute, pattern, count in told} == patterns
