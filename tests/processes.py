"""Hub processes over a folder of a test's own, and clients that talk to them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult

from mcp_hub.adapters.errors import error_of

PLUGINS = Path(__file__).parent / "plugins"

QUICK = {
    "MCP_HUB_TRAINING__LEASE_S": "3",
    "MCP_HUB_TRAINING__HEARTBEAT_S": "0.5",
    "MCP_HUB_TRAINING__POLL_S": "0.1",
    "MCP_HUB_TRAINING__IDLE_EXIT_S": "3",
    "MCP_HUB_TRAINING__CONCURRENCY": "2",
}
"""Short times, so that what follows a lost worker or an idle one can be waited for."""


def hub_environment(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of hub processes that share `folder` as their data and as their root."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    own = {
        "MCP_HUB_DATA_DIR": str(folder / "data"),
        "MCP_HUB_ROOTS": str(folder),
        "PYTHONPATH": str(PLUGINS),
        "PYTHONWARNINGS": "error",
    }
    return kept | own | QUICK | variables


@asynccontextmanager
async def stdio_client(environment: Mapping[str, str], **options: Any) -> AsyncIterator[Client]:
    """An MCP client of a fresh `mcp-hub` over stdio."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_hub"], env=dict(environment)
    )
    async with Client(server, read_timeout_seconds=60, **options) as client:
        yield client


async def call(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    """The structured result of a tool call; raises the HubError that it reports."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    if result.is_error:
        error = json.loads(result.content[0].text)  # type: ignore[union-attr]
        raise error_of(error["code"], error["message"], error["hint"])
    assert result.structured_content is not None
    return result.structured_content


@contextmanager
def process(environment: Mapping[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running `mcp-hub` command; killed at the end if it is still there."""
    running = start(environment, *arguments)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def start(
    environment: Mapping[str, str], *arguments: str, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start an `mcp-hub` command, for the caller to end; its log goes to `log` or is shown."""
    with ExitStack() as stack:
        return subprocess.Popen(
            [sys.executable, "-m", "mcp_hub", *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stack.enter_context(log.open("ab")) if log else None,
        )


def kill(pid: int) -> None:
    """End a process as a crash or an impatient user does."""
    os.kill(pid, signal.SIGKILL)
