"""A place that hub processes share, on a real engine, and one of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.containers.instances.hubs import Hub, Place, open_hub, place_of


@pytest.fixture
async def place(tmp_path: Path, engine_url: str, python_image: str) -> AsyncIterator[Place]:
    async with place_of(tmp_path, engine_url, python_image) as place:
        yield place


@pytest.fixture
async def hub(place: Place) -> AsyncIterator[Hub]:
    async with open_hub(place) as hub:
        yield hub
