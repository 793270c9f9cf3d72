"""A rule's aggregate, equal to what the records say, on both databases."""

import time
from typing import Any

import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.services.telemetry.accepting import from_objects
from mcp_hub.services.telemetry.alerts.evaluating import measured
from mcp_hub.services.telemetry.alerts.rules import MINUTE_NS, parse_rule
from mcp_hub.services.telemetry.ingest import Ingest

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
    now = time.time_ns() // MINUTE_NS * MINUTE_NS + 1
    base: dict[str, Any] = {"kind": "metric", "service": "api", "name": "load"}
    records = [
        base | {"value": value, "time": now - (n % 5) * MINUTE_NS, "severity": 17 if n < 20 else 9}
        for n, value in enumerate(VALUES)
    ]
    records += [
        base | {"value": 1e6, "time": now - 5 * MINUTE_NS},
        base | {"value": 1e6, "time": now, "name": "other"},
        base | {"value": 1e6, "time": now, "service": "other"},
    ]
    await ingest.record(from_objects(records, "metric"))
    rule = parse_rule({"service": "api", "name": "load", "measure": measure, "threshold": 1})
    before, found = await measured(store, rule, now, 2)
    assert found == pytest.approx(expected, rel=0.01)
    assert before is not None


@pytest.mark.parametrize("measure", ["avg", "min", "max", "p95", "error_rate"])
async def test_of_nothing_there_is_no_aggregate(store: Database, measure: str) -> None:
    rule = parse_rule({"measure": measure, "threshold": 1})
    assert await measured(store, rule, time.time_ns(), 1) == [None]


async def test_nothing_counts_as_nothing(store: Database) -> None:
    rule = parse_rule({"name": "silent", "threshold": 1, "op": "<"})
    assert await measured(store, rule, time.time_ns(), 2) == [0, 0]
