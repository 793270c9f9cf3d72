"""What a client of either era sees of the hub's server."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.server.mcpserver import Context
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    LoggingMessageNotificationParams,
    PaginatedRequestParams,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
    Tool,
)

from mcp_hub.server.app import HubServer, create_server
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub, HubProvider
from mcp_hub.services.training.submission import Submission
from mcp_hub.tools.toolset import BoundTool

from .conftest import ERAS

AddDataset = Callable[[str], Awaitable[None]]


def error_of(result: Any) -> dict[str, Any]:
    assert isinstance(result, CallToolResult)
    assert result.is_error
    assert result.structured_content is None
    error: dict[str, Any] = json.loads(result.content[0].text)  # type: ignore[union-attr]
    assert error.keys() == {"code", "message", "hint"}
    return error


async def submit(hub: Hub, dataset: str) -> str:
    job = await hub.training.submit(
        Submission(
            name="model",
            type="classification",
            framework="sklearn",
            dataset=dataset,
            target="label",
        ),
        submitted_by="test",
    )
    return job.job_id


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
    assert not capabilities.tools.list_changed
    assert capabilities.prompts is not None
    assert not capabilities.prompts.list_changed
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
        assert [p.name for p in (await client.list_prompts()).prompts] == ["diagnose_job"]


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
    first = await client.session.list_tools(params=PaginatedRequestParams())
    assert len(first.tools) == 100
    assert first.next_cursor
    second = await client.session.list_tools(
        params=PaginatedRequestParams(cursor=first.next_cursor)
    )
    assert second.next_cursor is None
    names = [tool.name for tool in (*first.tools, *second.tools)]
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


async def test_resources_name_the_newest_of_everything(
    client: Client, hub: Hub, add_dataset: AddDataset
) -> None:
    await add_dataset("flowers")
    job_id = await submit(hub, "flowers")
    listed = {str(r.uri): r for r in (await client.list_resources()).resources}
    assert listed.keys() == {
        "hub://health",
        "datasets://flowers",
        f"training://jobs/{job_id}",
    }
    assert listed["datasets://flowers"].mime_type == "application/json"
    for uri in listed:
        contents = (await client.read_resource(uri)).contents[0]
        assert isinstance(contents, TextResourceContents)
        assert contents.mime_type == "application/json"
        assert json.loads(contents.text)


async def test_a_template_reads_what_its_variables_name(
    client: Client, hub: Hub, add_dataset: AddDataset
) -> None:
    await add_dataset("flowers")
    job_id = await submit(hub, "flowers")
    logs = (await client.read_resource(f"training://jobs/{job_id}/logs")).contents[0]
    assert isinstance(logs, TextResourceContents)
    assert json.loads(logs.text)["job_id"] == job_id


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("datasets://flower", "Did you mean 'flowers'?"),
        ("models://nothing", "There are no models"),
        ("models://nothing/versions/first", "models://nothing"),
        ("training://jobs/job_nothing", "There are no jobs"),
        ("training://job/1", "Did you mean 'training://jobs/{job_id}'?"),
        ("nonsense", "hub://health"),
        ("datasets://../../etc/passwd", "Existing resources"),
    ],
)
async def test_what_cannot_be_read_is_named(
    client: Client, add_dataset: AddDataset, uri: str, hint: str
) -> None:
    await add_dataset("flowers")
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    assert caught.value.code == INVALID_PARAMS
    assert hint in caught.value.message
    assert caught.value.data["uri"] == uri


async def test_prompts_carry_what_they_are_about(
    client: Client, hub: Hub, add_dataset: AddDataset
) -> None:
    await add_dataset("flowers")
    job_id = await submit(hub, "flowers")
    names = [prompt.name for prompt in (await client.list_prompts()).prompts]
    assert names == ["train_model", "diagnose_job", "promote_model"]
    train = await client.get_prompt("train_model", {"dataset": "flowers", "target": "label"})
    text = train.messages[0].content.text  # type: ignore[union-attr]
    assert "flowers" in text
    assert "training_submit" in text
    diagnose = await client.get_prompt("diagnose_job", {"job_id": job_id})
    assert [message.content.type for message in diagnose.messages] == [
        "resource",
        "resource",
        "text",
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("train_modle", {}, "Did you mean 'train_model'?"),
        ("train_model", {"dataset": "x"}, "needs the argument 'target'"),
        ("train_model", {"dataset": "x", "target": "y", "gaol": "z"}, "Did you mean 'goal'?"),
        ("diagnose_job", {"job_id": "job_nothing"}, "There is no job"),
    ],
)
async def test_a_prompt_that_cannot_be_made_says_why(
    client: Client, name: str, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(MCPError) as caught:
        await client.get_prompt(name, arguments)
    assert caught.value.code == INVALID_PARAMS
    assert message in caught.value.message


async def test_completions_go_on_from_what_was_typed(
    client: Client, hub: Hub, add_dataset: AddDataset
) -> None:
    for name in ("flowers", "fleas", "wine"):
        await add_dataset(name)
    job_id = await submit(hub, "wine")

    async def complete(ref: Any, name: str, value: str) -> list[str]:
        result = await client.complete(ref, {"name": name, "value": value})
        return result.completion.values

    train = PromptReference(type="ref/prompt", name="train_model")
    assert await complete(train, "dataset", "fl") == ["fleas", "flowers"]
    assert await complete(train, "type", "REG") == ["regression"]
    assert await complete(train, "goal", "a") == []
    datasets = ResourceTemplateReference(type="ref/resource", uri="datasets://{name}")
    assert await complete(datasets, "name", "w") == ["wine"]
    jobs = ResourceTemplateReference(type="ref/resource", uri="training://jobs/{job_id}/logs")
    assert await complete(jobs, "job_id", "job_") == [job_id]
    promote = PromptReference(type="ref/prompt", name="promote_model")
    assert await complete(promote, "alias", "ch") == ["champion", "challenger"]
    versions = ResourceTemplateReference(
        type="ref/resource", uri="models://{name}/versions/{version}"
    )
    assert await complete(versions, "version", "") == []


@pytest.mark.parametrize(
    ("ref", "argument"),
    [
        (PromptReference(type="ref/prompt", name="nothing"), "dataset"),
        (PromptReference(type="ref/prompt", name="train_model"), "nothing"),
        (ResourceTemplateReference(type="ref/resource", uri="nothing://{x}"), "x"),
    ],
)
async def test_completions_of_what_is_not_there_are_refused(
    client: Client, ref: Any, argument: str
) -> None:
    with pytest.raises(MCPError) as caught:
        await client.complete(ref, {"name": argument, "value": ""})
    assert caught.value.code == INVALID_PARAMS


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
