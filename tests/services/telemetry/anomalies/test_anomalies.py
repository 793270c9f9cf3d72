import numpy as np
import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.database.telemetry_schema import telemetry_rollups, telemetry_series
from mcp_hub.adapters.errors import NotFound
from mcp_hub.services.telemetry import sketch
from mcp_hub.services.telemetry.anomalies.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.anomalies.deviations import Limits
from mcp_hub.services.telemetry.anomalies.findings import Finding, grouped
from mcp_hub.services.telemetry.anomalies.minutes import (
    Buckets,
    Selection,
    Series,
    earlier_days,
    minute_series,
)
from mcp_hub.services.telemetry.anomalies.novelty import Known, New, news
from mcp_hub.services.telemetry.intake.rollups import MINUTE_NS
from mcp_hub.services.telemetry.windows import Window

FIRST = 29_000_000


def _row(minute: int, series: int, count: int, writer: int = 1, value: float = 2.0) -> dict:
    (key,) = sketch.keys_of(np.array([value])).tolist()
    return {
        "minute": minute, "series": series, "writer": writer, "count": count, "errors": 0,
        "measured": count, "sum": count * value, "min": value, "max": value,
        "sketch": sketch.encode([{key: count}])[0] if count else b"",
    }  # fmt: skip


async def _store(database: Database, rows: list[dict], *series: tuple[int, str, str, str]) -> None:
    def work(connection) -> None:
        for number, kind, name, service in series:
            connection.execute(
                telemetry_series.insert(),
                [{"series": number, "kind": kind, "name": name, "service": service, "unit": None}],
            )
        connection.execute(telemetry_rollups.insert(), rows)

    await database.write(work)


async def _check_reading(database: Database) -> None:
    rows = [
        _row(FIRST, 1, 3), _row(FIRST, 1, 1, writer=2, value=8.0), _row(FIRST + 6, 1, 5),
        _row(FIRST + 10, 1, 7), _row(FIRST + 1, 2, 9), _row(FIRST - 1440, 1, 4),
    ]  # fmt: skip
    await _store(database, rows, (1, "span", "a", "x"), (2, "metric", "b", "x"))
    buckets = await minute_series(database, Selection(), FIRST, FIRST + 10, 5)
    places = {one.name: place for place, one in enumerate(buckets.series)}
    assert buckets.count[places["a"]].tolist() == [4, 5]
    assert buckets.count[places["b"]].tolist() == [9, 0]
    assert buckets.sum[places["a"]].tolist() == [14, 10]
    assert buckets.p50[places["a"]] == pytest.approx([2, 2], rel=0.01)
    assert buckets.p95[places["a"], 0] == pytest.approx(2, rel=0.01)
    assert np.isnan(buckets.p50[places["b"], 1])
    only = await minute_series(database, Selection(kind="metric"), FIRST, FIRST + 10, 5)
    assert [one.name for one in only.series] == ["b"]
    days = await earlier_days(database, buckets, 3)
    assert days is not None
    assert days[0][0, places["a"]].tolist() == [4, 0]
    assert np.isnan(days[0][1:]).all()


async def test_the_rows_of_all_writers_are_added_up(database: SqliteDatabase) -> None:
    await _check_reading(database)


async def test_the_rows_of_all_writers_are_added_up_on_postgresql(postgres_url: str) -> None:
    database = PostgresDatabase(postgres_url)
    await _check_reading(database)
    await database.close()


