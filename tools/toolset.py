"""How a tool is declared, what `tools/list` says of it, and what happens around each call."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from mcp import MCPError
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult, TextContent, Tool, ToolAnnotations
from pydantic import BaseModel
from pydantic_core import from_json

from mcp_hub.adapters.errors import HubError, Internal, LimitExceeded
from mcp_hub.services.hub import HubProvider
from mcp_hub.services.views import Error
from mcp_hub.tools.arguments import arguments_model, validated
from mcp_hub.tools.asking import NeedsInput
from mcp_hub.tools.schemas import input_schema, output_schema

logger = logging.getLogger(__name__)

MAX_CALLER = 128
"""Characters that the records keep of who made a call."""

MAX_CHARACTERS = 25_000
"""The longest result, unless the caller asks for more with one of `SIZE_PARAMETERS`."""

SIZE_PARAMETERS = frozenset({"limit", "tail", "max_points", "inputs"})

Given = CallToolResult | InputRequiredResult
"""What a tool returns that passes on another server's result: it has no schema of the hub's."""

F = TypeVar("F", bound=Callable[..., Awaitable[BaseModel]])
_MARK = "__mcp_hub_tool__"


@dataclass(frozen=True, slots=True)
class ToolDeclaration:
    """What `tools/list` says of a tool besides its name, description and schemas."""

    title: str
    annotations: ToolAnnotations


def tool(
    *,
    title: str,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
    open_world: bool = False,
) -> Callable[[F], F]:
    """Declare a method of a `Toolset` as an MCP tool: its docstring is the description."""
    declaration = ToolDeclaration(
        title,
        ToolAnnotations(
            read_only_hint=read_only,
            destructive_hint=destructive,
            idempotent_hint=idempotent or read_only,
            open_world_hint=open_world,
        ),
    )

    def mark(function: F) -> F:
        setattr(function, _MARK, declaration)
        return function

    return mark


@dataclass(frozen=True, slots=True)
class BoundTool:
    """A tool ready to be served: its entry in `tools/list`, and how to call it."""

    definition: Tool
    call: Callable[[dict[str, Any], Context[Any]], Awaitable[Given]]

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def read_only(self) -> bool:
        annotations = self.definition.annotations
        return annotations is not None and annotations.read_only_hint is True


class Toolset:
    """A group of tools over one service; subclasses mark their methods with `tool`."""

    name: ClassVar[str]

    def __init__(self, hub: HubProvider) -> None:
        self.hub = hub

    def tools(self) -> list[BoundTool]:
        """The tools, in the order in which the class defines them."""
        return [
            _bind(getattr(self, name), declaration)
            for name, member in vars(type(self)).items()
            if (declaration := getattr(member, _MARK, None)) is not None
        ]


def _bind(method: Callable[..., Awaitable[BaseModel]], declaration: ToolDeclaration) -> BoundTool:
    signature = inspect.signature(method)
    model, context_name = arguments_model(signature)
    definition = Tool(
        name=method.__name__,
        title=declaration.title,
        description=inspect.getdoc(method),
        input_schema=input_schema(model),
        output_schema=None
        if signature.return_annotation == Given
        else output_schema(signature.return_annotation),
        annotations=declaration.annotations,
    )

    async def call(arguments: dict[str, Any], context: Context[Any]) -> Given:
        try:
            values = validated(definition, model, arguments)
        except HubError as error:
            return error_result(error)
        if context_name is not None:
            values[context_name] = context
        return await _answer(method, values, asked_for_more=bool(SIZE_PARAMETERS & set(arguments)))

    return BoundTool(definition, call)


async def _answer(
    method: Callable[..., Awaitable[BaseModel]],
    arguments: Mapping[str, Any],
    *,
    asked_for_more: bool,
) -> Given:
    name = method.__name__
    try:
        result = await method(**arguments)
    except NeedsInput as needed:
        return needed.result
    except HubError as error:
        return error_result(error)
    except MCPError:  # passed on from another server
        raise
    except Exception:  # the request ends here
        logger.exception("%s failed", name)
        return error_result(
            Internal(f"{name} failed inside the hub.", "The hub's log has details.")
        )
    if isinstance(result, Given):
        return result
    text = result.model_dump_json(exclude_none=True)
    if len(text) > MAX_CHARACTERS and not asked_for_more:
        return error_result(_too_long(name, len(text), arguments))
    return _result(text, result)


def view_result(view: BaseModel) -> CallToolResult:
    """The result of a tool that returns `view`."""
    return _result(view.model_dump_json(exclude_none=True), view)


def _result(text: str, view: BaseModel) -> CallToolResult:
    # Through the JSON text, where NaN is null: the structured form must survive any JSON encoder.
    content = from_json(view.model_dump_json())
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=content)


def _too_long(name: str, length: int, arguments: Mapping[str, Any]) -> LimitExceeded:
    sizes = sorted(SIZE_PARAMETERS & set(arguments))
    advice = f"say how much you want with {' or '.join(sizes)}, or " if sizes else ""
    return LimitExceeded(
        f"{name} has {length:,} characters to say; without being asked it says {MAX_CHARACTERS:,}.",
        f"Call it again: {advice}ask about less.",
    )


def error_result(error: HubError) -> CallToolResult:
    """An error as a tool result, its text the JSON of `{code, message, hint}`.

    It has no structured content: clients hold that against the tool's output schema even when
    the call failed (the TypeScript SDK 1.x does), and would show that mismatch instead.
    """
    text = Error(**error.as_dict()).model_dump_json()
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def caller(ctx: Context[Any]) -> str:
    """Who makes this call, for the records: the token's name if it has one, and the client."""
    params = ctx.session.client_params
    client = f"{params.client_info.name} {params.client_info.version}" if params else ""
    token = get_access_token()
    if token is None:
        return client[:MAX_CALLER] or "unknown client"
    return (f"{token.client_id} ({client})" if client else token.client_id)[:MAX_CALLER]


def is_admin() -> bool:
    """Whether the caller may do what needs the scope `admin`; without tokens everyone may."""
    token = get_access_token()
    return token is None or "admin" in token.scopes
