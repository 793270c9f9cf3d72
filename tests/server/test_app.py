"""What a client of either era sees of the hub's server."""

import json
import logging
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.server.mcpserver import Context
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    LoggingMessageNotificationParams,
    PaginatedRequestParams,
    PromptReference,
    TextContent,
    Tool,
)

from mcp_hub.server.app import create_server
from mcp_hub.server.hub_server import HubServer
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub, HubProvider
from mcp_hub.tools.toolset import BoundTool

from .conftest import ERAS, AddDataset, submit


def error_of(result: Any) -> dict[str, Any]:
    assert isinstance(result, CallToolResult)
    assert result.is_error
    assert result.structured_content is None
    error: dict[str, Any] = json.loads(result.content[0].text)  # type: ignore[union-attr]
    assert error.keys() == {"code", "message", "hint"}
    return error


async def test_it_says_who_it_is_and_what_to_do_first(client: Client) -> None:
    assert client.server_info is not None
    assert (client.server_info.name, client.server_info.title) == ("mcp-hub", "MCP Hub")
    assert client.server_info.version
    instructions = client.instructions or ""
    for tool in ("dataset_register", "training_submit", "training_status", "predict"):
        assert tool in instructions
    assert len(instructions) < 1000


async def test_capabilities_promise_what_happens(client: Client) -> None:
    capabilities = client.server_capabilities
    assert capabilities.resources is not None
    assert capabilities.resources.subscribe
    assert capabilities.resources.list_changed
    assert capabilities.tools is not None
    assert capabilities.tools.list_changed
    assert capabilities.prompts is not None
    assert capabilities.prompts.list_changed
    assert capabilities.completions is not None


async def test_a_call_returns_structured_content_that_fits_the_schema(client: Client) -> None:
    await client.list_tools()  # the client checks results against what it lists
    result = await client.call_tool("hub_info", {})
    assert isinstance(result, CallToolResult)
    assert not result.is_error
    assert result.structured_content is not None
    assert result.structured_content["counts"]["datasets"] == 0


async def test_an_unknown_tool_is_answered_with_the_nearest(client: Client) -> None:
    error = error_of(await client.call_tool("training_start", {}))
    assert error["code"] == "invalid_argument"
    assert "training_start" in error["message"]
    assert "Did you mean 'training_" in error["hint"]


async def test_a_misspelt_parameter_is_not_ignored(client: Client) -> None:
    error = error_of(await client.call_tool("model_get", {"modle": "iris"}))
    assert error["code"] == "invalid_argument"
    assert "'modle'" in error["message"]
    assert "Did you mean 'model'?" in error["hint"]


async def test_a_services_error_keeps_its_code(client: Client) -> None:
    assert error_of(await client.call_tool("model_get", {"model": "iris"}))["code"] == "not_found"


@pytest.mark.parametrize("era", ERAS)
async def test_read_only_exposes_only_what_changes_nothing(
    settings: Settings, provide: HubProvider, era: str
) -> None:
    server = create_server(settings.model_copy(update={"read_only": True}), provide)
    async with Client(server, mode=era) as client:
        tools = (await client.list_tools()).tools
        assert {"dataset_list", "predict", "training_status"} <= {tool.name for tool in tools}
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
        error = error_of(await client.call_tool("dataset_register", {"name": "x"}))
        assert error["code"] == "invalid_argument"
        prompts = [p.name for p in (await client.list_prompts()).prompts]
        assert prompts == ["diagnose_job", "investigate_incident"]


