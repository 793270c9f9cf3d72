"""The experiment of benchmarks/faults.py with few seeds, and one day of it through ingest."""

import time
from datetime import datetime

import pytest
from anyio import to_thread

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.adapters.records.postgresql import PostgresRecordStore
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.anomalies.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.anomalies.correlating import Correlator
from mcp_hub.services.telemetry.intake.accepting import Batch
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.windows import Window

from .experiment import run_quiet, run_seed
from .scoring import SIGNALS, is_false
from .traffic import MINUTE_NS, make_day, records_of

_PER_BATCH = 5_000


@pytest.mark.parametrize("seed", [1001, 1002])
async def test_planted_faults_are_found_and_their_causes_ranked_first(
    database: SqliteDatabase, seed: int
) -> None:
    finder = AnomalyFinder(database)
    outcome = await run_seed(
        database, SqliteRecordStore(), finder, Correlator(database, finder), seed
    )
    assert sum(one.found for one in outcome.faults.values()) >= 4
    assert sum(one.rank is not None and one.rank <= 3 for one in outcome.faults.values()) >= 4
    assert outcome.false_alarms <= 1


async def test_a_day_without_faults_is_quiet(database: SqliteDatabase) -> None:
    assert await run_quiet(database, SqliteRecordStore(), AnomalyFinder(database), 1003) <= 1


async def test_faults_in_records_are_found_in_sqlite(database: SqliteDatabase) -> None:
    await _check_real_records(database, SqliteRecordStore())


async def test_faults_in_records_are_found_in_postgresql(postgres_url: str) -> None:
    database = PostgresDatabase(postgres_url)
    await _check_real_records(database, PostgresRecordStore())
    await database.close()


async def _check_real_records(database: Database, store: RecordStore) -> None:
    now = time.time_ns() // MINUTE_NS
    day = make_day(
        1004, first_minute=now - 721, minutes=720, faults=("errors", "silence"), rate=0.3
    )
    ingest = Ingest(database, store)
    records = await to_thread.run_sync(records_of, day)
    for start in range(0, len(records), _PER_BATCH):
        some = records[start : start + _PER_BATCH]
        done = await ingest.record(Batch(some, list(range(len(some)))))
        assert done.accepted == len(some)
    result = await AnomalyFinder(database).find(Window(day.at(0), day.at(720)), limit=50)
    assert result.minutes == 720
    for fault in day.faults:
        assert any(
            one.service == fault.service and one.signal in SIGNALS[fault.kind][0]
            for one in result.findings
        ), fault
    first = day.first_minute
    for one in result.findings:
        since, until = (_minute(text) - first for text in (one.since, one.until))
        assert not is_false(day, one.service, since, until), one


def _minute(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() / 60
