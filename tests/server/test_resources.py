"""What a client of either era reads, is prompted with and may type next."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import (
    INVALID_PARAMS,
    PromptReference,
    ResourceTemplateReference,
    TextResourceContents,
)

from mcp_hub.services.hub import Hub
from mcp_hub.services.telemetry.intake.accepting import from_objects
from tests.services import onnx_models

from .conftest import AddDataset, submit


async def test_resources_name_the_newest_of_everything(
    client: Client, hub: Hub, add_dataset: AddDataset
) -> None:
    await add_dataset("flowers")
    job_id = await submit(hub, "flowers")
    listed = {str(r.uri): r for r in (await client.list_resources()).resources}
    assert listed.keys() == {
        "hub://health",
        "hub://schema/telemetry",
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


async def test_telemetry_is_read_and_investigated(client: Client, hub: Hub) -> None:
    span = {"name": "GET /", "kind": "span", "service": "shop", "span_id": "ab" * 8,
            "trace_id": "cd" * 16, "duration_ms": 5}  # fmt: skip
    await hub.telemetry.ingest.record(from_objects([span], "event"))

    async def read(uri: str) -> dict[str, Any]:
        contents = (await client.read_resource(uri)).contents[0]
        assert isinstance(contents, TextResourceContents)
        found: dict[str, Any] = json.loads(contents.text)
        return found

    trace = await read(f"telemetry://traces/{'cd' * 16}")
    assert (trace["spans"], trace["rows"][0][6]) == (1, "GET /")
    schema = await read("hub://schema/telemetry")
    assert "duration_ms" in schema["views"]["records"]
    for example in schema["examples"]:
        await hub.telemetry.sql.select(example)
    prompt = await client.get_prompt("investigate_incident", {"symptom": "slow", "service": "shop"})
    assert "'shop'" in prompt.messages[0].content.text  # type: ignore[union-attr]
    services = PromptReference(type="ref/prompt", name="investigate_incident")
    typed = await client.complete(services, {"name": "service", "value": "SH"})
    assert typed.completion.values == ["shop"]
    template = ResourceTemplateReference(type="ref/resource", uri="telemetry://traces/{trace_id}")
    typed = await client.complete(template, {"name": "trace_id", "value": "cd"})
    assert typed.completion.values == ["cd" * 16]


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("datasets://flower", "Did you mean 'flowers'?"),
        ("models://nothing", "There are no models"),
        ("models://nothing/versions/first", "models://nothing"),
        ("training://jobs/job_nothing", "training_list() tells"),
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
    assert names == [
        "train_model",
        "diagnose_job",
        "promote_model",
        "investigate_incident",
    ]
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


async def test_a_model_can_be_read_completed_and_put_up_for_promotion(
    client: Client, hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "iris.onnx").write_bytes(onnx_models.iris().onnx)
    for _ in range(2):
        await hub.registry.register("iris", "iris.onnx", created_by="test")
    await hub.registry.promote("iris:1", "stable", decided_by="test")
    for uri, version in {
        "models://iris": 2,
        "models://iris/versions/1": 1,
        "models://iris/versions/2": 2,
    }.items():
        contents = (await client.read_resource(uri)).contents[0]
        assert isinstance(contents, TextResourceContents)
        assert json.loads(contents.text)["version"] == version
    with pytest.raises(MCPError, match="iris"):
        await client.read_resource("models://iris/versions/3")
    assert "models://iris" in {str(r.uri) for r in (await client.list_resources()).resources}

    template = ResourceTemplateReference(
        type="ref/resource", uri="models://{name}/versions/{version}"
    )
    versions = await client.complete(
        template, {"name": "version", "value": ""}, context_arguments={"name": "iris"}
    )
    assert versions.completion.values == ["2", "1"]
    promote = PromptReference(type="ref/prompt", name="promote_model")
    aliases = await client.complete(
        promote, {"name": "alias", "value": ""}, context_arguments={"model": "iris:2"}
    )
    assert aliases.completion.values[0] == "stable"
    prompt = await client.get_prompt("promote_model", {"model": "iris", "alias": "stable"})
    assert "iris:2" in prompt.messages[1].content.text  # type: ignore[union-attr]
