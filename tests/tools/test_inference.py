"""The inference tools as an MCP client calls them."""

import json
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from mcp import Client

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, NotFound
from mcp_hub.server.hub_server import HubServer
from mcp_hub.services.inference.service import InferenceService
from mcp_hub.services.registry.store import NewVersion, add_version
from mcp_hub.services.registry.views import Artifact
from mcp_hub.tools.inference import InferenceTools
from tests.processes import call
from tests.services import onnx_models


@pytest.fixture
async def client(
    database: SqliteDatabase, blobs: FileBlobStore, bus: DatabaseBus
) -> AsyncIterator[Client]:
    for name in ("iris", "cancer", "diabetes"):
        trained = getattr(onnx_models, name)()
        blob = await blobs.put(trained.onnx)
        artifact = Artifact(name="model.onnx", sha256=blob.sha256, bytes=blob.size)
        new = NewVersion(name, "onnx", trained.signature, [artifact], "tester")
        await database.write(partial(add_version, new=new))
    inference = InferenceService(database, blobs, cache_bytes=1 << 20, threads=1)
    hub: Any = SimpleNamespace(inference=inference, bus=bus)

    async def provide() -> Any:
        return hub

    async with Client(HubServer(provide, tools=InferenceTools(provide).tools(), sets=[])) as client:
        yield client


async def test_predict_is_declared_as_reading(client: Client) -> None:
    tool, batch = (await client.list_tools()).tools
    assert (tool.name, batch.name) == ("predict", "predict_batch")
    assert batch.annotations is not None
    assert (batch.annotations.read_only_hint, batch.annotations.idempotent_hint) == (False, True)
    assert len((tool.description or "").encode()) <= 1024
    assert tool.annotations is not None
    assert tool.annotations.read_only_hint is True


async def test_labels_and_probabilities(client: Client) -> None:
    answer = await call(client, "predict", model="iris", inputs=onnx_models.iris().rows(2))
    assert answer["model"] == "iris:1"
    assert answer["predictions"] == ["setosa", "setosa"]
    assert list(answer["probabilities"][0]) == ["setosa", "versicolor", "virginica"]


async def test_booleans_stay_booleans(client: Client) -> None:
    answer = await call(client, "predict", model="cancer:1", inputs=onnx_models.cancer().rows(1))
    assert answer["predictions"] == [False]
    assert list(answer["probabilities"][0]) == ["false", "true"]


async def test_numbers_are_flat(client: Client) -> None:
    answer = await call(client, "predict", model="diabetes", inputs=onnx_models.diabetes().rows(3))
    assert [round(value) for value in answer["predictions"]] == [206, 68, 177]
    assert answer["probabilities"] is None


async def test_rows_as_json_in_a_string_are_read(client: Client) -> None:
    rows = json.dumps(onnx_models.iris().rows(1))
    answer = await call(client, "predict", model="iris", inputs=rows)
    assert answer["predictions"] == ["setosa"]


async def test_many_rows_are_answered_whole(client: Client) -> None:
    rows = onnx_models.iris().rows(150) * 20
    answer = await call(client, "predict", model="iris", inputs=rows)
    assert len(answer["predictions"]) == len(answer["probabilities"]) == 3000


@pytest.mark.parametrize(
    ("arguments", "error", "message", "hint"),
    [
        ({"model": "irsi"}, NotFound, "no model 'irsi'", "Existing models: cancer, diabetes, iris"),
        ({"model": "iris:2"}, NotFound, "no version 2", "Its versions: 1."),
        ({"model": "iris@best"}, NotFound, "no alias 'best'", "no aliases of 'iris'"),
        ({"model": "iris:"}, InvalidArgument, "is not a model reference", "'name@alias'"),
        ({"inputs": []}, InvalidArgument, "no rows", "sepal_length (number)"),
        ({"inputs": [{}]}, InvalidArgument, "Row 0 lacks", "sepal_length (number)"),
        ({"inputs": [{"a": 1}]}, InvalidArgument, "column 'a'", "sepal_length"),
        ({"inputs": {"a": 1}}, InvalidArgument, "inputs is", "inputs: Rows"),
        ({"inputs": [[1, 2]]}, InvalidArgument, "inputs[0] is [1, 2]", "inputs: Rows"),
        ({"inputs": [{}] * 10_001}, LimitExceeded, "10,001 rows", "Split the rows"),
    ],
)
async def test_what_cannot_be_predicted_is_told(
    client: Client, arguments: dict[str, Any], error: type[Any], message: str, hint: str
) -> None:
    wanted = {"model": "iris", "inputs": onnx_models.iris().rows(1)} | arguments
    with pytest.raises(error) as refused:
        await call(client, "predict", **wanted)
    assert message in refused.value.message
    assert hint in refused.value.hint
