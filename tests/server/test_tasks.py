"""Tool calls that are answered with a task, between real clients and real processes."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import HEADER_MISMATCH, INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY

from tests.processes import call, hub_environment, stdio_client
from tests.services import onnx_models

from .serving import Served, serving, wait_until_ready
from .task_client import (
    CreatedTask,
    TakesTasks,
    cancel,
    create,
    get,
    until_ended,
    update,
)

POINTS = "x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(20))
TOKENS = {"ann": "a" * 20, "bob": "b" * 20}


@asynccontextmanager
async def http_client(url: str, token: str | None = None) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {TOKENS[token]}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(
            streamable_http_client(f"{url}/mcp", http_client=http),
            read_timeout_seconds=60,
            extensions=[TakesTasks()],
        ) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    """A server over the folder that the stdio servers share."""
    with serving(hub_environment(folder)) as served:
        wait_until_ready(served)
        yield served


@pytest.fixture(params=["stdio", "http"])
async def client(
    request: pytest.FixtureRequest, folder: Path, served: Served
) -> AsyncIterator[Client]:
    if request.param == "http":
        async with http_client(served.url) as client:
            yield client
    else:
        async with stdio_client(hub_environment(folder), extensions=[TakesTasks()]) as client:
            yield client


async def submit(client: Client, **config: Any) -> CreatedTask:
    """The task of a job that does as its config says."""
    await call(client, "dataset_register", name="points", content=POINTS, format="csv")
    return await create(
        client, "training_submit",
        name="probe", type="probe", framework="probe", dataset="points", config=config,
    )  # fmt: skip


async def test_an_evaluation_and_a_batch_are_tasks_that_end_with_their_results(
    client: Client, folder: Path
) -> None:
    trained = onnx_models.iris()
    (folder / "iris.onnx").write_bytes(trained.onnx)
    model = (await call(client, "model_register", name="iris", path="iris.onnx"))["model"]
    rows = [row | {"species": "setosa"} for row in trained.rows(20)]
    await call(client, "dataset_register", name="iris", content=json.dumps(rows), format="json")
    for tool, target in (("model_evaluate", {"target": "species"}), ("predict_batch", {})):
        asked: dict[str, Any] = {"model": model, "dataset": "iris", **target}
        created = await create(client, tool, **asked)
        ended = await until_ended(client, created.task_id)
        assert ended.status == "completed"
        assert ended.result is not None
        result = ended.result["structuredContent"]
        assert (result["status"], result["model"], result["rows"]) == ("succeeded", model, 20)
        # Asked once more, it is answered at once.
        assert await call(client, tool, **asked) == result


async def test_a_job_is_a_task_whose_result_is_the_jobs_status(client: Client) -> None:
    created = await submit(client)
    assert created.status == "working"
    assert (created.ttl_ms or 0) > 0
    ended = await until_ended(client, created.task_id)
    assert (ended.status, ended.error, ended.ttl_ms) == ("completed", None, created.ttl_ms)
    assert ended.result is not None
    job = ended.result["structuredContent"]
    assert (job["status"], job["name"]) == ("succeeded", "probe")
    assert (ended.status_message or "").startswith(f"{job['job_id']} succeeded, score")
    assert ended.last_updated_at == job["finished_at"]
    assert json.loads(ended.result["content"][0]["text"])["job_id"] == job["job_id"]
    assert await call(client, "training_status", job_id=job["job_id"]) == job


async def test_a_client_may_have_the_task_followed_for_it(client: Client) -> None:
    """The result that the task ends with also fits the output schema of the tool called."""
    await call(client, "dataset_register", name="points", content=POINTS, format="csv")
    job = await call(
        client, "training_submit",
        name="probe", type="probe", framework="probe", dataset="points",
    )  # fmt: skip
    assert job["status"] == "succeeded"


async def test_a_cancelled_task_cancels_its_job(client: Client, tmp_path: Path) -> None:
    created = await submit(client, action="wait_for_flag", flag=str(tmp_path / "never"))
    state = await get(client, created.task_id)
    assert state.status == "working"
    job_id = (state.status_message or "").split()[0]
    await cancel(client, created.task_id)
    ended = await until_ended(client, created.task_id)
    assert (ended.status, ended.result) == ("cancelled", None)
    assert (await call(client, "training_status", job_id=job_id))["status"] == "cancelled"
    await cancel(client, created.task_id)  # as often as one likes


async def test_a_job_that_fails_is_a_tools_error(client: Client) -> None:
    ended = await until_ended(client, (await submit(client, action="raise_error")).task_id)
    assert ended.status == "completed"
    assert ended.result is not None
    assert ended.result["isError"]
    job = ended.result["structuredContent"]
    assert job["status"] == "failed"
    assert job["error"]["message"] in (ended.status_message or "")


async def test_a_refused_call_is_no_task(client: Client) -> None:
    result = await client.session.call_tool(
        "training_submit", {"name": "probe", "type": "probe", "dataset": "none"}
    )
    assert result.is_error


async def test_who_does_not_take_tasks_gets_none(served: Served) -> None:
    async with Client(f"{served.url}/mcp") as plain:
        await call(plain, "dataset_register", name="points", content=POINTS, format="csv")
        submitted = await call(
            plain, "training_submit",
            name="probe", type="probe", framework="probe", dataset="points",
        )  # fmt: skip
        assert submitted.keys() >= {"job_id", "status"}
        for ask in (get, cancel, update):
            with pytest.raises(MCPError) as refused:
                await ask(plain, "task_any")
            assert refused.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY


async def test_there_are_no_other_tasks(client: Client) -> None:
    for ask in (get, cancel, update):
        with pytest.raises(MCPError) as refused:
            await ask(client, "task_nobodys")
        assert refused.value.error.code == INVALID_PARAMS


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
@pytest.mark.parametrize("header", [{"mcp-name": "another"}, {}])
async def test_the_header_names_the_same_task(
    served: Served, method: str, header: dict[str, str]
) -> None:
    async with http_client(served.url) as client:
        created = await submit(client)
    params = {"taskId": created.task_id, "inputResponses": {}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {
            "extensions": {TakesTasks.identifier: {}}
        },
    }}  # fmt: skip
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with httpx2.AsyncClient(headers=headers) as http:
        wrong = await http.post(f"{served.url}/mcp", json=body, headers=header)
        right = await http.post(
            f"{served.url}/mcp", json=body, headers={"mcp-name": created.task_id}
        )
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, HEADER_MISMATCH)
    assert (right.status_code, right.json()["result"]["resultType"]) == (200, "complete")


async def test_another_process_answers_for_a_task_whose_own_was_killed(
    served: Served, folder: Path, tmp_path: Path
) -> None:
    flag = tmp_path / "go"
    with serving(hub_environment(folder)) as other:
        wait_until_ready(other)
        async with http_client(other.url) as client:
            created = await submit(client, action="wait_for_flag", flag=str(flag))
        async with http_client(served.url) as client:
            # Of two that serve, each knows the task.
            assert (await get(client, created.task_id)).status == "working"
        other.process.kill()
        other.process.wait()
    flag.touch()
    async with http_client(served.url) as client:
        ended = await until_ended(client, created.task_id)
    assert ended.status == "completed"
    assert ended.result is not None
    assert not ended.result.get("isError")


async def test_a_token_does_not_see_the_tasks_of_another(tmp_path: Path) -> None:
    variables = {
        f"MCP_HUB_AUTH__TOKENS__{name.upper()}__{key}": value
        for name, token in TOKENS.items()
        for key, value in (("TOKEN", token), ("SCOPES", "read,write"))
    }
    with serving(hub_environment(tmp_path, **variables)) as guarded:
        async with http_client(guarded.url, "ann") as ann:
            created = await submit(ann, action="wait_for_flag", flag=str(tmp_path / "never"))
            async with http_client(guarded.url, "bob") as bob:
                for ask in (get, cancel, update):
                    with pytest.raises(MCPError) as refused:
                        await ask(bob, created.task_id)
                    assert refused.value.error.code == INVALID_PARAMS
            assert (await get(ann, created.task_id)).status == "working"
            await cancel(ann, created.task_id)
            assert (await until_ended(ann, created.task_id)).status == "cancelled"


async def test_a_sweep_is_a_task_whose_result_is_the_sweeps_status(client: Client) -> None:
    await call(client, "dataset_register", name="points", content=POINTS, format="csv")
    created = await create(
        client, "training_sweep",
        name="swept", type="probe", framework="probe", dataset="points", metric="score", trials=3,
        space={"value": {"type": "float", "low": 0, "high": 1}},
    )  # fmt: skip
    assert created.status == "working"
    ended = await until_ended(client, created.task_id)
    assert (ended.status, ended.error) == ("completed", None)
    assert ended.result is not None
    sweep = ended.result["structuredContent"]
    assert (sweep["status"], sweep["counts"]) == ("succeeded", {"complete": 3, "asked": 3})
    assert sweep["model"].startswith("swept:")
    assert (ended.status_message or "").startswith(f"{sweep['sweep_id']} succeeded: 3 complete")
    told = await call(client, "training_sweep_status", sweep_id=sweep["sweep_id"])
    assert told["best"] == sweep["best"] == told["trials"][0]
    listed = (await call(client, "training_list", sweeps=True, limit=1))["items"]
    assert [item["sweep_id"] for item in listed] == [sweep["sweep_id"]]
    assert (listed[0]["ended"], listed[0]["best"]) == (3, sweep["best"]["value"])
