"""The engine's contract on Docker's, and what is Docker's own."""

from functools import partial

import pytest

from mcp_hub.adapters.containers.docker import DockerEngine
from tests.adapters.containers.contract import EngineContract, OpenEngine
from tests.containers import images
from tests.engine import add_foreign


class TestDockerEngine(EngineContract):
    @pytest.fixture
    def open_engine(self, engine_url: str) -> OpenEngine:
        return partial(DockerEngine, engine_url)

    @pytest.fixture
    def image(self) -> str:
        return images.TINY

    @pytest.fixture
    def foreign_image(self, engine_url: str) -> str:
        add_foreign(engine_url)
        return images.FOREIGN