async def test_of_too_many_series_the_busiest_are_read(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_hub.services.telemetry.anomalies.minutes.MAX_SERIES", 1)
    rows = [_row(FIRST, 1, 3), _row(FIRST, 2, 9), _row(FIRST, 3, 5)]
    named = [(number, "metric", f"m{number}", "x") for number in (1, 2, 3)]
    await _store(database, rows, *named)
    buckets = await minute_series(database, Selection(), FIRST, FIRST + 5, 5)
    assert [one.name for one in buckets.series] == ["m2"]
    assert buckets.left_out == 2
    told = await AnomalyFinder(database).find(_window(0, 10))
    assert "2 quieter series were left out" in told.note


def _window(first: int, last: int) -> Window:
    return Window((FIRST + first) * MINUTE_NS, (FIRST + last) * MINUTE_NS)


async def test_what_every_day_has_is_no_anomaly(database: SqliteDatabase) -> None:
    """A rush at noon on each of five days is the season; on the last day only, it is none."""
    rng = np.random.default_rng(2)
    rows = []
    for minute in range(5 * 1440):
        noon = 720 <= minute % 1440 < 750
        for number in (1, 2):
            is_rush = noon and (number == 1 or minute >= 4 * 1440)
            rows.append(_row(FIRST + minute, number, int(rng.poisson(100 if is_rush else 20))))
    await _store(database, rows, (1, "event", "usual", "x"), (2, "event", "new", "y"))
    found = await AnomalyFinder(database).find(_window(4 * 1440, 5 * 1440))
    assert [(one.name, one.signal) for one in found.findings] == [("new", "rate")]
    assert "4 earlier days" in found.note
    assert found.findings[0].since.endswith("Z")


async def test_what_is_unknown_names_the_nearest(database: SqliteDatabase) -> None:
    await _store(database, [_row(FIRST, 1, 3)], (1, "metric", "latency", "checkout"))
    finder = AnomalyFinder(database)
    with pytest.raises(NotFound, match="'chekout'") as raised:
        await finder.find(_window(0, 60), service="chekout")
    assert "checkout" in (raised.value.hint or "")
    with pytest.raises(NotFound, match="'latenzy'"):
        await finder.find(_window(0, 60), name="latenzy")


async def test_where_nothing_was_recorded_nothing_is_found(database: SqliteDatabase) -> None:
    for together in (False, True):
        found = await AnomalyFinder(database).find(_window(0, 60), together=together)
        assert (found.findings, found.series) == ([], 0)
        assert found.note == "No records in this window."


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("count", [1, 7, 40])
async def test_a_few_minutes_are_no_trouble(
    database: SqliteDatabase, count: int, together: bool
) -> None:
    rows = [_row(FIRST + minute, 1, 2) for minute in range(count)]
    await _store(database, rows, (1, "metric", "m", "x"))
    found = await AnomalyFinder(database).find(_window(0, count), together=together)
    assert found.findings == []
    assert found.series == 1


async def test_series_that_are_off_a_little_are_off_together(database: SqliteDatabase) -> None:
    rng = np.random.default_rng(4)

    def is_off(minute: int) -> bool:
        return 600 <= minute < 630

    rows = [
        _row(FIRST + minute, number, 1, value=float(rng.normal(104 if is_off(minute) else 100, 3)))
        for minute in range(1440)
        for number in range(1, 13)
    ]  # fmt: skip
    await _store(database, rows, *[(n, "metric", f"m{n}", f"s{n}") for n in range(1, 13)])
    finder = AnomalyFinder(database)
    assert (await finder.find(_window(0, 1440))).findings == []
    (found,) = (await finder.find(_window(0, 1440), together=True)).findings
    assert found.signal == "joint"
    assert found.since[11:16] <= "07:30"
    assert found.level in ("medium", "high")


def _buckets(counts: list[list[float]]) -> Buckets:
    count = np.array(counts, np.float64)
    series = [Series(number, "log", f"l{number}", "x", None) for number in range(len(counts))]
    nothing = np.zeros_like(count)
    return Buckets(
        FIRST, 5, series, count, nothing, nothing, nothing, nothing * np.nan, nothing * np.nan
    )


LIMITS = Limits(0.05, 1.0)


def _new(first: int, last: int, count: int, mask: str = "boom <*>", severity: int = 9) -> New:
    return New(0, "x", mask, mask, severity, FIRST + first, FIRST + last, count)


def test_a_text_is_new_if_its_being_first_seen_late_is_no_chance() -> None:
    buckets = _buckets([[50.0] * 288])

    def told(*new: New, masks: list[str] | None = None) -> list[str | None]:
        return [
            one.mask for one in news(Known(list(new), {0: masks or []}), buckets, FIRST, LIMITS)
        ]

    assert told(_new(700, 740, 30)) == ["boom <*>"]
    assert told(_new(700, 702, 5)) == ["boom <*>"]
    assert told(_new(700, 700, 1)) == []
    assert told(_new(200, 1400, 12)) == []
    assert told(_new(5, 1400, 5000)) == []
    names = [f"user {name} left" for name in ("ann", "bob", "cid", "dan")]
    assert told(_new(700, 740, 30, names[0]), masks=names) == []
    every_hour = [_new(hour, hour + 3, 20, f"job {hour} <*>") for hour in range(120, 1400, 60)]
    assert told(*every_hour) == []


def test_a_series_is_new_in_a_service_that_is_not() -> None:
    buckets = _buckets([[50.0] * 288, [0.0] * 200 + [10.0] * 88])
    (found,) = news(Known([], {}), buckets, FIRST, LIMITS)
    assert (found.series, found.mask, found.first) == (1, None, FIRST + 1000)
    assert news(Known([], {}), buckets, FIRST + 1100, LIMITS) == []


def _finding(service: str, signal: str, start: int, stop: int, effect: float) -> Finding:
    return Finding(service, None, signal, start, stop, 1.0, 2.0, effect, signal)  # type: ignore[arg-type]


def test_signals_of_one_service_and_time_are_one_finding() -> None:
    found = grouped(
        [
            _finding("a", "p50", 100, 130, 2), _finding("a", "errors", 100, 125, 5),
            _finding("b", "errors", 101, 128, 3), _finding("a", "leak", 0, 500, 2),
        ]
    )  # fmt: skip
    shown = [(one.service, one.signal, [other.signal for other in one.also]) for one in found]
    assert shown == [("a", "errors", ["p50"]), ("b", "errors", []), ("a", "leak", [])]
    assert found[0].incident == found[1].incident != found[2].incident


def test_what_most_services_do_at_once_is_told_once() -> None:
    same = [_finding(service, "rate", 100, 130, 2) for service in "abcd"]
    (found,) = grouped(same)
    assert found.service == "*"
    assert found.says.startswith("4 services at once")
