"""The registry's tools as an MCP client calls them."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mcp import Client

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound
from mcp_hub.server.hub_server import HubServer
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.registry.store import NewVersion, add_version
from mcp_hub.services.registry.views import InputField, Signature
from mcp_hub.tools.registry import RegistryTools
from tests.processes import call
from tests.services import onnx_models

GATES = {
    "min_metric": {"accuracy": 0.9},
    "better_than_current": "accuracy",
    "same_signature": True,
}


@pytest.fixture
async def client(
    database: SqliteDatabase, blobs: FileBlobStore, bus: DatabaseBus, tmp_path: Path
) -> AsyncIterator[Client]:
    hub: Any = SimpleNamespace(
        registry=RegistryService(database, blobs, bus, roots=[tmp_path]), bus=bus
    )

    async def provide() -> Any:
        return hub

    (tmp_path / "iris.onnx").write_bytes(onnx_models.iris().onnx)
    async with Client(HubServer(provide, tools=RegistryTools(provide).tools(), sets=[])) as client:
        yield client


@pytest.fixture
async def iris(client: Client) -> None:
    """Two versions; champion is the first, and the second is worse."""
    for accuracy in (0.95, 0.93):
        await call(
            client, "model_register", name="iris", path="iris.onnx", metrics={"accuracy": accuracy}
        )
    await call(client, "model_promote", model="iris:1", alias="champion")


async def test_every_tool_says_what_it_does(client: Client) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == [
        "model_list", "model_get", "model_register", "model_evaluate", "model_promote",
        "model_compare", "model_lineage", "model_tag", "model_delete",
    ]  # fmt: skip
    for name, tool in tools.items():
        assert tool.title
        assert tool.output_schema
        assert 40 < len((tool.description or "").encode()) <= 1024
        assert tool.annotations is not None
        read_only = name in {"model_list", "model_get", "model_compare", "model_lineage"}
        assert tool.annotations.read_only_hint is read_only
        assert tool.annotations.destructive_hint is (
            name in {"model_promote", "model_tag", "model_delete"}
        )
        assert tool.annotations.open_world_hint is False
    assert sum(len(tool.model_dump_json()) for tool in tools.values()) < 22_000


async def test_the_schema_tells_the_gates(client: Client) -> None:
    [tool] = [t for t in (await client.list_tools()).tools if t.name == "model_promote"]
    text = json.dumps(tool.input_schema)
    for gate in ("min_metric", "max_metric", "better_than_current", "same_signature"):
        assert f'"{gate}"' in text


@pytest.mark.usefixtures("iris")
async def test_a_version_has_the_fields_that_programs_rely_on(client: Client) -> None:
    view = await call(client, "model_get", model="iris@champion")
    assert (view["name"], view["version"], view["aliases"]) == ("iris", 1, ["champion"])
    assert view["metrics"] == {"accuracy": 0.95}
    assert [field["name"] for field in view["signature"]["inputs"]] == onnx_models.IRIS_COLUMNS
    assert [field["name"] for field in view["signature"]["outputs"]] == ["label", "probabilities"]
    assert (view["job_id"], view["dataset"]) == (None, None)
    assert view["created_by"].startswith("mcp ")


@pytest.mark.usefixtures("iris")
async def test_a_promotion_that_fails_is_a_result(client: Client) -> None:
    decision = await call(
        client, "model_promote", model="iris:2", alias="champion", gates=GATES, reason="Newer"
    )
    assert {key: decision[key] for key in ("promoted", "alias", "version", "previous")} == {
        "promoted": False,
        "alias": "champion",
        "version": 2,
        "previous": 1,
    }
    assert [(g["gate"], g["passed"], g["expected"], g["actual"]) for g in decision["gates"]] == [
        ("min_metric.accuracy", True, 0.9, 0.93),
        ("better_than_current.accuracy", False, 0.95, 0.93),
        ("same_signature", True, True, True),
    ]
    lineage = await call(client, "model_lineage", model="iris:2")
    [kept] = lineage["promotions"]
    assert kept == decision
    assert kept["reason"] == "Newer"
    assert kept["decided_by"].startswith("mcp ")


@pytest.mark.usefixtures("iris")
async def test_rolling_back_is_promoting_what_was_there_before(client: Client) -> None:
    moved = await call(client, "model_promote", model="iris:2", alias="champion")
    back = await call(client, "model_promote", model=f"iris:{moved['previous']}", alias="champion")
    assert (back["promoted"], back["version"], back["previous"]) == (True, 1, 2)


@pytest.mark.usefixtures("iris")
@pytest.mark.parametrize(
    ("gates", "message", "hint"),
    [
        ({"min_metrics": {"accuracy": 0.9}}, "min_metrics", "Did you mean 'min_metric'?"),
        ({"min_metric": 0.9}, "gates.min_metric is 0.9", '{"min_metric": {"accuracy": 0.9}'),
        ({"min_metric": {"accuracy": "x"}}, "gates.min_metric.accuracy", '{"accuracy": 0.9}'),
    ],
)
async def test_other_gates_are_refused(
    client: Client, gates: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await call(client, "model_promote", model="iris:2", alias="champion", gates=gates)
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


@pytest.mark.usefixtures("iris")
async def test_versions_are_compared(client: Client) -> None:
    table = await call(client, "model_compare", models=["iris:1", "iris"])
    assert table["models"] == ["iris:1", "iris:2"]
    assert table["metrics"] == [{"metric": "accuracy", "values": [0.95, 0.93], "best": "iris:1"}]
    assert table["same_signature"] is True


@pytest.mark.usefixtures("iris")
async def test_models_are_listed_and_tagged(client: Client) -> None:
    tagged = await call(client, "model_tag", model="iris", tags={"team": "plants", "old": None})
    assert tagged == {"model": "iris:2", "tags": {"team": "plants"}}
    page = await call(client, "model_list", tag="team=plants")
    assert page["next_cursor"] is None
    [model] = page["items"]
    assert (model["name"], model["version"], model["aliases"]) == ("iris", 2, {"champion": 1})
    assert (await call(client, "model_list", name="wine"))["items"] == []


@pytest.mark.usefixtures("iris")
async def test_what_an_alias_points_at_is_not_deleted(client: Client) -> None:
    with pytest.raises(Conflict, match="iris@champion points at what would be deleted"):
        await call(client, "model_delete", model="iris")
    gone = await call(client, "model_delete", model="iris", force=True)
    assert gone["deleted"] == ["iris@champion", "iris:1", "iris:2"]
    with pytest.raises(NotFound, match="Every version of 'iris' was deleted"):
        await call(client, "model_get", model="iris")
    assert (await call(client, "model_list"))["items"] == []
    await call(client, "model_delete", model="iris", restore=True)
    assert (await call(client, "model_get", model="iris"))["version"] == 2


async def test_a_wide_signature_is_cut(client: Client, database: SqliteDatabase) -> None:
    inputs = [
        InputField(name=f"column_{n}", dtype="float32", shape=[None, 1], kind="number")
        for n in range(1000)
    ]
    signature = Signature(inputs=inputs, outputs=[])
    new = NewVersion("wide", "onnx", signature, [], "tester")
    await database.write(partial(add_version, new=new))
    view = await call(client, "model_get", model="wide")
    assert (len(view["signature"]["inputs"]), view["omitted_inputs"]) == (100, 900)
    view = await call(client, "model_get", model="wide", limit=1000)
    assert (len(view["signature"]["inputs"]), view["omitted_inputs"]) == (1000, 0)
