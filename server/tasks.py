"""The extension `io.modelcontextprotocol/tasks` (SEP-2663): tool calls that are answered later.

Only 2026-07-28 has it, and only clients that declare it get a task. Neither a task's work nor
its state is in this process: see `mcp_hub.services.tasks`.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components
from mcp.server.context import CallNext, HandlerResult
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp.types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    ErrorData,
    InputRequiredResult,
    InputResponses,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument
from mcp_hub.server.following import Follower, Offer, State
from mcp_hub.server.protocol import answering
from mcp_hub.services.hub import HubProvider
from mcp_hub.services.tasks.views import HOLD_S, Call, Task
from mcp_hub.services.views import iso

logger = logging.getLogger(__name__)

IDENTIFIER = "io.modelcontextprotocol/tasks"
POLL_INTERVAL_MS = 2_000

Ctx = ServerRequestContext[Any, Any]
CallTool = Callable[[Ctx, CallToolRequestParams], Awaitable[CallToolResult | InputRequiredResult]]

_CALL_S = 0.8 * HOLD_S
_RESPONSES: TypeAdapter[InputResponses] = TypeAdapter(InputResponses)
_VERSIONS = frozenset(MODERN_PROTOCOL_VERSIONS)


class TaskParams(RequestParams):
    task_id: str


class UpdateTaskParams(TaskParams):
    input_responses: dict[str, Any]
    """Checked once it is known which of them answer a question."""


class Tasks(Extension):
    """Answers calls of the tools in `offers` with tasks, and answers for these."""

    identifier = IDENTIFIER

    def __init__(
        self,
        hub: HubProvider,
        call: CallTool,
        may_call: Callable[[str], bool],
        offers: Mapping[str, Offer],
    ) -> None:
        """`call` is the server's own handler of `tools/call`, which goes on with what waited.

        `may_call` tells whether the caller may use a tool of that name, and there is such a one.
        """
        self._hub = hub
        self.call = call
        self._may_call = may_call
        self.offers = dict(offers)

    def methods(self) -> Sequence[MethodBinding]:
        return [
            MethodBinding("tasks/get", TaskParams, self._get, _VERSIONS),
            MethodBinding("tasks/update", UpdateTaskParams, self._update, _VERSIONS),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, _VERSIONS),
        ]

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> HandlerResult:
        offer = self.offers.get(params.name)
        if offer is None or ctx.protocol_version not in _VERSIONS:
            return await call_next(ctx)
        if not _declared(ctx):
            if offer.required:
                require_client_extension(ctx, IDENTIFIER)
            return await call_next(ctx)
        result = await call_next(ctx)
        try:
            task = await self._task_for(params, result, offer)
        except HubError as error:
            # What was started is named in the answer, and can be followed by that.
            logger.warning("%s is answered without a task: %s", params.name, error)
            return result
        if task is None:
            return result
        return {"resultType": "task", **_shown(task, await self.look(task))}

    async def follow(self, tool: str, result: CallToolResult, follower: Follower) -> Task | None:
        """A task for what the tool's answer says it has started; None where it says nothing."""
        subject = None if result.is_error else follower.subject(result)
        if subject is None:
            return None
        return await (await self._hub()).tasks.follow(_owner(), tool, subject)

    async def find(self, task_id: str) -> Task:
        """The caller's task of that id. Raises NotFound."""
        return await (await self._hub()).tasks.get(_owner(), task_id)

    async def look(self, task: Task, *, wait_s: float = 0) -> State:
        """How a task stands, or as it ended within `wait_s` seconds where it is followed."""
        if task.status == "followed":
            follower = self._follower(task)
            if follower is None or task.subject is None:
                missing = f"This server does not offer {task.tool} any more."
                return State("failed", missing, error=_internal(missing))
            return await follower.look(task.subject, wait_s=wait_s)
        if task.status != "asking":
            return State(task.status, result=task.result, error=task.error)
        if task.held or task.call is None:
            return State("working", "The answers have come.")
        return State("input_required", "Waits for an answer.", questions=task.call.pending)

    async def cancel(self, task: Task) -> None:
        """Have what is behind the task end; nothing happens where it has ended. Raises Denied."""
        self._permit(task)
        if task.status == "followed":
            follower = self._follower(task)
            if follower is not None and task.subject is not None:
                await follower.cancel(task.subject)
        else:
            await (await self._hub()).tasks.cancel(_owner(), task.id)

    def _permit(self, task: Task) -> None:
        """Raise where the tool is not for this caller, or not of this process."""
        if not self._may_call(task.tool):
            raise Denied(
                f"{task.tool} is not offered here, or not to this token.",
                "Use a server that offers it, and a token with the scope write.",
            )

    def _follower(self, task: Task) -> Follower | None:
        offer = self.offers.get(task.tool)
        return offer.follower if offer else None

    async def _task_for(
        self, params: CallToolRequestParams, result: HandlerResult, offer: Offer
    ) -> Task | None:
        """The task that stands in for `result`; None where that is the answer."""
        if isinstance(result, InputRequiredResult) and offer.waits:
            call = _asking(params.arguments or {}, result)
            return await (await self._hub()).tasks.ask(_owner(), params.name, call)
        if isinstance(result, CallToolResult) and offer.follower is not None:
            return await self.follow(params.name, result, offer.follower)
        return None

    @answering
    async def _get(self, ctx: Ctx, params: TaskParams) -> dict[str, Any]:
        _check(ctx, params)
        task = await self.find(params.task_id)
        state = await self.look(task)
        ended = {"result": state.result, "error": state.error, "inputRequests": state.questions}
        details = {key: value for key, value in ended.items() if value is not None}
        return _shown(task, state) | details

    @answering
    async def _update(self, ctx: Ctx, params: UpdateTaskParams) -> EmptyResult:
        _check(ctx, params)
        task = await self.find(params.task_id)
        self._permit(task)
        asked = task.call.pending if task.call else {}
        answers = {key: one for key, one in params.input_responses.items() if key in asked}
        _check_answers(answers)
        complete = await (await self._hub()).tasks.answer(_owner(), task.id, answers)
        if complete is not None and complete.call is not None:
            # Whoever answered may go away before what follows from it is written down.
            with anyio.CancelScope(shield=True):
                await self._go_on(ctx, complete, complete.call)
        return EmptyResult()

    @answering
    async def _cancel(self, ctx: Ctx, params: TaskParams) -> EmptyResult:
        _check(ctx, params)
        await self.cancel(await self.find(params.task_id))
        return EmptyResult()

    async def _go_on(self, ctx: Ctx, task: Task, call: Call) -> None:
        """Make the call again, now with all answers, and write down what became of it."""
        tasks = (await self._hub()).tasks
        params = CallToolRequestParams(
            name=task.tool,
            arguments=dict(call.arguments),
            input_responses=_RESPONSES.validate_python(call.answers),
            request_state=call.state,
        )
        with anyio.move_on_after(_CALL_S) as deadline:
            try:
                result = await self.call(ctx, params)
            except MCPError as error:
                await tasks.end(task.id, error=_json(error.error))
                return
        if deadline.cancelled_caught:
            late = f"{task.tool} took longer than {_CALL_S:g} s once it had its answers."
            await tasks.end(task.id, error=_internal(late))
        elif isinstance(result, InputRequiredResult):
            await tasks.ask_again(task.id, _asking(call.arguments, result))
        else:
            await tasks.end(task.id, result=_json(result))


