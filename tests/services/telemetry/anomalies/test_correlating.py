"""What else changed, on both databases, from records that came through ingest."""

import time
from typing import Any

import numpy as np
import pytest
from anyio import to_thread

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.schema import models, promotions
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.adapters.records.postgresql import PostgresRecordStore
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.services.telemetry.anomalies.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.anomalies.causes import ranked
from mcp_hub.services.telemetry.anomalies.changes import Calls, Change
from mcp_hub.services.telemetry.anomalies.correlating import Correlator
from mcp_hub.services.telemetry.anomalies.findings import Finding
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest

_MINUTES = 240
_FAULT = 200


def _incident(now: float) -> list[dict[str, Any]]:
    """`shop` calls `bank`, which is slow and fails from minute 200 on, after a deployment."""
    rng = np.random.default_rng(5)
    made: list[dict[str, Any]] = []
    begin = now - _MINUTES * 60
    for number in range(_MINUTES * 8):
        minute = number / 8
        slow = minute >= _FAULT
        at = {"time": begin + minute * 60, "trace_id": f"{number + 1:032x}", "kind": "span"}
        bank = float(20 * np.exp(rng.normal(0, 0.3))) * (4 if slow else 1)
        made.append(
            at | {"name": "pay", "service": "shop", "span_id": f"{2 * number + 1:016x}",
                  "duration_ms": bank + 30, "severity": "info"}
        )  # fmt: skip
        made.append(
            at | {"name": "charge", "service": "bank", "span_id": f"{2 * number + 2:016x}",
                  "parent_id": f"{2 * number + 1:016x}", "duration_ms": bank,
                  "severity": "error" if slow and rng.random() < 0.5 else "info"}
        )  # fmt: skip
        made.append({"time": at["time"], "name": "tick", "service": "mailer", "kind": "log",
                     "body": f"sent {number} mails", "severity": "info"})  # fmt: skip
        if slow:
            made.append({"time": at["time"], "name": "app", "service": "bank", "kind": "log",
                         "body": f"ledger {number} is locked", "severity": "error"})  # fmt: skip
    for name, service, minute in (("deployment", "ci", _FAULT - 1), ("release", "mailer", 195)):
        made.append(
            {"time": begin + minute * 60, "name": name, "service": service, "kind": "event",
             "attributes": {"service": "bank" if service == "ci" else "mailer", "version": "2.1"}}
        )  # fmt: skip
    return made


async def _check(database: Database, store: RecordStore) -> None:
    # The last minute that is over is not looked at: what is sent late may be missing.
    now = (time.time() // 60 - 1) * 60
    ingest = Ingest(database, store)
    records = _incident(now)
    for start in range(0, len(records), 4_000):
        batch = await to_thread.run_sync(from_objects, records[start : start + 4_000], "event")
        await ingest.record(batch)
    decided = int(now * 1000) - 39 * 60_000
    await database.write(
        lambda connection: connection.execute(
            models.insert().values(name="fraud", last_version=2, created_at=decided)
        )
        and connection.execute(
            promotions.insert().values(
                id="pr_1", name="fraud", alias="champion", version=2, previous=1, promoted=True,
                gates=[], reason="", decided_by="me", decided_at=decided,
            )
        )
    )  # fmt: skip
    correlator = Correlator(database, AnomalyFinder(database))
    at = now - (_MINUTES - _FAULT - 5) * 60
    result = await correlator.correlate(at, service="shop")
    assert result.calls == ["shop → bank"]
    assert result.causes[0].what == "deployment"
    assert result.causes[0].service == "bank"
    assert "version=2.1" in result.causes[0].says
    places = {(one.service, one.what): place for place, one in enumerate(result.causes)}
    slow = min(place for (service, _), place in places.items() if service == "shop")
    assert min(places[of] for of in places if of[0] == "bank" and of[1] != "deployment") < slow
    assert places["bank", "deployment"] < places["mailer", "release"]
    assert ("mcp-hub", "promotion") in places
    for one in result.causes:
        assert one.next.startswith("telemetry_")
        assert one.score == pytest.approx(one.effect * one.proximity * one.place, abs=0.02)
    with pytest.raises(NotFound, match="'shp'") as raised:
        await correlator.correlate(at, service="shp")
    assert "shop" in (raised.value.hint or "")
    with pytest.raises(InvalidArgument, match="at is 'yesterday-ish'"):
        await correlator.correlate("yesterday-ish")
    with pytest.raises(InvalidArgument):
        await correlator.correlate(at, within="soon")
    early = await correlator.correlate(now - 400 * 86_400)
    assert early.causes == []
    few = await correlator.correlate(at, limit=1)
    assert len(few.causes) == 1
    assert "raise limit" in few.note


async def test_a_deployment_is_found_behind_what_its_caller_suffers(
    database: SqliteDatabase,
) -> None:
    await _check(database, SqliteRecordStore())


async def test_the_same_on_postgresql(postgres_url: str) -> None:
    database = PostgresDatabase(postgres_url)
    await _check(database, PostgresRecordStore())
    await database.close()


def _finding(service: str, signal: Any, start: int, effect: float = 3.0) -> Finding:
    return Finding(service, None, signal, start, start + 30, 1.0, 2.0, effect, "")


CALLS = Calls({"a": {"b": 1}, "b": {"c": 1}})


def test_what_a_callee_explains_ranks_below_it() -> None:
    found = [_finding("a", "p50", 100, 9), _finding("b", "p50", 100, 6), _finding("c", "p50", 99)]
    causes = ranked(found, [], CALLS, 105, 15)
    assert [cause.of.service for cause in causes] == ["c", "a", "b"]
    assert "explains what a, b shows" in causes[0].because


def test_a_silent_caller_explains_that_its_callee_has_less_to_do() -> None:
    fewer = Finding("b", None, "rate", 101, 130, 10.0, 4.0, 9.0, "")
    causes = ranked([fewer, _finding("a", "silence", 100)], [], CALLS, 105, 15)
    assert [cause.of.service for cause in causes] == ["a", "b"]


def test_a_change_after_which_nothing_happened_is_a_decoy() -> None:
    changes = [Change("deployment", "a", 103, ""), Change("deployment", "c", 98, "")]
    causes = ranked([_finding("c", "errors", 100)], changes, CALLS, 105, 15)
    assert [(type(c.of).__name__, c.of.service) for c in causes] == [
        ("Change", "c"), ("Finding", "c"), ("Change", "a"),
    ]  # fmt: skip


def test_a_change_that_came_later_is_not_the_cause() -> None:
    (first, second) = ranked(
        [_finding("c", "errors", 100)], [Change("deployment", "c", 110, "")], CALLS, 112, 15
    )
    assert isinstance(first.of, Finding)
    assert second.because == "nothing followed it"


def test_what_the_service_asked_about_does_not_depend_on_weighs_less() -> None:
    found = [_finding("a", "errors", 100), _finding("c", "new", 100)]
    causes = ranked(found, [], CALLS, 105, 15, "b")
    assert causes[0].of.service == "c"
    assert "b does not call it" in causes[1].because
