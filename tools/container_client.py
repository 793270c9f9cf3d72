"""The hub's client as a server in a container sees it: told of progress, and asked for input."""

import hashlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context
from mcp.shared.message import ServerMessageMetadata
from mcp.types import (
    CLIENT_CAPABILITIES_META_KEY,
    CallToolResult,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitRequest,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    TextContent,
)
from mcp.types import ContentBlock as Block
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, TypeAdapter, ValidationError

from mcp_hub.services.containers.suspending import PREFIX
from mcp_hub.services.containers.wire.messages import INVALID_REQUEST, METHOD_NOT_FOUND, RpcError
from mcp_hub.tools.connections import connection_of

if TYPE_CHECKING:
    from mcp_hub.services.containers.service import ContainersService
    from mcp_hub.services.containers.sessions import Sessions

logger = logging.getLogger(__name__)

_PROCESS = secrets.token_hex(16)
"""The session of a stdio server's client: there is one, and it ends with the process."""

_ANSWERS: dict[str, tuple[Any, Any, str]] = {
    "elicitation/create": (ElicitRequest, ElicitResult, "elicitation"),
    "sampling/createMessage": (
        CreateMessageRequest, CreateMessageResult | CreateMessageResultWithTools, "sampling",
    ),
    "roots/list": (ListRootsRequest, ListRootsResult, "roots"),
}  # fmt: skip
"""By method: the request, its result, and the capability that a client needs for it."""
_LEVELS = {
    "debug": logging.DEBUG, "info": logging.INFO, "notice": logging.INFO,
    "warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL,
    "alert": logging.CRITICAL, "emergency": logging.CRITICAL,
}  # fmt: skip
_LOGGED = 1_000

_blocks: TypeAdapter[Block] = TypeAdapter(Block)


class HubClient:
    """The `Caller` of one request's client."""

    def __init__(self, ctx: Context[Any], server: str) -> None:
        self._ctx = ctx
        self._server = server

    @property
    def asks_back(self) -> bool:
        """Whether questions are results of its calls (2026-07-28), not requests to it."""
        return self._ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS

    async def progress(self, params: dict[str, Any]) -> None:
        progress, total = params.get("progress"), params.get("total")
        if isinstance(progress, int | float):
            total = total if isinstance(total, int | float) else None
            message = params.get("message")
            await self._ctx.report_progress(progress, total, str(message) if message else None)

    async def log(self, params: dict[str, Any]) -> None:
        """Into the hub's log, by which clients that want log messages get it."""
        level = _LEVELS.get(str(params.get("level")), logging.INFO)
        said = json.dumps(params.get("data"), ensure_ascii=False)[:_LOGGED]
        logger.log(level, "The server %s says: %s", self._server, said)

    @property
    def meta(self) -> dict[str, Any]:
        """What a server of 2026-07-28 is told of it."""
        capabilities = self._ctx.session.client_capabilities or ClientCapabilities()
        told = capabilities.model_dump(by_alias=True, mode="json", exclude_none=True)
        return {CLIENT_CAPABILITIES_META_KEY: told}

    @property
    def can_answer(self) -> bool:
        """Whether it answers any question at all."""
        capabilities = self._ctx.session.client_capabilities
        return any(getattr(capabilities, wanted, None) for _, _, wanted in _ANSWERS.values())

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """As `Caller.ask`, of a client that can be sent requests."""
        self.check_can(method)
        request_type, result_type, _ = _ANSWERS[method]
        try:
            request = request_type.model_validate({"method": method, "params": params})
        except ValidationError as error:
            raise RpcError(INVALID_REQUEST, f"That is no {method}: {error}") from None
        try:
            answer = await self._ctx.session.send_request(
                request,
                _Answer,
                metadata=ServerMessageMetadata(related_request_id=self._ctx.request_id),
            )
            given: dict[str, Any] = answer.model_dump()
            TypeAdapter(result_type).validate_python(given)
        except MCPError as error:
            raise RpcError(error.error.code, error.error.message, error.error.data) from error
        except ValidationError as error:
            raise RpcError(INVALID_REQUEST, "The client's answer is none.") from error
        return given

    def check_can(self, method: str) -> None:
        """Raises RpcError where the client has not said that it answers such requests."""
        if method not in _ANSWERS:
            raise RpcError(METHOD_NOT_FOUND, f"The hub's client cannot be asked for {method}.")
        capabilities: ClientCapabilities | None = self._ctx.session.client_capabilities
        wanted = _ANSWERS[method][2]
        if capabilities is None or getattr(capabilities, wanted) is None:
            raise RpcError(METHOD_NOT_FOUND, f"The hub's client does not offer {wanted}.")


