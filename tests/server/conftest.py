"""A hub over a fresh folder, its server, and a client of each protocol era."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from mcp import Client

from mcp_hub.server.app import create_server
from mcp_hub.server.composition import open_hub
from mcp_hub.server.hub_server import HubServer
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub, HubProvider
from mcp_hub.services.training.submission import Submission

AddDataset = Callable[[str], Awaitable[None]]

ERAS = ["auto", "legacy"]
"""`Client` modes: 2026-07-28, and 2025-11-25 after its handshake."""


@pytest.fixture
def settings(tmp_path: Path, sqlite_template: Path) -> Settings:
    settings = Settings(
        data_dir=tmp_path / "data",
        roots=[tmp_path],
        training={"autostart_worker": False},
    )
    settings.data_dir.mkdir()
    shutil.copy(sqlite_template, settings.database_path)
    return settings


@pytest.fixture
async def hub(settings: Settings) -> AsyncIterator[Hub]:
    async with open_hub(settings) as hub:
        yield hub


@pytest.fixture
def provide(hub: Hub) -> HubProvider:
    async def provide() -> Hub:
        return hub

    return provide


@pytest.fixture
def server(settings: Settings, provide: HubProvider) -> HubServer:
    return create_server(settings, provide)


@pytest.fixture(params=ERAS)
async def client(request: pytest.FixtureRequest, server: HubServer) -> AsyncIterator[Client]:
    async with Client(server, mode=request.param) as client:
        yield client


@pytest.fixture
def add_dataset(hub: Hub) -> AddDataset:
    """Registers a small data set of that name."""

    async def add(name: str) -> None:
        rows = "\n".join(f"{n},{'yes' if n % 2 else 'no'}" for n in range(20))
        await hub.data.register(name, content=f"size,label\n{rows}\n", format="csv")

    return add


async def submit(hub: Hub, dataset: str) -> str:
    """The id of a job that no worker takes."""
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
