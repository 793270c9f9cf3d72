"""What there is to ask about: names, services, attributes, and values of theirs."""

import time
from typing import Any

import pytest

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.records.fields import Fields


async def record(ingest: Ingest, *records: dict[str, Any]) -> None:
    accepted = await ingest.record(from_objects(records, "event"))
    assert not accepted.rejected


async def test_the_overview_has_what_is_common_first(store: Database, ingest: Ingest) -> None:
    old = time.time() - 3 * 24 * 3600
    await record(
        ingest,
        *({"name": "request", "service": f"s{i % 7}", "attributes": {"status": i}}
          for i in range(50)),
        *({"name": f"rare {i}", "service": "api"} for i in range(20)),
        {"name": "cpu", "kind": "metric", "value": 1, "unit": "%", "resource": {"host": "a"}},
        *({"name": "old", "time": old} for _ in range(60)),
    )  # fmt: skip
    fields = Fields(store)
    page = await fields.fields(limit=10)
    assert page.columns == ["name", "kind", "count_24h", "unit", "services", "attributes"]
    assert page.rows[0] == [
        "request", "event", 50, None, ["s0", "s1", "s2", "s3", "s4", "… 2 more"], ["status"]
    ]  # fmt: skip
    seen = [row[0] for row in page.rows]
    while page.next_cursor:
        page = await fields.fields(limit=10, cursor=page.next_cursor)
        seen += [row[0] for row in page.rows]
    assert len(seen) == len(set(seen)) == 23
    assert page.rows[-1][:3] == ["old", "event", 0]
    assert not page.truncated


async def test_a_name_has_fields_with_types_and_values(store: Database, ingest: Ingest) -> None:
    await record(
        ingest,
        *({"name": "r", "service": service, "attributes": {
            "status": 200 + i, "name": "x" * 80, "Ä": True, "mixed": i if i % 2 else str(i)},
           "resource": {"host": "h1"}} for i in range(9) for service in ("api", "db")),
        {"name": "r", "service": "db", "attributes": {"only.db": None}},
    )  # fmt: skip
    view = await Fields(store).fields("r")
    assert view.series == [["event", "db", 10, None], ["event", "api", 9, None]]
    rows = {row[0]: row[1:] for row in view.rows}
    assert list(rows) == ["mixed", "attributes.name", "only.db", "resource.host", "status", "Ä"]
    assert rows["status"] == ["number", [200, 201, 202, 203, 204, 205], True]
    assert rows["attributes.name"] == ["string", ["x" * 60 + "…"], False]
    assert rows["Ä"] == ["boolean", [True], False]
    assert rows["mixed"][0] == "number string"
    assert rows["resource.host"] == ["string", ["h1"], False]
    first = await Fields(store).fields("r", limit=4)
    assert first.truncated
    second = await Fields(store).fields("r", limit=4, cursor=first.next_cursor)
    assert [row[0] for row in (*first.rows, *second.rows)] == list(rows)


async def test_the_hub_s_own_are_shown_by_service_or_name(store: Database, ingest: Ingest) -> None:
    await record(
        ingest,
        {"name": "call", "service": "mcp-hub", "attributes": {"tool": "predict"}},
        {"name": "call", "service": "web", "attributes": {"path": "/"}},
        {"name": "attempt", "service": "mcp-hub-worker"},
    )
    fields = Fields(store)
    assert [row[:1] + row[4:] for row in (await fields.fields()).rows] == [
        ["call", ["web"], ["path"]]
    ]
    assert [row[0] for row in (await fields.fields(service="mcp-hub-worker")).rows] == ["attempt"]
    assert [row[0] for row in (await fields.fields("call")).rows] == ["path", "tool"]
    of_hub = await fields.fields("call", service="mcp-hub")
    assert [row[0] for row in of_hub.rows] == ["tool"]
    assert of_hub.series == [["event", "mcp-hub", 1, None]]
    for name in (None, "call"):
        with pytest.raises(NotFound, match="'wbe'") as error:
            await fields.fields(name, service="wbe")
        assert "Did you mean 'web'?" in str(error.value.hint)


async def test_what_is_not_there_is_told(store: Database, ingest: Ingest) -> None:
    fields = Fields(store)
    nothing = await fields.fields()
    assert nothing.rows == []
    assert "telemetry_record" in str(nothing.note)
    await record(ingest, {"name": "http.server.duration"}, {"name": "cron"})
    with pytest.raises(NotFound) as error:
        await fields.fields("server")
    assert error.value.hint == "Existing names: http.server.duration."
    with pytest.raises(NotFound) as error:
        await fields.fields("http.sever.duration")
    assert "Did you mean 'http.server.duration'?" in str(error.value.hint)
    with pytest.raises(InvalidArgument):
        await fields.fields(limit=1_000)
    with pytest.raises(InvalidArgument):
        await fields.fields(cursor="x")
