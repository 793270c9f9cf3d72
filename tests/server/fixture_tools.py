"""Tools that the official conformance tool expects of a test server: one for each ability."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.message import ServerMessageMetadata
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    ContentBlock,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

Ctx = Context[Any]

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAE"
    "hQGAhKmMIQAAAABJRU5ErkJggg=="
)
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="


def text(content: str) -> TextContent:
    return TextContent(type="text", text=content)


def image() -> ImageContent:
    return ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, content: str, mime_type: str = "text/plain") -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=content)
    return EmbeddedResource(type="resource", resource=contents)


# What a tool may answer.


async def test_simple_text() -> str:
    """Plain text."""
    return "This is a simple text response for testing."


async def test_image_content() -> list[ContentBlock]:
    """An image."""
    return [image()]


async def test_audio_content() -> list[ContentBlock]:
    """A sound."""
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


async def test_embedded_resource() -> list[ContentBlock]:
    """A resource in a result."""
    return [embedded("test://embedded-resource", "This is an embedded resource content.")]


async def test_multiple_content_types() -> list[ContentBlock]:
    """Text, an image and a resource."""
    data = json.dumps({"test": "data", "value": 123})
    resource = embedded("test://mixed-content-resource", data, "application/json")
    return [text("Multiple content types test:"), image(), resource]


async def test_error_handling() -> str:
    """Always an error."""
    raise ToolError("This tool intentionally returns an error for testing")


async def json_schema_2020_12_tool() -> str:
    """A tool whose schema uses much of JSON Schema 2020-12."""
    return "called"


async def test_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> str:
    """A tool one of whose arguments travels in a header too."""
    return f"region {region}"


# What a tool may send while it runs.


async def _log(ctx: Ctx, message: str) -> None:
    params = LoggingMessageNotificationParams(level="info", data=message)
    await ctx.session.send_notification(
        LoggingMessageNotification(params=params), related_request_id=ctx.request_id
    )


async def test_tool_with_logging(ctx: Ctx) -> str:
    """Three log messages."""
    for message in ("execution started", "processing data", "execution completed"):
        await _log(ctx, f"Tool {message}")
    return "Tool with logging executed successfully"


async def test_logging_tool(ctx: Ctx) -> str:
    """Nothing is logged to a client that did not ask for it."""
    return "done"


async def test_tool_with_progress(ctx: Ctx) -> str:
    """Progress from 0 to 100."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100)
    return "done"


async def test_streaming_elicitation(ctx: Ctx) -> str:
    """A stream with nothing but notifications before the answer."""
    await ctx.report_progress(1, 2)
    return "done"


# What a tool may ask of the client: by requests of its own, up to 2025-11-25 …


async def test_sampling(prompt: str, ctx: Ctx) -> str:
    """Ask the client's model."""
    result = await ctx.session.send_request(
        sampling(prompt, 100),
        CreateMessageResult,
        metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
    )
    return f"LLM response: {result.content}"


async def _elicit(ctx: Ctx, message: str, properties: dict[str, Any], required: list[str]) -> str:
    schema = {"type": "object", "properties": properties, "required": required}
    result = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return f"action={result.action}, content={json.dumps(result.content)}"


async def test_elicitation(message: str, ctx: Ctx) -> str:
    """Ask the user."""
    fields = {"username": {"type": "string"}, "email": {"type": "string"}}
    return f"User response: {await _elicit(ctx, message, fields, ['username', 'email'])}"


async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
    """Ask with a default for every primitive type."""
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {
            "type": "string",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "default": True},
    }
    return f"Elicitation completed: {await _elicit(ctx, 'Defaults', fields, [])}"


async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
    """Ask with every kind of enumeration."""
    options = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]
    fields = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return f"Elicitation completed: {await _elicit(ctx, 'Choose', fields, [])}"


# … and by an answer that needs more input, from 2026-07-28.


