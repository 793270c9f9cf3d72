"""The hub's server plus what the official conformance tool expects to find on a test server.

Run as a module with a data directory: it serves on a free port of 127.0.0.1.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool as Signature
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.uri_template import UriTemplate
from mcp.types import (
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    GetPromptResult,
    InputRequiredResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
    Tool,
)

from mcp_hub.resources.base import BoundPrompt, BoundResource
from mcp_hub.server.app import create_server
from mcp_hub.server.http import serve
from mcp_hub.server.hub_server import HubServer
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import HubProvider
from mcp_hub.tools.toolset import BoundTool
from tests.server.fixture_tasks import OFFERS, TASK_TOOLS
from tests.server.fixture_tools import (
    PNG,
    TOOLS,
    Ctx,
    accepted,
    elicitation,
    embedded,
    image,
    json_schema_2020_12_tool,
    need,
    test_simple_text,
    text,
)

SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def create_fixture_server(
    settings: Settings, hub: HubProvider, *, transport: Any = "http"
) -> HubServer:
    """The server that `create_server` makes, with the conformance tool's fixtures added."""
    server = create_server(settings, hub, transport=transport)
    server.changing_lists = {"tools", "prompts", "resources"}
    security = RequestStateSecurity.ephemeral()
    server.middleware.append(RequestStateBoundary(security, default_audience=server.name))
    for function in [*TOOLS, *TASK_TOOLS]:
        _add_tool(server, function)
    server.tasks.offers |= OFFERS
    _add_tool(server, json_schema_2020_12_tool, SCHEMA_2020_12)
    _add_triggers(server)
    _add_resources(server)
    _add_prompts(server)
    return server


def _add_tool(
    server: HubServer, function: Callable[..., Any], schema: dict[str, Any] | None = None
) -> None:
    signature = Signature.from_function(function, structured_output=False)
    definition = Tool(
        name=signature.name,
        description=signature.description,
        input_schema=schema or signature.parameters,
    )

    async def call(arguments: dict[str, Any], context: Ctx) -> CallToolResult | InputRequiredResult:
        try:
            return await signature.run(arguments, context, convert_result=True)
        except ToolError as error:
            return CallToolResult(
                content=[TextContent(type="text", text=str(error))], is_error=True
            )

    server.tools[signature.name] = BoundTool(definition, call)


def _add_triggers(server: HubServer) -> None:
    async def test_trigger_tool_change(ctx: Ctx) -> str:
        """Change the list of tools."""
        _add_tool(server, test_simple_text)
        await ctx.notify_tools_changed()
        return "changed"

    async def test_trigger_prompt_change(ctx: Ctx) -> str:
        """Change the list of prompts."""
        await ctx.notify_prompts_changed()
        return "changed"

    _add_tool(server, test_trigger_tool_change)
    _add_tool(server, test_trigger_prompt_change)


def _add_resources(server: HubServer) -> None:
    def add(
        uri: str,
        contents: Callable[[str, dict[str, str]], TextResourceContents | BlobResourceContents],
    ) -> None:
        template = UriTemplate.parse(uri)
        name = uri.partition("://")[2]
        definition: Resource | ResourceTemplate
        if template.variables:
            definition = ResourceTemplate(uri_template=uri, name=name, description=name)
        else:
            definition = Resource(uri=uri, name=name, description=name)

        async def read(uri: str, values: dict[str, str]) -> ReadResourceResult:
            return ReadResourceResult(contents=[contents(uri, values)])

        server.resources.append(BoundResource(definition, template, read, completers={}))

    def plain(content: str) -> Callable[[str, dict[str, str]], TextResourceContents]:
        return lambda uri, _: TextResourceContents(uri=uri, mime_type="text/plain", text=content)

    def templated(uri: str, values: dict[str, str]) -> TextResourceContents:
        data = {**values, "templateTest": True, "data": f"Data for ID: {values['id']}"}
        return TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(data))

    add("test://static-text", plain("This is the content of the static text resource."))
    add(
        "test://static-binary",
        lambda uri, _: BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG),
    )
    add("test://template/{id}/data", templated)
    add("test://watched-resource", plain("Watched."))


def _add_prompts(server: HubServer) -> None:
    Rendered = list[ContentBlock] | InputRequiredResult  # noqa: N806 - a type

    def add(
        name: str, render: Callable[[Mapping[str, str], Ctx], Rendered], *arguments: str
    ) -> None:
        async def answer(
            given: dict[str, str], context: Ctx
        ) -> GetPromptResult | InputRequiredResult:
            content = render(given, context)
            if isinstance(content, InputRequiredResult):
                return content
            messages = [PromptMessage(role="user", content=block) for block in content]
            return GetPromptResult(messages=messages)

        taken = [PromptArgument(name=argument, required=True) for argument in arguments]
        definition = Prompt(name=name, description=name, arguments=taken)
        server.prompts[name] = BoundPrompt(definition, True, answer, completers={})

    def asking(_given: Mapping[str, str], ctx: Ctx) -> Rendered:
        context = accepted(ctx, "user_context", "context")
        if context is None:
            question = elicitation("What context should the prompt use?", context="string")
            return need(user_context=question)
        return [text(f"Use the context {context}.")]

    add("test_simple_prompt", lambda *_: [text("This is a simple prompt for testing.")])
    add(
        "test_prompt_with_arguments",
        lambda given, _: [
            text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")
        ],
        "arg1",
        "arg2",
    )
    add(
        "test_prompt_with_embedded_resource",
        lambda given, _: [
            embedded(given["resourceUri"], "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ],
        "resourceUri",
    )
    add("test_prompt_with_image", lambda *_: [image(), text("Please analyze the image above.")])
    add("test_input_required_result_prompt", asking)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    folder = Path(sys.argv[1])
    settings = Settings(data_dir=folder, roots=[folder], port=0)
    anyio.run(serve, settings, create_fixture_server)
