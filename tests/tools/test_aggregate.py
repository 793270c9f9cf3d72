"""`telemetry_aggregate` as an agent calls it."""

from pathlib import Path

from mcp import Client

from mcp_hub.server.app import create_server
from mcp_hub.server.composition import open_hub
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub
from tests.processes import call


async def test_an_agent_counts_and_compares(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", roots=[tmp_path])
    async with open_hub(settings) as hub:

        async def provide() -> Hub:
            return hub

        async with Client(create_server(settings, provide, transport="http")) as client:
            await client.list_tools()
            spans = [
                {"kind": "span", "name": "load", "service": f"s{n % 2}", "duration_ms": n,
                 "attributes": {"bytes": n * 10}}
                for n in range(1, 101)
            ]  # fmt: skip
            spans.append({"name": "epoch", "attributes": {"batch": "small"}})
            await call(client, "telemetry_record", records=spans)
            plain = await call(client, "telemetry_aggregate")
            table = await call(
                client,
                "telemetry_aggregate",
                measure=["p50", "avg:bytes", "unique:bytes", "count"],
                group_by=["service"],
                where={"duration_ms": {"gt": 50}},
                compare=True,
            )
            nothing = await call(
                client,
                "telemetry_aggregate",
                measure=["avg", "max:batch", "count"],
                name="epoch",
            )
            single = await call(
                client, "telemetry_aggregate", measure="p50", group_by="service", kind="span"
            )
            wrong = await client.call_tool("telemetry_aggregate", {"name": "lood"})
    assert plain["columns"] == ["count"]
    assert plain["rows"] == [[101]]
    assert table["columns"][:4] == ["service", "p50_ms", "p50_ms.before", "p50_ms.change"]
    assert [[row[0], *row[1::3]] for row in table["rows"]] == [
        ["s0", 76, 760, 25, 25],
        ["s1", 75, 750, 25, 25],
    ]
    assert [row[11] for row in table["rows"]] == [0, 0]
    assert "before: from" in table["note"]
    assert single["columns"] == ["service", "p50_ms"]
    assert nothing["rows"] == [[None, None, 1]]
    assert "number in value: measure an attribute by its key" in nothing["note"]
    assert "number in attributes.batch: its type is in telemetry_fields" in nothing["note"]
    assert wrong.is_error
    assert "Did you mean 'load'?" in wrong.content[0].text  # type: ignore[union-attr]