def elicitation(message: str, **properties: str) -> ElicitRequest:
    fields = {name: {"type": kind} for name, kind in properties.items()}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(prompt: str, max_tokens: int) -> CreateMessageRequest:
    messages = [SamplingMessage(role="user", content=text(prompt))]
    return CreateMessageRequest(
        params=CreateMessageRequestParams(messages=messages, max_tokens=max_tokens)
    )


def need(state: str | None = None, /, **requests: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def accepted(ctx: Ctx, key: str, field: str) -> Any:
    """What the user filled in, or None where that has not come back yet."""
    response = (ctx.input_responses or {}).get(key)
    if isinstance(response, ElicitResult) and response.action == "accept":
        return (response.content or {}).get(field)
    return None


Answer = str | InputRequiredResult


async def test_input_required_result_elicitation(ctx: Ctx) -> Answer:
    """Greet the user by the name given."""
    name = accepted(ctx, "user_name", "name")
    if name is None:
        return need(user_name=elicitation("What is your name?", name="string"))
    return f"Hello, {name}!"


async def test_input_required_result_sampling(ctx: Ctx) -> Answer:
    """Ask the client's model for a capital."""
    response = (ctx.input_responses or {}).get("capital_question")
    if not isinstance(response, CreateMessageResult):
        return need(capital_question=sampling("What is the capital of France?", 100))
    return f"The model says: {response.content}"


async def test_input_required_result_list_roots(ctx: Ctx) -> Answer:
    """Name the client's roots."""
    response = (ctx.input_responses or {}).get("client_roots")
    if not isinstance(response, ListRootsResult):
        return need(client_roots=ListRootsRequest())
    return f"Roots: {', '.join(str(root.uri) for root in response.roots)}"


async def test_input_required_result_request_state(ctx: Ctx) -> Answer:
    """Have state come back."""
    if accepted(ctx, "confirm", "ok") is None:
        return need("minted", confirm=elicitation("Please confirm", ok="boolean"))
    return "state-ok" if ctx.request_state == "minted" else "state-wrong"


async def test_input_required_result_tampered_state(ctx: Ctx) -> Answer:
    """Have state come back that nobody may change."""
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_multiple_inputs(ctx: Ctx) -> Answer:
    """Three questions at once."""
    if len(ctx.input_responses or {}) < 3:
        return need(
            "three",
            user_name=elicitation("What is your name?", name="string"),
            greeting=sampling("Generate a greeting", 50),
            client_roots=ListRootsRequest(),
        )
    return "All three answered"


async def test_input_required_result_multi_round(ctx: Ctx) -> Answer:
    """One question after another."""
    if ctx.request_state == "second":
        return f"Done: {accepted(ctx, 'step2', 'color')}"
    if ctx.request_state == "first":
        color = elicitation("Step 2: What is your favorite color?", color="string")
        return need("second", step2=color)
    return need("first", step1=elicitation("Step 1: What is your name?", name="string"))


async def test_input_required_result_capabilities(ctx: Ctx) -> Answer:
    """Ask only what the client can answer."""
    able = ctx.client_capabilities
    questions: dict[str, InputRequest] = {}
    if able and able.sampling is not None:
        questions["greeting"] = sampling("Generate a greeting", 50)
    if able and able.elicitation is not None:
        questions["user_name"] = elicitation("What is your name?", name="string")
    return need("asked", **questions)


async def test_missing_capability(ctx: Ctx) -> str:
    """Work only for a client that can sample."""
    if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool needs the sampling capability.",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return "done"


TOOLS: list[Callable[..., Awaitable[Any]]] = [
    test_simple_text,
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_error_handling,
    test_header,
    test_tool_with_logging,
    test_logging_tool,
    test_tool_with_progress,
    test_streaming_elicitation,
    test_sampling,
    test_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    test_input_required_result_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_tampered_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_capabilities,
    test_missing_capability,
]