def _declared(ctx: Ctx) -> bool:
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and IDENTIFIER in (capabilities.extensions or {})


def _check(ctx: Ctx, params: TaskParams) -> None:
    """Raise where the client may not ask for tasks, or says another id in the header that
    routes the request than in the request itself."""
    require_client_extension(ctx, IDENTIFIER)
    headers = getattr(ctx.request, "headers", None)
    if headers is None:
        return
    named = decode_header_value(headers.get(MCP_NAME_HEADER))
    if named != params.task_id:
        raise MCPError(
            HEADER_MISMATCH,
            f"The header Mcp-Name is {named!r}, and the request's taskId {params.task_id!r}: "
            "they must be the same.",
        )


def _check_answers(answers: Mapping[str, Any]) -> None:
    try:
        _RESPONSES.validate_python(answers)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidArgument(
            f"The answer to {first['loc'][0]!r} does not fit: {first['msg']}.",
            'An answer looks like {"action": "accept", "content": {…}}, or has the action '
            "decline or cancel.",
        ) from error


def _owner() -> str:
    """Who calls, as far as its token tells: what others have made is not found.

    Without tokens (stdio, loopback) all callers are one.
    """
    token = get_access_token()
    return "" if token is None else to_json(principal_components(token)).decode()


def _shown(task: Task, state: State) -> dict[str, Any]:
    """The task as the extension writes it, without what it ended with or asks."""
    message = {} if state.message is None else {"statusMessage": state.message}
    return {
        "taskId": task.id,
        "status": state.status,
        **message,
        "createdAt": iso(task.created_at),
        "lastUpdatedAt": state.updated_at or iso(task.updated_at),
        "ttlMs": task.ttl_ms,
        "pollIntervalMs": POLL_INTERVAL_MS,
    }


def _asking(arguments: Mapping[str, Any], result: InputRequiredResult) -> Call:
    asked = result.input_requests or {}
    questions = {key: _json(question) for key, question in asked.items()}
    return Call(arguments, questions, result.request_state)


def _json(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _internal(message: str) -> dict[str, Any]:
    return _json(ErrorData(code=INTERNAL_ERROR, message=message))
