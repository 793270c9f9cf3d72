"""How a tool is declared, and what happens around each call."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, TypeVar

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel

from mcp_hub.adapters.errors import HubError, Internal
from mcp_hub.services.hub import HubProvider
from mcp_hub.services.views import Error

logger = logging.getLogger(__name__)

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
            title=title,
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
    """A tool ready to be added to a server."""

    name: str
    function: Callable[..., Awaitable[CallToolResult]]
    declaration: ToolDeclaration


class Toolset:
    """A group of tools over one service; subclasses mark their methods with `tool`."""

    name: ClassVar[str]

    def __init__(self, hub: HubProvider) -> None:
        self.hub = hub

    def tools(self) -> list[BoundTool]:
        """The tools, in the order in which the class defines them."""
        return [
            BoundTool(name, _answering(getattr(self, name)), declaration)
            for name, member in vars(type(self)).items()
            if (declaration := getattr(member, _MARK, None)) is not None
        ]


def _answering(
    method: Callable[..., Awaitable[BaseModel]],
) -> Callable[..., Awaitable[CallToolResult]]:
    @wraps(method)
    async def answer(**arguments: Any) -> CallToolResult:
        try:
            result = await method(**arguments)
        except HubError as error:
            return error_result(error)
        except Exception:  # the request ends here
            logger.exception("%s failed", method.__name__)
            return error_result(
                Internal(f"{method.__name__} failed inside the hub.", "The hub's log has details.")
            )
        content = result.model_dump(mode="json")
        text = result.model_dump_json(exclude_none=True)
        return CallToolResult(
            content=[TextContent(type="text", text=text)], structured_content=content
        )

    return answer


def error_result(error: HubError) -> CallToolResult:
    """An error as a tool result: `{code, message, hint}`, as text and as structured content."""
    return CallToolResult(
        content=[TextContent(type="text", text=Error(**error.as_dict()).model_dump_json())],
        structured_content=error.as_dict(),
        is_error=True,
    )


def caller(ctx: Context[Any]) -> str:
    """Who makes this call, for the records: the client program's name and version."""
    params = ctx.session.client_params
    return f"{params.client_info.name} {params.client_info.version}" if params else "unknown client"
