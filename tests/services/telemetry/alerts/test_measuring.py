"""A rule's aggregate, equal to what the records say, on both databases."""

import time
from typing import Any

import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.alerts.measuring import Measuring
from mcp_hub.services.telemetry.alerts.rules import MINUTE_NS, parse_rule
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest

VALUES = [float(n) for n in range(1, 101)]


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("count", 100), ("rate", 100 / 300), ("errors", 20), ("error_rate", 0.2), ("sum", 5050),
        ("avg", 50.5), ("min", 1), ("max", 100), ("p50", 50), ("p99", 99), ("p99.9", 99),
    ],
)  # fmt: skip
async def test_it_is_what_the_records_say(
    store: Database, ingest: Ingest, measure: str, expected: float
) -> None:
    now = time.time_ns()
    base: dict[str, Any] = {"kind": "metric", "service": "api", "name": "load"}
    records = [
        base
        | {"value": value, "time": now - 1 - (n % 5) * MINUTE_NS, "severity": 17 if n < 20 else 9}
        for n, value in enumerate(VALUES)
    ]
    records += [
        base | {"value": 1e6, "time": now - 5 * MINUTE_NS - 1},
        base | {"value": 1e6, "time": now - 1, "name": "other"},
        base | {"value": 1e6, "time": now - 1, "service": "other"},
    ]
    await ingest.record(from_objects(records, "metric"))
    rule = parse_rule({"service": "api", "name": "load", "measure": measure, "threshold": 1})
    found, broken = await Measuring(Aggregating(store)).now(rule, now)
    assert found == pytest.approx(expected, rel=0.01)
    assert broken == (expected > 1)


async def test_the_windows_before_are_known_from_the_first_that_holds_something(
    store: Database, ingest: Ingest
) -> None:
    now = time.time_ns() // MINUTE_NS * MINUTE_NS + 30 * 10**9
    records = [
        {"kind": "event", "name": "seen", "time": now - minutes * MINUTE_NS}
        for minutes in (2, 2, 4, 0)
    ]
    await ingest.record(from_objects(records, "event"))
    measuring = Measuring(Aggregating(store))
    rule = parse_rule({"name": "seen", "window": "1m", "threshold": 1})
    assert await measuring.before(rule, now, 5) == [None, None, 1, 0, 2]
    errors = parse_rule({"name": "seen", "measure": "errors", "service": None, "threshold": 1})
    assert await measuring.before(errors, now - 3600 * 10**9, 3) == [None] * 3


async def test_a_spans_measure_is_in_milliseconds_and_attributes_narrow_it(
    store: Database, ingest: Ingest
) -> None:
    now = time.time_ns()
    spans = [
        {"name": "GET", "duration_ms": ms, "time": now - 1, "attributes": {"route": route}}
        for ms, route in ((20, "/a"), (900, "/b"))
    ]
    await ingest.record(from_objects(spans, "span"))
    said = {"name": "GET", "measure": "max", "threshold": 100}
    measuring = Measuring(Aggregating(store))
    assert await measuring.now(parse_rule(said), now) == (900, True)
    narrow = parse_rule(said | {"where": {"route": "/a"}})
    assert await measuring.now(narrow, now) == (20, False)


@pytest.mark.parametrize("measure", ["avg", "min", "max", "p95", "error_rate"])
async def test_of_nothing_there_is_no_aggregate(store: Database, measure: str) -> None:
    rule = parse_rule({"measure": measure, "threshold": 1})
    assert await Measuring(Aggregating(store)).now(rule, time.time_ns()) == (None, False)


async def test_nothing_counts_as_nothing(store: Database) -> None:
    rule = parse_rule({"name": "silent", "threshold": 1, "op": "<"})
    assert await Measuring(Aggregating(store)).now(rule, time.time_ns()) == (0, True)