@pytest.mark.parametrize("era", ERAS)
async def test_toolsets_narrow_tools_and_resources(
    settings: Settings, provide: HubProvider, era: str
) -> None:
    server = create_server(settings.model_copy(update={"toolsets": ["data"]}), provide)
    async with Client(server, mode=era) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names
        assert all(name.startswith("dataset_") for name in names)
        templates = (await client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == ["datasets://{name}"]
        assert (await client.list_prompts()).prompts == []


async def test_training_that_is_off_is_not_offered(
    settings: Settings, provide: HubProvider
) -> None:
    training = settings.training.model_copy(update={"enabled": False})
    server = create_server(settings.model_copy(update={"training": training}), provide)
    assert not [name for name in server.tools if name.startswith("training_")]
    assert "train_model" not in server.prompts


async def test_lists_are_paged(server: HubServer, client: Client) -> None:
    async def call(arguments: dict[str, Any], context: Context[Any]) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="")])

    for number in range(150):
        definition = Tool(name=f"extra_{number}", input_schema={"type": "object"})
        server.tools[definition.name] = BoundTool(definition, call)
    page = await client.session.list_tools(params=PaginatedRequestParams())
    assert len(page.tools) == 100
    names = [tool.name for tool in page.tools]
    while page.next_cursor:
        page = await client.session.list_tools(
            params=PaginatedRequestParams(cursor=page.next_cursor)
        )
        names += [tool.name for tool in page.tools]
    assert names == list(server.tools)


@pytest.mark.parametrize("cursor", ["", "x", "bm8", "WyJhIl0", "Wy0xXQ", "WzEsMl0", "ééé"])
async def test_an_invalid_cursor_is_refused(client: Client, cursor: str) -> None:
    for request in (
        client.session.list_tools,
        client.session.list_prompts,
        client.session.list_resources,
        client.session.list_resource_templates,
    ):
        with pytest.raises(MCPError) as caught:
            await request(params=PaginatedRequestParams(cursor=cursor))
        assert caught.value.code == INVALID_PARAMS
        assert caught.value.data["code"] == "invalid_argument"


async def test_a_fault_is_logged_and_told_without_its_details(
    server: HubServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> Any:
        raise RuntimeError("secret")

    server._hub = fail  # type: ignore[assignment]
    ref = PromptReference(type="ref/prompt", name="train_model")
    with pytest.raises(MCPError) as caught:
        await client.complete(ref, {"name": "dataset", "value": ""})
    assert "secret" not in caught.value.message
    assert caught.value.data["code"] == "internal"
    assert "secret" in caplog.text


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_asks_gets_the_log_of_its_calls(server: HubServer, era: str) -> None:
    heard: list[LoggingMessageNotificationParams] = []

    async def hear(params: LoggingMessageNotificationParams) -> None:
        heard.append(params)

    logger = logging.getLogger("mcp_hub.test")

    async def log(arguments: dict[str, Any], context: Context[Any]) -> CallToolResult:
        logger.info("quiet")
        logger.warning("loud")
        return CallToolResult(content=[TextContent(type="text", text="")])

    definition = Tool(name="log", input_schema={"type": "object"})
    server.tools["log"] = BoundTool(definition, log)
    async with Client(server, mode=era, logging_callback=hear) as client:
        await client.call_tool("log", {})
        assert not heard
        meta: Any = None
        if era == "legacy":
            with pytest.warns(match="deprecated"):
                await client.set_logging_level("warning")
        else:
            meta = {"io.modelcontextprotocol/logLevel": "warning"}
        await client.call_tool("log", {}, meta=meta)
    assert [(params.level, params.data) for params in heard] == [("warning", "loud")]


async def test_waiting_for_a_job_sends_its_progress(
    client: Client, hub: Hub, add_dataset: AddDataset
) -> None:
    await add_dataset("flowers")
    job_id = await submit(hub, "flowers")
    heard: list[str | None] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        if not heard:
            heard.append(message)
            await hub.training.cancel(job_id)

    wait = {"job_id": job_id, "wait_s": 50}
    with anyio.fail_after(20):
        result = await client.call_tool("training_status", wait, progress_callback=hear)
    assert isinstance(result, CallToolResult)
    assert result.structured_content is not None
    assert result.structured_content["status"] == "cancelled"
    assert "queued" in str(heard[0])