async def call(
    containers: "ContainersService",
    ctx: Context[Any],
    name: str,
    tool: str,
    arguments: dict[str, Any],
    *,
    timeout_s: float | None,
    session: str | None,
) -> dict[str, Any]:
    """Call a tool for the client of `ctx`; else as `made`."""
    calling = partial(containers.calling.call, name, tool, arguments, timeout_s=timeout_s)
    return await made(containers, ctx, name, tool, calling, session)


async def made(
    containers: "ContainersService",
    ctx: Context[Any],
    name: str,
    what: str,
    calling: Callable[..., Awaitable[dict[str, Any]]],
    session: str | None = None,
) -> dict[str, Any]:
    """Make a request of the server `name` for the client of `ctx`, which may be asked for input
    meanwhile; the result as `Calling` gives it, which may ask a client of 2026-07-28 for input.

    `calling` is a method of `Calling`, but for what depends on the client; `what` tells the request
    from others.
    """
    client = HubClient(ctx, name)
    whose = session_of(ctx, session)
    # Of a client of 2026-07-28 over HTTP each request is a connection, which ends no session.
    if whose is not None and (ctx.headers is None or not client.asks_back):
        _follow(ctx, containers.sessions, whose, is_named=session is not None)
    calling = partial(calling, session=whose, meta=client.meta)
    if not client.asks_back:
        return await calling(caller=client)
    owner = f"{owner_of(ctx)} {name} {what}"
    answers = {
        key: answer.model_dump(by_alias=True, mode="json", exclude_none=True)
        for key, answer in (ctx.input_responses or {}).items()
    }
    if ctx.request_state is not None and ctx.request_state.startswith(PREFIX):
        return await containers.suspending.go_on(owner, ctx.request_state, answers, client)
    given: dict[str, Any] = {"inputResponses": answers} if answers else {}
    if ctx.request_state is not None:
        given["requestState"] = ctx.request_state
    calling = partial(calling, given=given, may_ask_back=True)
    if not client.can_answer:
        return await calling(caller=client)
    return await containers.suspending.begin(owner, lambda caller: calling(caller=caller), client)


class _Answer(BaseModel):
    """A client's answer with all of its fields."""

    model_config = {"extra": "allow"}


def passed_on(result: dict[str, Any]) -> CallToolResult | InputRequiredResult:
    """A server's result as the hub's own. What MCP does not know among its content is text that
    holds its JSON: a client would refuse the whole."""
    if result.get("resultType") == "input_required":
        return InputRequiredResult.model_validate(result)
    content = [_block(block) for block in result.get("content") or []]
    return CallToolResult(
        content=content,
        structured_content=result.get("structuredContent"),
        is_error=result.get("isError") is True,
        _meta=result.get("_meta") if isinstance(result.get("_meta"), dict) else None,
    )


def _block(block: Any) -> Block:
    try:
        return _blocks.validate_python(block)
    except ValidationError:
        return TextContent(type="text", text=json.dumps(block, ensure_ascii=False))


def session_of(ctx: Context[Any], named: str | None) -> str | None:
    """Whose state a call is about, as 64 characters that no other session has: of a session that
    the caller names, of a stdio client, or of an HTTP session; None for none of these."""
    headers = ctx.headers
    token = get_access_token()
    principal = token.client_id if token else ""
    if headers is None:
        principal = f"{_PROCESS} {principal}"
    if named is not None:
        return session_named(principal, named)
    if headers is None:
        return _hashed(principal, "stdio")
    if headers.get("mcp-session-id"):
        return _hashed(principal, f"http {headers['mcp-session-id']}")
    return None


def _follow(ctx: Context[Any], sessions: "Sessions", whose: str, *, is_named: bool) -> None:
    """See to it that a session's end is known: that of a stdio client's is this process's, that of
    an HTTP session its connection's. One that an HTTP client names has none."""
    if ctx.headers is None:
        sessions.opened(whose)
    elif not is_named and sessions.opened(whose):
        connection_of(ctx.session).exit_stack.callback(sessions.ended, whose)


def session_named(principal: str, name: str) -> str:
    """Whose state a call is about that names its session; `principal` is the token's name."""
    return _hashed(principal, f"named {name}")


def _hashed(principal: str, key: str) -> str:
    return hashlib.sha256(f"{principal}\0{key}".encode()).hexdigest()


def owner_of(ctx: Context[Any]) -> str:
    """Who makes a call, for telling whether a further one is the same's."""
    token = get_access_token()
    return f"{_PROCESS if ctx.headers is None else ''}{token.client_id if token else ''}"
