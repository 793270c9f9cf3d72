"""Services that were first seen hours ago, in a database that has a day of another's records."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pytest
from sqlalchemy import Connection

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.telemetry_schema import telemetry_rollups, telemetry_series
from mcp_hub.services.telemetry import sketch
from mcp_hub.services.telemetry.anomalies.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.anomalies.anomaly_views import Anomaly
from mcp_hub.services.telemetry.anomalies.correlating import Correlator
from mcp_hub.services.telemetry.intake.rollups import MINUTE_NS
from mcp_hub.services.telemetry.windows import Window

END = 29_000_000
_DAY = 1200


@dataclass(frozen=True)
class _Traffic:
    """Some requests a minute from `begin` (minutes before the end) on, of which few fail.

    In the last `fault` minutes they take `slower` times as long, and `failing` of them fail.
    """

    kind: str
    name: str
    service: str
    begin: int
    fault: int = 0
    slower: float = 1
    failing: float = 0.023
    p50: float = 54
    rate: float = 5
    rate_of_fault: float | None = None

    def rows(self, series: int, rng: np.random.Generator) -> list[dict[str, object]]:
        found = []
        for minute in range(END - self.begin, END):
            is_off = minute >= END - self.fault
            other = self.rate_of_fault if is_off else None
            count = int(rng.poisson(self.rate if other is None else other))
            if not count:
                continue
            durations = np.floor(self.p50 * 1e6 * np.exp(rng.normal(0, 0.46, count)))
            durations *= self.slower if is_off else 1
            errors = int(rng.binomial(count, self.failing if is_off else 0.023))
            keys = sketch.keys_of(durations).tolist()
            row: dict[str, object] = {
                "minute": minute, "series": series, "writer": 1, "count": count, "errors": errors,
                "measured": count, "sum": float(durations.sum()), "min": float(durations.min()),
                "max": float(durations.max()), "sketch": sketch.Sketch().plus(keys).encode(),
            }  # fmt: skip
            if self.kind == "log":
                row |= {"measured": 0, "sum": 0.0, "min": None, "max": None, "sketch": b""}
            found.append(row)
        return found


async def _store(database: Database, traffic: Sequence[_Traffic], seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [row for number, one in enumerate(traffic) for row in one.rows(number, rng)]
    series = [
        {"series": number, "kind": one.kind, "name": one.name, "service": one.service, "unit": None}
        for number, one in enumerate(traffic)
    ]

    def work(connection: Connection) -> None:
        connection.execute(telemetry_series.insert(), series)
        connection.execute(telemetry_rollups.insert(), rows)

    await database.write(work)


def _system(begin: int, fault: int = 0, old: int = _DAY) -> list[_Traffic]:
    """`web` calls `pay`, which is at fault; the hub's own begin when a quarter is left."""
    return [
        _Traffic("log", "boot", "older", old, rate=2),
        _Traffic("span", "POST /pay", "pay", begin, fault, 3.8, 0.37),
        _Traffic("log", "app", "pay", begin, fault, failing=0.3),
        _Traffic("span", "GET /", "web", begin, fault, 2.5, 0.2, p50=90),
        _Traffic("span", "list", "stock", begin, p50=20),
        _Traffic("span", "query", "db", begin, p50=8, rate=10),
        _Traffic("span", "tool", "mcp-hub", begin // 4, p50=3, rate=3),
    ]


def _since(hours: int) -> Window:
    return Window((END - 60 * hours) * MINUTE_NS, END * MINUTE_NS)


def _minutes_left(one: Anomaly) -> int:
    """How long before the end it began."""
    return END - int(datetime.fromisoformat(one.since).timestamp()) // 60


@pytest.mark.parametrize(("begin", "fault"), [(120, 20), (190, 20), (480, 30)])
@pytest.mark.parametrize("old", [0, _DAY])
async def test_a_fault_at_the_end_of_a_short_history_does_not_become_the_usual(
    database: SqliteDatabase, begin: int, fault: int, old: int
) -> None:
    await _store(database, _system(begin, fault, old), seed=3)
    finder = AnomalyFinder(database)
    for sensitivity in ("normal", "high"):
        told = await finder.find(_since(8), service="pay", sensitivity=sensitivity)
        said = [text for one in told.findings for text in (one.says, *one.also)]
        (slow,) = [text for text in said if text.startswith("p50")]
        seen, expected = (float(word) for word in (slow.split()[1], slow.split()[5]))
        assert expected == pytest.approx(54, rel=0.1)
        assert seen == pytest.approx(3.8 * 54, rel=0.2)
        for one in told.findings:
            assert _minutes_left(one) <= fault + 5


async def test_a_p95_is_that_of_the_values_though_a_minute_has_few(
    database: SqliteDatabase,
) -> None:
    await _store(database, _system(120, 20, 0), seed=3)
    told = await AnomalyFinder(database).find(_since(8), service="pay", sensitivity="high")
    said = [text for one in told.findings for text in (one.says, *one.also)]
    (slow,) = [text for text in said if text.startswith("p95")]
    seen, expected = (float(word) for word in (slow.split()[1], slow.split()[5]))
    assert expected == pytest.approx(54 * np.exp(1.645 * 0.46), rel=0.15)
    assert seen == pytest.approx(3.8 * 54 * np.exp(1.645 * 0.46), rel=0.2)


async def test_a_finding_s_numbers_have_the_unit_of_its_words(database: SqliteDatabase) -> None:
    traffic = [
        _Traffic("span", "slow", "a", 480, 30, 4),
        _Traffic("metric", "heap", "b", 480, 30, 4, p50=1e-6, rate=30),
        _Traffic("log", "app", "c", 480, 30, failing=0.4),
        _Traffic("log", "app", "d", 480, 30, rate=20, rate_of_fault=0),
    ]
    await _store(database, traffic, seed=7)
    told = await AnomalyFinder(database).find(_since(8))
    found = {one.service: one for one in told.findings}
    assert {service: one.unit for service, one in found.items()} == {
        "a": "ms", "b": None, "c": "share", "d": "1/min",
    }  # fmt: skip
    assert 50 < (found["a"].expected or 0) < 120
    words = found["a"].says.split()
    assert float(words[1]) == pytest.approx(found["a"].seen, rel=0.01)
    assert words[2] == "ms"
    assert 0.1 < (found["c"].seen or 0) < 0.6


@pytest.mark.parametrize("old", [0, _DAY])
async def test_a_correlation_states_the_usual_before_the_incident(
    database: SqliteDatabase, old: int
) -> None:
    silent = [
        _Traffic("span", "GET /", "web", 120, 20, rate_of_fault=0),
        *_system(120, 20, old)[:3],
    ]
    await _store(database, silent, seed=5)
    correlator = Correlator(database, AnomalyFinder(database))
    told = await correlator.correlate((END - 18) * 60, service="pay")
    said = [text for one in told.causes for text in (one.says, *one.also)]
    failing = [text for text in said if "% errors" in text]
    assert len(failing) == 2
    for text in failing:
        assert float(text.split()[5]) == pytest.approx(2.3, abs=1.2)
    (silence,) = [text for text in said if text.startswith("Nothing came of web")]
    assert float(silence.split("; ")[1].split()[0]) == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize("old", [0, _DAY])
async def test_nothing_is_off_together_before_it_was_first_seen(
    database: SqliteDatabase, old: int
) -> None:
    await _store(database, _system(190, 20, old), seed=3)
    (found,) = (await AnomalyFinder(database).find(_since(24), together=True)).findings
    assert 15 <= _minutes_left(found) <= 25
    named = set(found.service.split(", "))
    assert named & {"pay", "web"}
    assert not named & {"mcp-hub", "older"}


async def test_services_that_begin_are_not_off_together(database: SqliteDatabase) -> None:
    await _store(database, _system(190), seed=3)
    assert (await AnomalyFinder(database).find(_since(24), together=True)).findings == []


async def test_what_all_that_have_begun_share_is_no_anomaly_of_one(
    database: SqliteDatabase,
) -> None:
    shared = [
        _Traffic("log", "app", f"s{number}", 300 if number < 5 else 60, 25, rate=15,
                 rate_of_fault=5)
        for number in range(6)
    ]  # fmt: skip
    await _store(database, [*shared, _Traffic("log", "app", "other", 300, rate=15)], seed=2)
    assert (await AnomalyFinder(database).find(_since(8))).findings == []
