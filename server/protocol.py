"""What the hub's errors and lists look like on the wire."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.context import HandlerResult
from mcp.server.extension import MethodBinding, RequestHandler
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND

from mcp_hub.adapters.errors import HubError, Internal, InvalidArgument, NotFound
from mcp_hub.services.pages import decode_cursor, encode_cursor

logger = logging.getLogger(__name__)

PAGE_SIZE = 100

T = TypeVar("T")
R = TypeVar("R")


def protocol_error(error: HubError, **data: Any) -> MCPError:
    """A hub error as a JSON-RPC error, its `{code, message, hint}` in `data`."""
    wrong = isinstance(error, InvalidArgument | NotFound)
    message = f"{error.message} {error.hint}" if error.hint else error.message
    return MCPError(INVALID_PARAMS if wrong else INTERNAL_ERROR, message, error.as_dict() | data)


def answering(
    handler: Callable[[Any, Any, Any], Awaitable[R]],
) -> Callable[[Any, Any, Any], Awaitable[R]]:
    """A server's request handler whose errors are protocol errors, and whose faults are logged."""

    @wraps(handler)
    async def answer(server: Any, ctx: Any, params: Any) -> R:
        try:
            return await handler(server, ctx, params)
        except MCPError:
            raise
        except HubError as error:
            uri = getattr(params, "uri", None)
            raise protocol_error(error, **({"uri": uri} if uri else {})) from None
        except Exception:  # the request ends here
            logger.exception("%s failed", ctx.method)
            raise protocol_error(
                Internal(f"{ctx.method} failed inside the hub.", "See the hub's log.")
            ) from None

    return answer


def serve_methods(server: Server[Any], bindings: Sequence[MethodBinding]) -> None:
    """Have `server` answer methods that are not the same, or not there, at each protocol version.

    Bindings of one method take the same parameters.
    """
    for name in {binding.method for binding in bindings}:
        same = [binding for binding in bindings if binding.method == name]
        server.add_request_handler(name, same[0].params_type, _by_version(same))


def _by_version(bindings: Sequence[MethodBinding]) -> RequestHandler:
    async def handle(ctx: ServerRequestContext[Any, Any], params: Any) -> HandlerResult:
        for binding in bindings:
            versions = binding.protocol_versions
            if versions is None or ctx.protocol_version in versions:
                return await binding.handler(ctx, params)
        raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method)

    return handle


def page(items: Sequence[T], cursor: str | None) -> tuple[list[T], str | None]:
    """The page of `items` that `cursor` names, the first without one, and the next cursor.

    Raises:
        InvalidArgument: the cursor is not one of ours.
    """
    start = _offset(cursor) if cursor is not None else 0
    end = start + PAGE_SIZE
    return list(items[start:end]), encode_cursor(end) if end < len(items) else None


def _offset(cursor: str) -> int:
    offset: int = decode_cursor(cursor, int)[0]
    if offset < 0:
        raise InvalidArgument(
            f"{cursor!r} is not a cursor of this list.",
            "Pass the nextCursor of the page before, or leave it out for the first page.",
        )
    return offset
