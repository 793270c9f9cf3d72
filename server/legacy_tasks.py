"""The tasks of 2025-11-25: a client asks for one with each call, and fetches its result.

The SDK has the types of that revision's tasks and not their methods: its checks know no
`tools/call` that is answered with a task, so such a call is answered around them, here.
"""

import time
from collections.abc import Sequence
from typing import Any

from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp.server.context import CallNext, HandlerResult
from mcp.server.extension import MethodBinding
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    CallToolRequestParams,
    CallToolResult,
    CreateTaskResult,
    GetTaskResult,
    ServerTasksCapability,
    TextContent,
    Tool,
    ToolExecution,
)
from mcp.types import Task as WireTask
from pydantic import ValidationError

from mcp_hub.server.following import State
from mcp_hub.server.protocol import answering
from mcp_hub.server.tasks import POLL_INTERVAL_MS, TaskParams, Tasks
from mcp_hub.services.tasks.views import Task
from mcp_hub.services.views import iso

_VERSIONS = frozenset({"2025-11-25"})
_RELATED_TASK = "io.modelcontextprotocol/related-task"
_WAIT_S = 50.0

Ctx = ServerRequestContext[Any, Any]

CAPABILITY = ServerTasksCapability.model_validate(
    {"cancel": {}, "requests": {"tools": {"call": {}}}}
)


class LegacyTasks:
    """That revision's view of `tasks`: those that follow something, which is all it can show."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def methods(self) -> Sequence[MethodBinding]:
        return [
            MethodBinding("tasks/get", TaskParams, self._get, _VERSIONS),
            MethodBinding("tasks/result", TaskParams, self._result, _VERSIONS),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, _VERSIONS),
        ]

    def listed(self, tool: Tool) -> Tool:
        """The tool as `tools/list` shows it: with tasks, where its calls can be such."""
        offer = self._tasks.offers.get(tool.name)
        if offer is None or offer.follower is None:
            return tool
        support = "required" if offer.required else "optional"
        return tool.model_copy(update={"execution": ToolExecution(task_support=support)})

    async def answer_calls(self, ctx: Ctx, call_next: CallNext) -> HandlerResult:
        """A middleware: answers the calls that ask for a task, or would have to."""
        if ctx.method != "tools/call" or ctx.protocol_version not in _VERSIONS:
            return await call_next(ctx)
        given = ctx.params or {}
        if given.get("task") is None:
            name = given.get("name")
            offer = self._tasks.offers.get(name) if isinstance(name, str) else None
            if offer is not None and offer.required:
                raise MCPError(METHOD_NOT_FOUND, f"{name} runs only as a task.")
            return await call_next(ctx)
        try:
            params = CallToolRequestParams.model_validate(given, by_name=False)
        except ValidationError:
            return await call_next(ctx)
        return await self._create(ctx, params)

    @answering
    async def _create(self, ctx: Ctx, params: CallToolRequestParams) -> CreateTaskResult:
        offer = self._tasks.offers.get(params.name)
        if offer is None or offer.follower is None:
            message = f"{params.name} does not run as a task: call it without."
            raise MCPError(METHOD_NOT_FOUND, message)
        result = await self._tasks.call(ctx, params)
        task = None
        if isinstance(result, CallToolResult):
            if result.is_error:
                raise MCPError(INVALID_PARAMS, _text(result))
            task = await self._tasks.follow(params.name, result, offer.follower)
        if task is None:
            raise MCPError(INTERNAL_ERROR, f"{params.name} has started nothing.")
        return CreateTaskResult(task=WireTask(**_fields(task, await self._tasks.look(task))))

    @answering
    async def _get(self, ctx: Ctx, params: TaskParams) -> GetTaskResult:
        task = await self._tasks.find(params.task_id)
        return GetTaskResult(**_fields(task, await self._tasks.look(task)))

    @answering
    async def _result(self, ctx: Ctx, params: TaskParams) -> dict[str, Any]:
        """What the call would have been answered with, once that is known."""
        task = await self._tasks.find(params.task_id)
        state = await self._tasks.look(task)
        while state.status == "working":
            began = time.monotonic()
            state = await self._tasks.look(task, wait_s=_WAIT_S)
            if state.status == "working" and time.monotonic() - began < 1:
                # Waits end early where the process does.
                raise MCPError(INTERNAL_ERROR, "This server stops: ask again for the result.")
        if state.result is None:
            error = state.error or {}
            message = error.get("message") or f"The task is {state.status}: it has no result."
            raise MCPError(error.get("code", INTERNAL_ERROR), message, error.get("data"))
        return {**state.result, "_meta": {_RELATED_TASK: {"taskId": task.id}}}

    @answering
    async def _cancel(self, ctx: Ctx, params: TaskParams) -> GetTaskResult:
        task = await self._tasks.find(params.task_id)
        state = await self._tasks.look(task)
        if state.status in ("completed", "failed", "cancelled"):
            raise MCPError(INVALID_PARAMS, f"The task has already ended: it is {state.status}.")
        await self._tasks.cancel(task)
        return GetTaskResult(**_fields(task, await self._tasks.look(task)))


def _fields(task: Task, state: State) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "status": state.status,
        "status_message": state.message,
        "created_at": iso(task.created_at),
        "last_updated_at": state.updated_at or iso(task.updated_at),
        "ttl": task.ttl_ms,
        "poll_interval": POLL_INTERVAL_MS,
    }


def _text(result: CallToolResult) -> str:
    return " ".join(part.text for part in result.content if isinstance(part, TextContent))
