"""The tasks of 2025-11-25, as the official TypeScript SDK's client uses them."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from mcp import Client

from tests.node import node_with_packages
from tests.processes import call, hub_environment

from .serving import Served, serving, wait_until_ready

FOLDER = Path(__file__).parent / "node"
JOB = {"name": "probe", "type": "probe", "framework": "probe", "dataset": "points"}

Told = list[dict[str, Any]]
Follow = Callable[..., Told]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(hub_environment(tmp_path_factory.mktemp("legacy"))) as served:
        wait_until_ready(served)
        yield served


@pytest.fixture
async def follow(served: Served) -> Follow:
    """Calls a tool as a task: what the client is told until it ends."""
    node = await to_thread.run_sync(node_with_packages, FOLDER)
    async with Client(f"{served.url}/mcp", mode="legacy") as client:
        points = "x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(20))
        await call(client, "dataset_register", name="points", content=points, format="csv")

    def follow(tool: str, arguments: dict[str, Any], *cancel: str) -> Told:
        command = [node, str(FOLDER / "task_client.mjs"), f"{served.url}/mcp", tool]
        done = subprocess.run(
            [*command, json.dumps(arguments), *cancel], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return follow


async def test_a_job_is_followed_to_its_result(follow: Follow, served: Served) -> None:
    told = await to_thread.run_sync(follow, "training_submit", JOB)
    capability, tool, created, *_, result = told
    assert capability["tasks"] == {"cancel": {}, "requests": {"tools": {"call": {}}}}
    assert tool["execution"] == {"taskSupport": "optional"}
    assert (created["type"], created["task"]["status"]) == ("taskCreated", "working")
    assert created["task"]["ttl"] > 0
    assert result["type"] == "result"
    job = result["result"]["structuredContent"]
    assert (job["status"], job["name"]) == ("succeeded", "probe")
    related = result["result"]["_meta"]["io.modelcontextprotocol/related-task"]
    assert related == {"taskId": created["task"]["taskId"]}
    async with Client(f"{served.url}/mcp", mode="legacy") as client:
        assert await call(client, "training_status", job_id=job["job_id"]) == job


async def test_a_job_is_cancelled(follow: Follow, tmp_path: Path) -> None:
    config = {"action": "wait_for_flag", "flag": str(tmp_path / "never")}
    told = await to_thread.run_sync(follow, "training_submit", JOB | {"config": config}, "cancel")
    [cancelled] = [message["task"] for message in told if message["type"] == "cancelled"]
    assert cancelled["status"] in ("working", "cancelled")
    assert told[-1]["type"] == "error"
    assert "cancelled" in told[-1]["error"]["message"]


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "message"),
    [
        ("hub_health", {}, -32601, "hub_health does not run as a task"),
        ("training_submit", JOB | {"dataset": "none"}, -32602, "There is no data set 'none'"),
    ],
)
async def test_what_cannot_be_a_task_is_refused(
    follow: Follow, tool: str, arguments: dict[str, Any], code: int, message: str
) -> None:
    told = await to_thread.run_sync(follow, tool, arguments)
    assert (told[-1]["type"], told[-1]["error"]["code"]) == ("error", code)
    assert message in told[-1]["error"]["message"]
