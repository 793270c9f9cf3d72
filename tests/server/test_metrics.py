"""/metrics, as a real Prometheus scrapes it and as deploy/ relies on it; and what is pushed."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from prometheus_client.parser import text_string_to_metric_families

from mcp_hub.adapters.errors import InvalidArgument, NotFound
from tests import servers
from tests.processes import call, hub_environment, stdio_client
from tests.receiving import receiving
from tests.servers import Server, need
from tests.waiting import eventually

from .serving import Served, serving, wait_until_ready

DEPLOY = Path(__file__).parents[2] / "deploy"
TOKEN = "t" * 20


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(hub_environment(tmp_path_factory.mktemp("metrics"))) as served:
        wait_until_ready(served)
        yield served


async def scraped(served: Served, **headers: str) -> dict[str, list[Any]]:
    """The samples of /metrics by the names under which Prometheus keeps them."""
    async with httpx2.AsyncClient(headers=headers) as http:
        answer = await http.get(f"{served.url}/metrics")
    assert answer.status_code == 200
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def value(found: dict[str, list[Any]], name: str, **labels: str) -> float:
    (sample,) = [one for one in found[name] if labels.items() <= one.labels.items()]
    return float(sample.value)


async def use(served: Served) -> None:
    """Make each kind of metric move: calls that succeed and fail, a prediction, an alert."""
    async with Client(streamable_http_client(f"{served.url}/mcp")) as client:
        await call(client, "model_list")
        await client.call_tool("predict", {"model": "nothing", "inputs": [{}]})
        await client.call_tool("made-up", {})
        await client.call_tool("made-up-too", {})
        rule = {"name": "never", "threshold": 1}
        await call(client, "telemetry_alert", action="set", name="quiet", rule=rule)
        await call(client, "telemetry_record", records=[{"name": "x"}, {"name": "y"}])


async def test_it_counts_what_happens(served: Served) -> None:
    before = await scraped(served)
    await use(served)
    found = await scraped(served)

    def more(name: str, **labels: str) -> float:
        try:
            earlier = value(before, name, **labels)
        except (KeyError, ValueError):
            earlier = 0
        return value(found, name, **labels) - earlier

    calls = "mcp_hub_tool_calls_total"
    assert more(calls, tool="model_list", outcome="ok") == 1
    assert more(calls, tool="predict", outcome="not_found") == 1
    assert more(calls, tool="unknown", outcome="invalid_argument") == 2
    assert more("mcp_hub_tool_call_duration_seconds_count", tool="model_list") == 1
    assert more("mcp_hub_predictions_total", outcome="not_found") == 1
    assert more("mcp_hub_http_requests_total", route="/mcp", method="POST", status="200") >= 6
    assert more("mcp_hub_telemetry_records_total", result="accepted") >= 2
    assert value(found, "mcp_hub_alerts", state="ok") == 1
    assert value(found, "mcp_hub_jobs", status="queued") == 0
    assert value(found, "mcp_hub_adapter_up", adapter="database") == 1
    assert value(found, "process_resident_memory_bytes") > 1e7
    for sample in found[calls]:
        assert sample.labels["tool"] != "made-up"


async def test_a_token_is_needed_where_there_are_tokens(tmp_path: Path) -> None:
    environment = hub_environment(tmp_path, MCP_HUB_AUTH__TOKENS__PROMETHEUS__TOKEN=TOKEN)
    with serving(environment) as served:
        async with httpx2.AsyncClient() as http:
            refused = await http.get(f"{served.url}/metrics")
        assert refused.status_code == 401
        assert "mcp_hub_info" in await scraped(served, authorization=f"Bearer {TOKEN}")


NAMES = re.compile(r"\b(?:mcp_hub_\w+|process_\w+)\b")


def expressions() -> Iterator[str]:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    for group in rules["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "mcp-hub.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (variable["query"] for variable in dashboard["templating"]["list"])


async def test_every_metric_that_deploy_names_exists(served: Served) -> None:
    await use(served)
    known = set(await scraped(served))
    named = {name for expression in expressions() for name in NAMES.findall(expression)}
    assert len(named) > 15
    assert named <= known


def test_promtool_finds_the_rules_sound_and_they_fire_when_they_should() -> None:
    promtool = need("promtool", "apt-get install prometheus")
    for command in (["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(
            [promtool, *command], cwd=DEPLOY / "prometheus", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_is_provisioned_with_what_the_dashboard_names() -> None:
    folder = DEPLOY / "grafana"
    (source,) = yaml.safe_load(
        (folder / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"]
    dashboard = json.loads((folder / "dashboards" / "mcp-hub.json").read_text())
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == source["uid"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Iterator[Server]:
    """Prometheus with deploy/'s rules, which scrapes the served hub every half a second."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "rules.yml")]
    config["scrape_configs"][0]["static_configs"] = [
        {"targets": [served.url.removeprefix("http://")]}
    ]
    del config["alerting"]
    server = servers.start_prometheus(tmp_path_factory.mktemp("prometheus"), yaml.dump(config))
    yield server
    server.stop()


