"""A queue with a part that is not shared, over BullMQ on a real server."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import bullmq
import pytest

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.queue.bullmq import BullQueue
from mcp_hub.adapters.queue.divided import DividedQueue
from mcp_hub.adapters.queue.port import AGEING_S, SharedQueue
from tests import servers
from tests.adapters.queue.contract import LONG, OpenQueue, QueueContract
from tests.servers import Server
from tests.waiting import eventually

EVERY_KIND = ("", "a", "b", "x", "y")
"""That the contract uses."""


@asynccontextmanager
async def open_divided(
    url: str,
    prefix: str,
    name: str,
    *,
    ageing_s: float = AGEING_S,
    own_kinds: Collection[str] = EVERY_KIND,
) -> AsyncIterator[DividedQueue]:
    shared, own = (
        BullQueue(url, part, prefix=prefix, ageing_s=ageing_s) for part in (name, f"{name}-own")
    )
    queue = DividedQueue(shared, own, own_kinds)
    yield queue
    await queue.close()


class TestDividedQueue(QueueContract):
    """All of the contract's messages lie in the part that is not shared."""

    # What lies below is compared with the model by tests of its own.
    model_runs = 8

    @pytest.fixture
    def open_queue(self, redis_server: Server) -> OpenQueue:
        return partial(open_divided, redis_server.url, new_id("bull"))


@pytest.fixture
def prefix() -> str:
    return new_id("bull")


@pytest.fixture
async def queue(redis_server: Server, prefix: str) -> AsyncIterator[DividedQueue]:
    async with open_divided(redis_server.url, prefix, "jobs", own_kinds={"own"}) as queue:
        yield queue


async def test_bullmqs_own_worker_is_offered_the_shared_part_only(
    redis_server: Server, prefix: str, queue: DividedQueue
) -> None:
    for number in range(4):
        await queue.enqueue(f"job_{number}", priority=-number, kind="own" if number < 3 else "")
    options = {"connection": redis_server.url, "prefix": prefix}
    worker = bullmq.Worker("jobs", None, options)
    job = await worker.getNextJob("token")
    assert job is not None
    assert job.id == "job_3"
    await worker.close(force=True)
    assert [claim.message_id for claim in await queue.claim("hub", LONG, limit=9)] == [
        "job_0", "job_1", "job_2"
    ]  # fmt: skip


async def test_the_parts_have_the_first_place_by_turns(queue: DividedQueue) -> None:
    for number in range(6):
        await queue.enqueue(f"own_{number}", priority=90, kind="own")
        await queue.enqueue(f"shared_{number}", priority=-90)
    taken = [claim.message_id for _ in range(6) for claim in await queue.claim("hub", LONG)]
    assert sorted(taken) == [f"{part}_{n}" for part in ("own", "shared") for n in range(3)]
    assert len(await queue.claim("hub", LONG, limit=4)) == 4
    assert await queue.depth() == 2


async def test_what_is_done_with_a_claim_reaches_its_part(
    redis_server: Server, prefix: str, queue: DividedQueue
) -> None:
    """Under one id in both parts, as nobody would have it: neither is taken for the other."""
    assert isinstance(queue, SharedQueue)
    for kind in ("own", ""):
        await queue.enqueue("job", kind=kind, payload={"kind": kind})
    assert (await queue.position("job"), await queue.depth()) == (0, 2)
    assert (await queue.check()).endswith("1 waiting; for hubs only, 1 waiting")
    own, shared = sorted(
        await queue.claim("hub", LONG, limit=2), key=lambda claim: str(claim.payload), reverse=True
    )
    assert (own.payload, shared.payload) == ({"kind": "own"}, {"kind": ""})
    assert await queue.held(["job", "none"]) == {"job"}
    assert await queue.heartbeat(own, LONG)
    assert await queue.retry(own)
    assert not await queue.ack(own)
    assert await queue.fail(shared, "The data will not do.")
    events, _ = await queue.events(0)
    assert [(event.kind, event.reason) for event in events if event.kind == "failed"] == [
        ("failed", "The data will not do.")
    ]
    [again] = await queue.claim("hub", LONG, limit=2)
    assert again.payload == {"kind": "own"}
    assert await queue.complete(again, {})
    assert await queue.depth() == 0
    assert await queue.held(["job"]) == set()


async def test_what_one_part_gave_is_not_lost_when_the_other_does_not_answer(
    redis_server: Server, tmp_path: Path, prefix: str
) -> None:
    gone = servers.start_redis(tmp_path / "redis")
    shared, own = (BullQueue(url, "jobs", prefix=prefix) for url in (gone.url, redis_server.url))
    queue = DividedQueue(shared, own, {"own"})
    await queue.enqueue("job", kind="own")
    gone.stop()
    [claim] = await queue.claim("hub", LONG, limit=2)
    assert await queue.ack(claim)

    async def is_told() -> bool:
        try:
            await queue.claim("hub", LONG, limit=2)
        except Unavailable:
            return True
        return False

    await eventually(is_told)
    await queue.close()
