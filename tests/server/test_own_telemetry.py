"""One trace from an agent's call to the prediction, through real processes."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.types import CallToolResult
from sklearn.datasets import load_iris

from tests.processes import hub_environment, stdio_client
from tests.waiting import eventually

from .conftest import ERAS
from .serving import serving, wait_until_ready

TRACE = "0af7651916cd43dd8448eb211c80319c"
AGENT = "b7ad6b7169203331"
META: Any = {"traceparent": f"00-{TRACE}-{AGENT}-01"}
SECRET = "sesame-9f3b"
ROW = {
    "sepal length (cm)": 5.1, "sepal width (cm)": 3.5,
    "petal length (cm)": 1.4, "petal width (cm)": 0.2,
}  # fmt: skip


def records(folder: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(folder / "data" / "hub.db")) as database:
        database.row_factory = sqlite3.Row
        rows = database.execute(
            "SELECT s.kind, s.name, s.service, hex(r.trace_id) trace, hex(r.span_id) span,"
            " hex(r.parent_id) parent, r.severity, r.attributes"
            " FROM telemetry_records r JOIN telemetry_series s USING (series) ORDER BY r.time"
        ).fetchall()
    return [
        dict(row) | {"attributes": json.loads(row["attributes"])} | {
            key: row[key].lower() for key in ("trace", "span", "parent")
        }
        for row in rows
    ]  # fmt: skip


async def traced(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments, meta=META)
    assert isinstance(result, CallToolResult)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


@pytest.mark.parametrize("era", ERAS)
async def test_a_trace_leads_from_the_agent_to_the_prediction(tmp_path: Path, era: str) -> None:
    load_iris(as_frame=True).frame.to_csv(tmp_path / "iris.csv", index=False)
    async with stdio_client(hub_environment(tmp_path), mode=era) as client:
        await client.call_tool("dataset_register", {"name": "iris", "source": "iris.csv"})
        job = await traced(
            client, "training_submit",
            name="iris", type="classification", dataset="iris", target="target",
            config={"estimator": "decision_tree"}, idempotency_key=SECRET,
        )  # fmt: skip

        async def ended() -> bool:
            status = await client.call_tool(
                "training_status", {"job_id": job["job_id"], "wait_s": 10}
            )
            assert isinstance(status, CallToolResult)
            return bool((status.structured_content or {})["status"] == "succeeded")

        await eventually(ended, within_s=120)
        await traced(client, "model_promote", model="iris:1", alias="champion", reason=SECRET)
        await traced(client, "predict", model="iris@champion", inputs=[ROW])

        def whole() -> bool:
            return {"predict", "job.ended"} <= {record["name"] for record in records(tmp_path)}

        await eventually(whole)
    everything = records(tmp_path)
    trace = [record for record in everything if record["trace"] == TRACE]
    spans = {record["name"]: record for record in trace if record["kind"] == "span"}
    submit, predict = spans["tools/call training_submit"], spans["tools/call predict"]
    assert submit["parent"] == predict["parent"] == AGENT
    assert spans["job.attempt"]["parent"] == submit["span"]
    assert spans["job.attempt"]["service"] == "mcp-hub-worker"
    assert spans["predict"]["parent"] == predict["span"]
    assert spans["predict"]["attributes"]["mcp_hub.model.version"] == 1
    under = {r["name"]: r["span"] for r in trace if r["kind"] == "event"}
    assert under == {
        "job.submitted": submit["span"],
        "model.registered": spans["job.attempt"]["span"],
        "job.ended": spans["job.attempt"]["span"],
        "model.promotion": spans["tools/call model_promote"]["span"],
    }
    assert (
        submit["attributes"]
        | {
            "mcp.method.name": "tools/call",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "training_submit",
            "network.transport": "pipe",
            "mcp_hub.arguments": "name type dataset target config idempotency_key",
        }
        == submit["attributes"]
    )
    text = json.dumps(everything)
    assert SECRET not in text
    assert "sepal" not in text


async def test_a_jobs_process_is_told_of_the_trace(tmp_path: Path) -> None:
    async with stdio_client(hub_environment(tmp_path)) as client:
        await client.call_tool(
            "dataset_register",
            {"name": "points", "format": "csv", "content": "x,y\n1,a\n2,b\n3,a\n4,b\n"},
        )
        job = await traced(
            client, "training_submit", name="probe", type="probe", framework="probe",
            dataset="points", config={"action": "show_environment"},
        )  # fmt: skip

        async def told() -> bool:
            logs = await client.call_tool("training_logs", {"job_id": job["job_id"]})
            assert isinstance(logs, CallToolResult)
            return f"TRACEPARENT=00-{TRACE}-" in json.dumps(logs.structured_content)

        await eventually(told, within_s=60)


async def test_errors_are_recorded_by_their_code(tmp_path: Path) -> None:
    async with stdio_client(hub_environment(tmp_path)) as client:
        await client.call_tool("model_get", {"model": SECRET})
        await client.call_tool(SECRET, {SECRET: SECRET})
    found = [record for record in records(tmp_path) if record["name"].startswith("tools/call")]
    errors = [(record["name"], record["attributes"]["error.type"]) for record in found]
    assert errors == [
        ("tools/call model_get", "not_found"),
        ("tools/call unknown", "invalid_argument"),
    ]
    assert {record["severity"] for record in found} == {17}
    assert SECRET not in json.dumps(records(tmp_path))


async def test_nothing_is_recorded_when_that_is_switched_off(tmp_path: Path) -> None:
    environment = hub_environment(tmp_path, MCP_HUB_TELEMETRY__ENABLED="false")
    async with stdio_client(environment) as client:
        await client.call_tool("model_list", {})
    assert records(tmp_path) == []


async def test_http_requests_are_spans_above_the_calls_that_they_carry(tmp_path: Path) -> None:
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "model_list", "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }},
    }  # fmt: skip
    headers = {
        "accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call", "mcp-name": "model_list", **META,
    }  # fmt: skip
    with serving(hub_environment(tmp_path)) as served:
        wait_until_ready(served)
        async with httpx2.AsyncClient() as http:
            answer = await http.post(f"{served.url}/mcp", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            await http.get(f"{served.url}/nowhere/{SECRET}")

        def both() -> bool:
            names = {record["name"] for record in records(tmp_path)}
            return {"POST /mcp", "tools/call model_list", "GET unmatched"} <= names

        await eventually(both)
    found = {record["name"]: record for record in records(tmp_path)}
    assert found["POST /mcp"]["parent"] == AGENT
    assert found["POST /mcp"]["attributes"]["http.response.status_code"] == 200
    assert found["tools/call model_list"]["trace"] == TRACE
    assert found["tools/call model_list"]["parent"] == found["POST /mcp"]["span"]
    assert found["GET unmatched"]["attributes"]["http.response.status_code"] == 404
    assert not {name for name in found if "/ready" in name}
    assert SECRET not in json.dumps(records(tmp_path))