async def query(server: Server, expression: str) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{server.url}/api/v1/query", params={"query": expression})
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


async def test_prometheus_scrapes_and_evaluates_the_rules(
    served: Served, prometheus: Server
) -> None:
    await use(served)

    async def scraped_it() -> bool:
        return bool(await query(prometheus, 'mcp_hub_tool_calls_total{tool="model_list"} > 0'))

    await eventually(scraped_it)
    assert [one["value"][1] for one in await query(prometheus, 'up{job="mcp-hub"}')] == ["1"]

    async def evaluated() -> bool:
        await use(served)
        return bool(await query(prometheus, "mcp_hub:tool_call_duration_seconds:p95_5m > 0"))

    await eventually(evaluated, within_s=30)
    async with httpx2.AsyncClient() as http:
        groups = (await http.get(f"{prometheus.url}/api/v1/rules")).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) >= 9
    assert {rule["health"] for rule in rules} == {"ok"}


PUSHED = {"MCP_HUB_TELEMETRY__REPORTING_INTERVAL_S": "0.2"}


async def test_prometheus_takes_what_is_written_to_it(tmp_path: Path, prometheus: Server) -> None:
    environment = hub_environment(
        tmp_path, **PUSHED,
        MCP_HUB_TELEMETRY__ENDPOINTS__METRICS=f"{prometheus.url}/api/v1/write",
    )  # fmt: skip
    async with stdio_client(environment) as client:
        await call(client, "hub_info")
        wanted = 'mcp_hub_tool_calls_total{job="mcp-hub",tool="hub_info",outcome="ok"}'

        async def written() -> bool:
            return [one["value"][1] for one in await query(prometheus, wanted)] == ["1"]

        await eventually(written)
        health = await call(client, "hub_health")
        assert health["adapters"]["metrics endpoint"]["status"] == "ok"


async def test_a_pushgateway_has_the_numbers_while_the_process_runs(tmp_path: Path) -> None:
    gateway = servers.start_pushgateway(tmp_path / "pushgateway")
    try:
        environment = hub_environment(
            tmp_path, **PUSHED, MCP_HUB_TELEMETRY__ENDPOINTS__METRICS=gateway.url
        )

        async def pushed() -> bool:
            async with httpx2.AsyncClient() as http:
                text = (await http.get(f"{gateway.url}/metrics")).text
            return bool(
                re.search(r'mcp_hub_tool_calls_total\{[^}]*job="mcp-hub"[^}]*"hub_info"', text)
            )

        async with stdio_client(environment) as client:
            await call(client, "hub_info")
            await eventually(pushed)

        async def forgotten() -> bool:
            return not await pushed()

        await eventually(forgotten)
    finally:
        gateway.stop()


