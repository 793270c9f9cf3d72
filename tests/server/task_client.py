"""A client of the extension `io.modelcontextprotocol/tasks`, as an MCP client would have it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import anyio
from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.types import CallToolResult, EmptyResult, Request, Result

from mcp_hub.server.tasks import IDENTIFIER, TaskParams, UpdateTaskParams

ENDED = {"completed", "failed", "cancelled"}


class CreatedTask(Result):
    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    status_message: str | None = None
    ttl_ms: int | None
    poll_interval_ms: int


class TaskState(Result):
    task_id: str
    status: str
    status_message: str | None = None
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    input_requests: dict[str, Any] | None = None


class GetTask(Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams
    name_param = "taskId"


class UpdateTask(Request[UpdateTaskParams, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    params: UpdateTaskParams
    name_param = "taskId"


class CancelTask(Request[TaskParams, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: TaskParams
    name_param = "taskId"


class TakesTasks(ClientExtension):
    """Declares the extension; a call that was answered with a task is followed to its end."""

    identifier = IDENTIFIER

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self._resolve)]

    async def _resolve(self, created: CreatedTask, ctx: ClaimContext) -> CallToolResult:
        state = await _until(lambda: _get(ctx.session, created.task_id), ENDED)
        return CallToolResult.model_validate(state.result)


async def create(client: Client, tool: str, /, **arguments: Any) -> CreatedTask:
    """The task that a call is answered with."""
    created = await client.session.call_tool(
        tool, arguments, allow_claimed=True, allow_input_required=True
    )
    assert isinstance(created, CreatedTask), created
    return created


async def get(client: Client, task_id: str) -> TaskState:
    return await _get(client.session, task_id)


async def update(client: Client, task_id: str, **answers: Any) -> None:
    params = UpdateTaskParams(task_id=task_id, input_responses=answers)
    await client.session.send_request(UpdateTask(params=params), EmptyResult)


async def cancel(client: Client, task_id: str) -> None:
    request = CancelTask(params=TaskParams(task_id=task_id))
    await client.session.send_request(request, EmptyResult)


async def until_ended(client: Client, task_id: str) -> TaskState:
    return await _until(lambda: get(client, task_id), ENDED)


async def _get(session: Any, task_id: str) -> TaskState:
    found: TaskState = await session.send_request(
        GetTask(params=TaskParams(task_id=task_id)), TaskState
    )
    return found


async def _until(look: Callable[[], Any], statuses: set[str]) -> TaskState:
    with anyio.fail_after(120):
        while True:
            state: TaskState = await look()
            if state.status in statuses:
                return state
            await anyio.sleep(0.05)
