"""The hub's training over a real BullMQ queue, and Node programs that share it."""

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.queue.bullmq import BullQueue
from mcp_hub.adapters.queue.divided import DividedQueue
from mcp_hub.services.training.workers.delegation import Delegation
from tests.node import node_with_packages
from tests.servers import Server
from tests.services.training.conftest import (  # noqa: F401 - fixtures
    finish,
    place,
    plugins,
    queue_limits,
    schedules,
    submit,
    training,
    worker,
)

FOLDER = Path(__file__).parent / "node"
LEASE_S = 3.0


@pytest.fixture
def queue_name() -> str:
    return new_id("queue")


@pytest.fixture
async def queue(redis_server: Server, queue_name: str) -> AsyncIterator[DividedQueue]:
    """As a hub's; the framework `second_probe` is what only hubs do."""
    shared, own = (
        BullQueue(redis_server.url, name, stalled_check_s=0.2)
        for name in (queue_name, f"{queue_name}-own")
    )
    queue = DividedQueue(shared, own, {"second_probe"})
    yield queue
    await queue.close()


@pytest.fixture
async def delegation(
    database: SqliteDatabase, queue: DividedQueue, bus: DatabaseBus
) -> AsyncIterator[Delegation]:
    """What a worker runs to follow what others do with the hub's jobs, without the worker."""
    delegation = Delegation(database, queue, bus, lease_s=LEASE_S, heartbeat_s=0.5, poll_s=0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delegation.follow)
        yield delegation
        tasks.cancel_scope.cancel()


class Node:
    """Node programs on the test's queue."""

    def __init__(self, program: str, *arguments: str) -> None:
        self._program = program
        self._arguments = arguments

    async def produce(self, data: Any, **options: Any) -> dict[str, Any]:
        """Add a job and wait for its end: its id, state, and result or reason."""
        done = await anyio.run_process(
            [self._program, str(FOLDER / "producer.mjs"), *self._arguments],
            input=json.dumps({"data": data, "options": options}).encode(),
            stderr=None,
        )
        end: dict[str, Any] = json.loads(done.stdout)
        return end

    @asynccontextmanager
    async def working(self) -> AsyncIterator["NodeWorker"]:
        """A worker, ready to take jobs; killed at the end if it is still there."""
        process = await anyio.open_process(
            [self._program, str(FOLDER / "worker.mjs"), *self._arguments],
            stdin=subprocess.PIPE,
            stderr=None,
        )
        node_worker = NodeWorker(process)
        try:
            assert await node_worker.tells() == {"ready": True}
            yield node_worker
        finally:
            node_worker.kill()
            await process.aclose()


class NodeWorker:
    def __init__(self, process: Process) -> None:
        self._process = process
        assert process.stdout is not None
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def tells(self) -> dict[str, Any]:
        """The next job it takes."""
        with anyio.fail_after(30):
            line = await self._lines.receive_until(b"\n", 1 << 20)
        job: dict[str, Any] = json.loads(line)
        return job

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


@pytest.fixture
def node(redis_server: Server, queue_name: str) -> Node:
    return Node(node_with_packages(FOLDER), redis_server.url, queue_name)
