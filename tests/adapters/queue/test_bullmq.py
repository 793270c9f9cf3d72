from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.queue.bullmq import BullQueue
from tests.adapters.queue.contract import OpenQueue, QueueContract
from tests.servers import Server


@asynccontextmanager
async def open_on_redis(url: str, prefix: str, name: str) -> AsyncIterator[BullQueue]:
    queue = BullQueue(url, name, prefix=prefix)
    yield queue
    await queue.close()


class TestBullQueue(QueueContract):
    @pytest.fixture
    def open_queue(self, redis_server: Server) -> OpenQueue:
        return partial(open_on_redis, redis_server.url, new_id("bull"))
