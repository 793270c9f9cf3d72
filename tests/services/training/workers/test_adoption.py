"""Messages of other programs that the hub cannot make a job of."""

from typing import Any

import bullmq
import pytest
from redis.asyncio import Redis

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.queue.bullmq import BullQueue
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.workers.adoption import Adoption
from tests.servers import Server
from tests.services.training.broken_frameworks import NAME, provide

PROBE: dict[str, Any] = {
    "name": "probe", "type": "probe", "framework": "probe", "dataset": "points",
}  # fmt: skip


async def _adopt(adoption: Adoption, shared: BullQueue) -> None:
    [claim] = await shared.claim("worker_1", 30)
    assert await adoption.start(claim, "worker_1", 30_000, 0) is None


async def _told(redis_server: Server, shared: BullQueue) -> str:
    """Why the message failed, as whoever waits for it is told."""
    async with Redis.from_url(redis_server.url, decode_responses=True) as redis:
        entries = await redis.xrange(shared._keys.events)
    [reason] = [fields["failedReason"] for _, fields in entries if fields["event"] == "failed"]
    return str(reason)


@pytest.fixture
def adoption(training: TrainingService, database: SqliteDatabase, shared: BullQueue) -> Adoption:
    return Adoption(training, database, shared)


async def test_a_plugin_that_raises_fails_the_message_it_is_asked_for(
    adoption: Adoption, shared: BullQueue, bull: bullmq.Queue, redis_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    provide(monkeypatch, "RaisesInCheck")
    await bull.add("n", PROBE | {"framework": NAME}, {"jobId": "order-1"})
    await _adopt(adoption, shared)
    told = await _told(redis_server, shared)
    assert told.startswith("second_probe cannot check a job: ValueError: it has a fault")


async def test_text_that_no_database_takes_fails_its_message(
    adoption: Adoption, shared: BullQueue, bull: bullmq.Queue, redis_server: Server
) -> None:
    await bull.add("n", PROBE | {"dataset": "\ud800"}, {"jobId": "order-1"})
    await _adopt(adoption, shared)
    assert "its log says why" in await _told(redis_server, shared)


async def test_a_message_waits_for_a_database_that_is_away(
    adoption: Adoption, training: TrainingService, shared: BullQueue, bull: bullmq.Queue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def away(*_: object, **__: object) -> None:
        raise Unavailable("The database does not answer.")

    monkeypatch.setattr(training, "record", away)
    await bull.add("n", PROBE, {"jobId": "order-1"})
    with pytest.raises(Unavailable):
        await _adopt(adoption, shared)
    assert await bull.getJobState("order-1") == "active"