async def test_what_an_endpoint_refuses_for_now_is_sent_later_and_told_by_health(
    tmp_path: Path,
) -> None:
    with receiving() as receiver:
        receiver.answers += [503] * 3
        environment = hub_environment(
            tmp_path, **PUSHED, MCP_HUB_TELEMETRY__ENDPOINTS__LOGS=receiver.url
        )
        async with stdio_client(environment) as client:
            await call(client, "dataset_register", name="d", content="x,y\n1,2\n", format="csv")
            rule = {"name": "d", "threshold": 1}
            await call(client, "telemetry_alert", action="set", name="a", rule=rule)
            submitted = await client.call_tool(
                "training_submit",
                {"name": "m", "type": "probe", "framework": "probe", "dataset": "d"},
            )
            assert not submitted.is_error

            async def told() -> bool:
                report = (await call(client, "hub_health"))["adapters"]["logs endpoint"]
                return report["status"] == "failing" and "503" in report["detail"]

            await eventually(told)

            async def well_again() -> bool:
                report = (await call(client, "hub_health"))["adapters"]["logs endpoint"]
                return bool(report["status"] == "ok")

            await eventually(well_again)
        bodies = [json.loads(one.body) for one in receiver.requests]
        assert {one.path for one in receiver.requests} == {"/loki/api/v1/push"}
        assert bodies[0] == bodies[1], "what was refused was sent again"
        lines = [
            (stream["stream"], time_ns, line)
            for body in bodies
            for stream in body["streams"]
            for time_ns, line in stream["values"]
        ]
        stream, time_ns, line = next(one for one in lines if "job.submitted" in one[2])
        assert stream["service_name"] == "mcp-hub"
        assert stream["level"] == "info"
        assert abs(int(time_ns) - time.time_ns()) < 120 * 10**9
        assert json.loads(line)["mcp_hub.job.framework"] == "probe"


async def test_another_hub_takes_what_is_sent(tmp_path: Path, served: Served) -> None:
    """Its Loki push and remote-write are read by other code than what writes them here."""
    environment = hub_environment(
        tmp_path, **PUSHED,
        MCP_HUB_TELEMETRY__ENDPOINTS__METRICS=f"{served.url}/api/v1/write",
        MCP_HUB_TELEMETRY__ENDPOINTS__LOGS=served.url,
    )  # fmt: skip
    async with (
        stdio_client(environment) as sender,
        Client(streamable_http_client(f"{served.url}/mcp")) as taker,
    ):
        await call(sender, "dataset_register", name="d", content="x,y\n1,2\n", format="csv")
        submitted = {"name": "m", "type": "probe", "framework": "probe", "dataset": "d"}
        await call(sender, "training_submit", **submitted)

        async def taken() -> bool:
            try:
                logs = await call(
                    taker, "telemetry_search", kind="log", service="mcp-hub", text="job.submitted"
                )
                calls = await call(
                    taker, "telemetry_aggregate", measure=["max"], kind="metric",
                    name="mcp_hub_tool_calls_total", where={"tool": "training_submit"},
                )  # fmt: skip
            except (InvalidArgument, NotFound):
                return False  # no such record yet
            return bool(logs["rows"]) and [row[-1] for row in calls["rows"]] == [1]

        await eventually(taken, within_s=30)


async def test_an_endpoint_that_is_not_there_is_in_nobodys_way(tmp_path: Path) -> None:
    environment = hub_environment(
        tmp_path, **PUSHED,
        MCP_HUB_TELEMETRY__ENDPOINTS__METRICS="http://user:sesame@127.0.0.1:9/api/v1/write",
    )  # fmt: skip
    with anyio.fail_after(30):
        async with stdio_client(environment) as client:
            await call(client, "model_list")

            async def told() -> bool:
                report = await call(client, "hub_health")
                assert "sesame" not in json.dumps(report)
                return bool(report["adapters"]["metrics endpoint"]["status"] == "failing")

            await eventually(told)
