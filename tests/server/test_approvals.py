"""Promotions that a person has to approve, as clients of each kind ask theirs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.client import ClientRequestContext
from mcp.types import INVALID_PARAMS, CallToolResult, ElicitRequestParams, ElicitResult
from probe_framework import IDENTITY

from mcp_hub.server.app import create_server
from mcp_hub.server.composition import open_hub
from mcp_hub.server.hub_server import HubServer
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub, HubProvider
from tests.processes import call

from .conftest import ERAS
from .task_client import TakesTasks, cancel, create, get, update

GATES = {"min_metric": {"accuracy": 0.8}, "human_approval": True}
ASKED = "approve iris:1 as champion"
YES = {"action": "accept", "content": {"approve": True, "comment": "Looks right"}}
NO = {"action": "accept", "content": {"approve": False}}
DECLINED = {"action": "decline"}

AddModel = Callable[[], Awaitable[None]]


class User:
    """Who sits at the client: keeps what was asked, and gives the answer."""

    def __init__(self, answer: dict[str, Any] | None = None) -> None:
        self.asked: list[str] = []
        self._answer = answer

    async def __call__(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult:
        self.asked.append(params.message)
        assert self._answer is not None, "nobody was to be asked"
        return ElicitResult.model_validate(self._answer)


@pytest.fixture
def add_model(hub: Hub, tmp_path: Path) -> AddModel:
    """Adds a version of the model iris."""
    (tmp_path / "iris.onnx").write_bytes(IDENTITY)

    async def add() -> None:
        await hub.registry.register(
            "iris", "iris.onnx", metrics={"accuracy": 0.9}, created_by="test"
        )

    return add


@pytest.fixture(autouse=True)
async def _one_version(add_model: AddModel) -> None:
    await add_model()


@pytest.fixture
async def client(server: HubServer) -> AsyncIterator[Client]:
    """A client that takes tasks and can ask its user, which it must not do in a call."""
    async with Client(server, extensions=[TakesTasks()], elicitation_callback=User()) as client:
        yield client


async def ask(client: Client, model: str = "iris:1", **more: Any) -> str:
    """The id of the task that waits for the approval."""
    arguments = {"model": model, "alias": "champion", "gates": GATES, **more}
    created = await create(client, "model_promote", **arguments)
    assert created.status == "input_required"
    return created.task_id


async def champion(client: Client) -> int | None:
    [model] = (await call(client, "model_list"))["items"]
    version: int | None = model["aliases"].get("champion")
    return version


async def decisions(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await call(client, "model_lineage", model="iris:1"))[
        "promotions"
    ]
    return found


async def test_a_promotion_waits_in_a_task_that_any_process_goes_on_with(
    client: Client, settings: Settings
) -> None:
    task_id = await ask(client, reason="better")
    waiting = await get(client, task_id)
    assert (waiting.status, waiting.result) == ("input_required", None)
    assert waiting.input_requests is not None
    question = waiting.input_requests[ASKED]
    assert question["method"] == "elicitation/create"
    message = question["params"]["message"]
    assert message == "Promote iris:1 to champion?\naccuracy 0.9\nReason: better"
    assert (await champion(client), await decisions(client)) == (None, [])

    async with open_hub(settings) as other_hub:

        async def provide() -> Hub:
            return other_hub

        other = create_server(settings, provide)
        async with Client(other, extensions=[TakesTasks()]) as elsewhere:
            await update(elsewhere, task_id, **{ASKED: YES})
            ended = await get(elsewhere, task_id)
    assert (ended.status, ended.input_requests) == ("completed", None)
    assert ended == await get(client, task_id)
    assert ended.result is not None
    decision = ended.result["structuredContent"]
    assert decision["promoted"] is True
    assert decision["gates"][-1] == {
        "gate": "human_approval", "passed": True, "expected": True, "actual": True,
        "note": "Looks right",
    }  # fmt: skip
    assert await champion(client) == 1
    assert await decisions(client) == [decision]


@pytest.mark.parametrize("answer", [NO, DECLINED, {"action": "cancel"}])
async def test_what_a_person_refuses_is_kept_as_refused(
    client: Client, answer: dict[str, Any]
) -> None:
    task_id = await ask(client)
    await update(client, task_id, **{ASKED: answer})
    ended = await get(client, task_id)
    assert ended.status == "completed"
    assert ended.result is not None
    assert ended.result["structuredContent"]["promoted"] is False
    assert await champion(client) is None
    [decision] = await decisions(client)
    assert [gate["passed"] for gate in decision["gates"]] == [True, False]


async def test_an_answer_must_fit_and_be_to_what_was_asked(client: Client) -> None:
    task_id = await ask(client)
    await update(client, task_id, another=YES)
    with pytest.raises(MCPError) as refused:
        await update(client, task_id, **{ASKED: {"action": "perhaps"}})
    assert refused.value.error.code == INVALID_PARAMS
    assert ASKED in refused.value.error.message
    assert (await get(client, task_id)).status == "input_required"
    assert await decisions(client) == []


async def test_nothing_comes_of_a_cancelled_question(client: Client) -> None:
    task_id = await ask(client)
    await cancel(client, task_id)
    await update(client, task_id, **{ASKED: YES})
    assert (await get(client, task_id)).status == "cancelled"
    assert (await champion(client), await decisions(client)) == (None, [])


async def test_a_process_without_the_tool_leaves_the_question(
    client: Client, settings: Settings, provide: HubProvider
) -> None:
    task_id = await ask(client)
    reading = create_server(settings.model_copy(update={"read_only": True}), provide)
    async with Client(reading, extensions=[TakesTasks()]) as elsewhere:
        for act in (partial(update, **{ASKED: YES}), cancel):
            with pytest.raises(MCPError, match="model_promote is not offered here"):
                await act(elsewhere, task_id)
        assert (await get(elsewhere, task_id)).status == "input_required"
    await update(client, task_id, **{ASKED: YES})
    assert await champion(client) == 1


async def test_an_answer_counts_for_the_version_that_was_shown(
    client: Client, add_model: AddModel
) -> None:
    task_id = await ask(client, model="iris")
    await add_model()
    await update(client, task_id, **{ASKED: YES})
    again = await get(client, task_id)
    assert again.status == "input_required"
    assert (again.input_requests or {}).keys() == {"approve iris:2 as champion"}
    assert await champion(client) is None
    await update(client, task_id, **{"approve iris:2 as champion": YES})
    assert (await get(client, task_id)).status == "completed"
    assert await champion(client) == 2


async def test_nobody_is_asked_where_another_gate_fails(client: Client) -> None:
    gates = {"min_metric": {"accuracy": 0.99}, "human_approval": True}
    decision = await call(client, "model_promote", model="iris:1", alias="champion", gates=gates)
    assert decision["promoted"] is False
    assert [gate["passed"] for gate in decision["gates"]] == [False, False]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("answer", "promoted"), [(YES, True), (DECLINED, False)])
async def test_a_client_without_tasks_asks_in_the_call(
    server: HubServer, era: Any, answer: dict[str, Any], promoted: bool
) -> None:
    user = User(answer)
    async with Client(server, mode=era, elicitation_callback=user) as client:
        decision = await call(
            client, "model_promote", model="iris:1", alias="champion", gates=GATES
        )
        assert decision["promoted"] is promoted
        assert await decisions(client) == [decision]
    assert user.asked == ["Promote iris:1 to champion?\naccuracy 0.9"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cannot_ask_is_refused(server: HubServer, era: Any) -> None:
    async with Client(server, mode=era) as client:
        result = await client.call_tool(
            "model_promote", {"model": "iris:1", "alias": "champion", "gates": GATES}
        )
        assert isinstance(result, CallToolResult)
        decision = result.structured_content or {}
        assert decision["promoted"] is False
        assert "this client cannot ask" in decision["gates"][-1]["note"]
        assert await champion(client) is None
