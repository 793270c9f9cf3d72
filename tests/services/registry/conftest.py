"""A registry over the embedded adapters, and a quick way to fill it."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.registry.store import NewVersion, add_version
from mcp_hub.services.registry.views import InputField, OutputField, Promotion, Signature

SIGNATURE = Signature(
    inputs=[InputField(name="x", dtype="float32", shape=[None, 1], kind="number")],
    outputs=[OutputField(name="label", dtype="string", shape=[None], role="prediction")],
)

Add = Callable[..., Awaitable[int]]


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def registry(
    database: SqliteDatabase, blobs: FileBlobStore, bus: DatabaseBus, roots: Path
) -> RegistryService:
    return RegistryService(database, blobs, bus, roots=[roots])


@pytest.fixture
def add(database: SqliteDatabase) -> Add:
    """Adds a version as training does: add("iris", accuracy=0.9) is its number."""

    async def add(name: str, /, **values: Any) -> int:
        own = {key: values.pop(key) for key in tuple(values) if key in NewVersion.__slots__}
        new = NewVersion(
            **{
                "name": name,
                "flavor": "onnx",
                "signature": SIGNATURE,
                "artifacts": [],
                "created_by": "tester",
                "metrics": values,
                **own,
            }
        )
        return await database.write(partial(add_version, new=new))

    return add


@pytest.fixture
async def iris(registry: RegistryService, add: Add) -> None:
    """Three versions; champion is the second."""
    for accuracy in (0.9, 0.95, 0.93):
        await add("iris", accuracy=accuracy)
    await promote(registry, "iris:2")


async def promote(registry: RegistryService, reference: str, alias: str = "champion") -> Promotion:
    """Promote without gates."""
    return await registry.promote(reference, alias, decided_by="tester")
