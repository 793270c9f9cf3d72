"""Each request as a span, those of MCP and those of HTTP, by OpenTelemetry's conventions."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from mcp import MCPError
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_hub.services.telemetry.own.own import OwnTelemetry
from mcp_hub.services.telemetry.own.tracing import parse_traceparent
from mcp_hub.tools.toolset import BoundTool

_UNTRACED = (
    "/health", "/ready", "/metrics", "/v1/", "/loki/", "/api/v1/write", "/api/telemetry/",
)  # fmt: skip
"""Probes and scrapes come for ever; what brings telemetry must not become telemetry again."""
_UNKNOWN = "unknown"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class McpSpans:
    """A server middleware that records every request; with whom it spoke, never what was said."""

    def __init__(
        self,
        own: OwnTelemetry,
        tool: Callable[[str], BoundTool | None],
        knows: Callable[[str], object],
        transport: str,
    ) -> None:
        """`knows` tells of a method by something true: names that a client makes up are none."""
        self._own = own
        self._tool = tool
        self._knows = knows
        self._transport = "pipe" if transport == "stdio" else "tcp"

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        if ctx.request_id is None:
            return await call_next(ctx)
        parent = parse_traceparent((ctx.meta or {}).get("traceparent"))
        with self._own.span(_UNKNOWN, parent=parent) as span:
            try:
                try:
                    result = await call_next(ctx)
                finally:
                    # Only now is it known whether there is such a tool in a container.
                    span.name, attributes = self._described(ctx)
                    span.attributes |= attributes
            except MCPError as error:
                span.attributes["rpc.response.status_code"] = str(error.error.code)
                span.fail(_code_in(error.error.data) or str(error.error.code))
                raise
            if ctx.method == "tools/call" and isinstance(result, dict) and result.get("isError"):
                span.fail(_code_of_result(result))
            return result

    def _described(self, ctx: ServerRequestContext[Any, Any]) -> tuple[str, dict[str, Any]]:
        method = ctx.method if self._knows(ctx.method) else _UNKNOWN
        attributes: dict[str, Any] = {
            "mcp.method.name": method,
            "mcp.protocol.version": ctx.protocol_version,
            "jsonrpc.request.id": str(ctx.request_id),
            "network.transport": self._transport,
            "span.kind": "server",
        }
        client = ctx.session.client_params
        if client is not None:
            attributes["mcp.client.name"] = client.client_info.name[:128]
        token = get_access_token()
        if token is not None:
            attributes["enduser.id"] = token.client_id
        params = ctx.params or {}
        if ctx.method == "tools/call":
            return self._described_call(params, attributes)
        if ctx.method == "prompts/get":
            attributes["gen_ai.prompt.name"] = str(params.get("name"))[:128]
        return method, attributes

    def _described_call(
        self, params: Mapping[str, Any], attributes: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        tool = self._tool(str(params.get("name")))
        attributes["gen_ai.operation.name"] = "execute_tool"
        attributes["gen_ai.tool.name"] = tool.name if tool else _UNKNOWN
        arguments = params.get("arguments")
        if tool is not None and isinstance(arguments, Mapping):
            known = tool.definition.input_schema.get("properties", {})
            attributes["mcp_hub.arguments"] = " ".join(key for key in arguments if key in known)
        return f"tools/call {attributes['gen_ai.tool.name']}", attributes


class HttpSpans:
    """An ASGI middleware that records each request, but those of `_UNTRACED`."""

    def __init__(self, app: ASGIApp, own: OwnTelemetry) -> None:
        self._app = app
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_UNTRACED):
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        attributes = {
            "http.request.method": method,
            "url.scheme": scope["scheme"],
            "span.kind": "server",
        }
        header = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")

        with self._own.span(method, attributes, parent=parse_traceparent(header)) as span:

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.attributes["http.response.status_code"] = status
                    if status >= 500:
                        span.fail(str(status))
                await send(message)

            try:
                await self._app(scope, receive, sending)
            finally:
                route = span.attributes["http.route"] = route_of(scope)
                span.name = f"{method} {route}"


def route_of(scope: Scope) -> str:
    """The path that was asked for, its variable parts named; `unmatched` for one of no route."""
    if "endpoint" not in scope:
        return "unmatched"
    named = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(named.get(part, part) for part in scope["path"].split("/"))


def _code_in(data: Any) -> str | None:
    code = data.get("code") if isinstance(data, dict) else None
    return code if isinstance(code, str) else None


def _code_of_result(result: Mapping[str, Any]) -> str:
    """The code of the hub's `{code, message, hint}`."""
    try:
        return _code_in(json.loads(result["content"][0]["text"])) or "tool_error"
    except (LookupError, TypeError, ValueError):
        return "tool_error"
