import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import bullmq
import pytest
from anyio import to_thread
from redis.asyncio import Redis

from mcp_hub.adapters.errors import InvalidArgument, Unavailable
from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.queue.bullmq import BullQueue
from mcp_hub.adapters.queue.port import AGEING_S, Claim, SharedQueue
from tests import servers
from tests.adapters.queue.contract import LONG, OpenQueue, QueueContract
from tests.servers import Server
from tests.spawning import Processes
from tests.waiting import eventually


@asynccontextmanager
async def open_on_redis(
    url: str, prefix: str, name: str, *, ageing_s: float = AGEING_S
) -> AsyncIterator[BullQueue]:
    queue = BullQueue(url, name, prefix=prefix, ageing_s=ageing_s)
    yield queue
    await queue.close()


class TestBullQueue(QueueContract):
    @pytest.fixture
    def open_queue(self, redis_server: Server) -> OpenQueue:
        return partial(open_on_redis, redis_server.url, new_id("bull"))


@pytest.fixture
def name() -> str:
    return new_id("queue")


@pytest.fixture
async def queue(redis_server: Server, name: str) -> AsyncIterator[BullQueue]:
    queue = BullQueue(redis_server.url, name, stalled_check_s=0.05)
    yield queue
    await queue.close()


@pytest.fixture
async def bull(redis_server: Server, name: str) -> AsyncIterator[bullmq.Queue]:
    """The same queue as `queue`, as BullMQ's own library sees it."""
    bull = bullmq.Queue(name, {"connection": redis_server.url})
    yield bull
    await bull.close()


@pytest.fixture
async def worker(redis_server: Server, name: str) -> AsyncIterator[bullmq.Worker]:
    """A worker of BullMQ's own that takes jobs when it is told to."""
    worker = bullmq.Worker(name, None, {"connection": redis_server.url, "lockDuration": 300})
    yield worker
    await worker.close(force=True)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may restart."""
    server = servers.start_redis(tmp_path / "redis")
    yield server
    server.stop()


async def test_takes_what_bullmq_added_in_bullmqs_order(
    queue: BullQueue, bull: bullmq.Queue
) -> None:
    await queue.enqueue("ours", priority=100)
    await bull.add("n", {"of": 5}, {"jobId": "fifth", "priority": 5})
    await bull.add("n", {"of": 2}, {"jobId": "second", "priority": 2})
    await bull.add("n", {"of": 0}, {"jobId": "none"})
    await bull.add("n", {"of": 0}, {"jobId": "later", "delay": 3_600_000})
    claims = await queue.claim("c", LONG, limit=9)
    assert [claim.message_id for claim in claims] == ["none", "ours", "second", "fifth"]
    assert [claim.payload for claim in claims] == [{"of": 0}, None, {"of": 2}, {"of": 5}]
    for claim in reversed(claims):
        assert await queue.retry(claim)
    claims = await queue.claim("c", LONG, limit=9)
    assert [claim.message_id for claim in claims] == ["none", "ours", "second", "fifth"]
    assert await queue.depth() == 1


async def test_bullmq_sees_what_the_hub_does(
    queue: BullQueue, bull: bullmq.Queue, redis_server: Server
) -> None:
    await queue.enqueue("job_waiting", priority=-100, payload={"ü": 1})
    await queue.enqueue("job_delayed", delay_s=LONG)
    await queue.enqueue("job_active", priority=100)
    [claim] = await queue.claim("worker_1", LONG)
    assert await bull.getJobState("job_waiting") == "prioritized"
    assert await bull.getJobState("job_delayed") == "delayed"
    assert await bull.getJobState("job_active") == "active"
    job = await bullmq.Job.fromId(bull, "job_waiting")
    assert (job.name, job.data, job.opts["priority"]) == ("mcp-hub", {"ü": 1}, 201)
    job = await bullmq.Job.fromId(bull, "job_active")
    assert job.opts["priority"] == 1
    async with Redis.from_url(redis_server.url) as redis:
        assert await redis.hget(queue._keys.job("job_active"), "pb") == b"worker_1"
    assert await queue.retry(claim, delay_s=LONG)
    assert await bull.getJobState("job_active") == "delayed"


async def test_bullmqs_worker_takes_what_the_hub_added_and_is_not_disturbed(
    queue: BullQueue, worker: bullmq.Worker
) -> None:
    await queue.enqueue("low", priority=-5)
    await queue.enqueue("high", priority=5, payload={"x": 1})
    job = await worker.getNextJob("their-token")
    assert (job.id, job.data) == ("high", {"x": 1})
    assert await queue.held(["high", "low"]) == {"high"}
    assert [claim.message_id for claim in await queue.claim("c", LONG, 5)] == ["low"]
    forged = Claim("high", "forged", 1)
    assert not await queue.ack(forged)
    assert not await queue.heartbeat(forged, LONG)
    await job.moveToCompleted({"metrics": {}}, "their-token", fetchNext=False)
    assert await queue.held(["high"]) == set()
    assert await queue.enqueue("high")


async def test_what_bullmqs_worker_lost_comes_back_however_often(
    queue: BullQueue, worker: bullmq.Worker
) -> None:
    await queue.enqueue("job_1", payload={"x": 1})
    for delivery in (1, 2, 3):
        job = await worker.getNextJob(f"token-{delivery}")
        assert job.id == "job_1"
        await eventually(lambda: _recovered(queue))
    [claim] = await queue.claim("c", LONG)
    assert (claim.delivery, claim.payload) == (4, {"x": 1})


async def _recovered(queue: BullQueue) -> bool:
    """Whether the message waits again; its place is taken by nobody meanwhile."""
    await queue._recover_stalled()
    return await queue.depth() == 1


async def test_a_claim_recovers_what_others_lost(queue: BullQueue, worker: bullmq.Worker) -> None:
    await queue.enqueue("job_1")
    await worker.getNextJob("token")
    claims: list[Claim] = []

    async def claim() -> bool:
        claims.extend(await queue.claim("c", LONG))
        return bool(claims)

    await eventually(claim)
    assert claims[0].delivery == 2


async def test_ended_jobs_leave_nothing_behind(queue: BullQueue, redis_server: Server) -> None:
    async with Redis.from_url(redis_server.url) as redis:
        for number in range(20):
            await queue.enqueue(f"job_{number}", payload={"x": "y" * 1000})
        for number, claim in enumerate(await queue.claim("c", LONG, 20)):
            if number % 3 == 0:
                await queue.ack(claim)
            elif number % 3 == 1:
                await queue.complete(claim, {"x": 1})
            else:
                await queue.fail(claim, "reason")
        kept = {key.decode() async for key in redis.scan_iter(f"*{queue._keys.base}*")}
        bookkeeping = {f"{queue._keys.base}{part}" for part in ("events", "id", "meta", "pc",
                       "marker", "stalled-check")}  # fmt: skip
        assert kept <= bookkeeping
        assert not await redis.exists(queue._keys.leases)


async def test_pauses_and_limits_set_on_the_queue_are_kept(
    queue: BullQueue, bull: bullmq.Queue
) -> None:
    for number in range(9):
        await queue.enqueue(f"job_{number}")
    await bull.pause()
    assert await queue.claim("c", LONG, 9) == []
    await bull.resume()
    await bull.setGlobalConcurrency(2)
    claims = await queue.claim("c", LONG, 9)
    assert len(claims) == 2
    assert await queue.claim("c", LONG, 9) == []
    await queue.ack(claims[0])
    assert len(await queue.claim("c", LONG, 9)) == 1
    await bull.removeGlobalConcurrency()
    await bull.setGlobalRateLimit(3, 300)
    assert len(await queue.claim("c", LONG, 9)) == 3
    assert await queue.claim("c", LONG, 9) == []
    await eventually(lambda: _claims(queue))


async def _claims(queue: BullQueue) -> bool:
    return bool(await queue.claim("c", LONG, 9))


async def test_delays_go_by_redis_clock_whatever_the_hubs_clock_says(
    queue: BullQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    for wrong_by in (-7200, 7200):
        monkeypatch.setattr(time, "time", lambda wrong_by=wrong_by: now() + wrong_by)
        await queue.enqueue("later", delay_s=LONG)
        await queue.enqueue("soon", delay_s=0.1)
        assert await queue.claim("c", LONG, 2) == []
        await eventually(lambda: _claims(queue))
        assert await queue.claim("c", LONG, 2) == []
        for message in ("later", "soon"):
            await queue.cancel(message)


async def test_refuses_ids_that_bullmq_uses_itself(queue: BullQueue) -> None:
    for message in ("wait", "active", "meta", ""):
        with pytest.raises(InvalidArgument, match="BullMQ"):
            await queue.enqueue(message)


async def test_tells_what_others_did_and_the_results_of_what_hubs_did(
    queue: BullQueue, worker: bullmq.Worker
) -> None:
    assert isinstance(queue, SharedQueue)
    assert await queue.events(0) == ([], 0)
    for message in ("a", "b", "c", "d"):
        await queue.enqueue(message)
    [ours] = await queue.claim("worker_1", LONG)
    assert await queue.complete(ours, {"model": "ü:1"})
    theirs = await worker.getNextJob("token-1")
    await theirs.moveToCompleted({"metrics": {"f1": 0.5}}, "token-1", fetchNext=False)
    theirs = await worker.getNextJob("token-2")
    await theirs.moveToFailed(ValueError("their reason"), "token-2")
    theirs = await worker.getNextJob("token-3")
    events, position = await queue.events(0)
    told = [(e.kind, e.message_id) for e in events if e.kind != "returned"]
    assert told == [
        ("completed", "a"), ("taken", "b"), ("completed", "b"), ("taken", "c"), ("failed", "c"),
        ("taken", "d"),
    ]  # fmt: skip
    details = {(e.kind, e.message_id): e for e in events}
    assert details["completed", "a"].result == {"model": "ü:1"}
    assert details["completed", "b"].result == {"metrics": {"f1": 0.5}}
    assert details["failed", "c"].reason == "their reason"
    assert details["taken", "d"].by == "token-3"
    assert details["taken", "b"].by == "unknown"
    assert [e.position for e in events] == sorted({e.position for e in events})
    assert await queue.events(position) == ([], position)
    assert (await queue.events(events[-2].position))[0] == events[-1:]
    assert await queue.cancel("d")
    [removed], _ = await queue.events(position)
    assert (removed.kind, removed.message_id) == ("removed", "d")


async def test_data_that_are_no_object_are_no_payload(queue: BullQueue, bull: bullmq.Queue) -> None:
    for data in ("text", [1, 2], 7):
        await bull.add("n", data)
    assert {claim.payload for claim in await queue.claim("c", LONG, 5)} == {None}


async def test_a_full_redis_takes_no_message_and_gives_all_it_has(own_server: Server) -> None:
    queue = BullQueue(own_server.url, "jobs")
    async with Redis.from_url(own_server.url) as redis:
        added: list[str] = []

        async def fill() -> None:
            while True:
                message = f"job_{len(added)}"
                assert await queue.enqueue(message, payload={"x": "y" * 2000})
                added.append(message)

        # The scripts take memory when they are first used.
        await queue.enqueue("first", payload={"x": 1})
        assert [claim async for claim in _drain(queue)]
        await redis.config_set("maxmemory", (await redis.info("memory"))["used_memory"] + 2_000_000)
        with pytest.raises(Unavailable, match="maxmemory") as full:
            await fill()
        assert full.value.hint is not None
        assert "full" in full.value.hint
        assert await queue.depth() == len(added)
        [kept, given_back] = await queue.claim("c", LONG, 2)
        assert await queue.heartbeat(kept, LONG)
        assert await queue.retry(given_back, delay_s=LONG)
        assert await queue.cancel(given_back.message_id)
        assert await queue.ack(kept)
        taken = [claim async for claim in _drain(queue)]
        assert sorted(c.message_id for c in [kept, given_back, *taken]) == sorted(added)
        assert await queue.enqueue("job_1")
    await queue.close()


async def test_a_killed_server_loses_nothing_acknowledged(
    own_server: Server, processes: Processes, tmp_path: Path
) -> None:
    """Two processes add and drain while the server is killed and started again."""
    files = [tmp_path / "one", tmp_path / "other"]
    for file in files:
        file.touch()

    async def restart() -> None:
        for seen in (100, 400):
            await eventually(lambda seen=seen: len(_lines(*files)) > seen, within_s=60)
            await to_thread.run_sync(own_server.restart)

    add = [partial(_add, own_server.url, file.name, file) for file in files]
    drain = [partial(_take, own_server.url, file) for file in files]
    for work in (add, drain):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(restart)
            await processes.run(*work)
        if work is add:
            added = set(_lines(*files))
            for file in files:
                file.write_text("")
    queue = BullQueue(own_server.url, "jobs")
    rest: set[str] = set()

    async def all_is_taken() -> bool:
        rest.update([claim.message_id async for claim in _drain(queue)])
        return not await queue.held(list(added))

    await eventually(all_is_taken)
    await queue.close()
    acknowledged = Counter(line for line in _lines(*files) if "?" not in line)
    assert max(acknowledged.values()) == 1
    unanswered = added - set(acknowledged) - rest
    assert unanswered <= {line.strip("?") for line in _lines(*files)}
    # Each process had one call under way each time the server was killed.
    assert len(unanswered) <= 4


async def _add(url: str, name: str, file: Path) -> None:
    """Add messages, and write down each that is there for certain."""
    queue = BullQueue(url, "jobs")
    with file.open("a") as lines:
        for number in range(400):
            while True:
                try:
                    await queue.enqueue(f"{name}_{number}", priority=number % 3)
                    break
                except Unavailable:
                    await anyio.sleep(0.05)
            print(f"{name}_{number}", file=lines, flush=True)
    await queue.close()


async def _take(url: str, file: Path) -> None:
    """Claim and acknowledge until the queue is empty; write down what is acknowledged: with
    a question mark what may be, without one what is for certain."""
    queue = BullQueue(url, "jobs")
    with file.open("a") as lines:
        while True:
            try:
                claims = await queue.claim(file.name, 1, limit=3)
                if not claims and await queue.depth() == 0:
                    break
                for claim in claims:
                    print(f"?{claim.message_id}", file=lines, flush=True)
                    if await queue.ack(claim):
                        print(claim.message_id, file=lines, flush=True)
            except Unavailable:
                await anyio.sleep(0.05)
    await queue.close()


def _lines(*files: Path) -> list[str]:
    return [line for file in files for line in file.read_text().splitlines()]


async def _drain(queue: BullQueue) -> AsyncIterator[Claim]:
    while await queue.depth():
        for claim in await queue.claim("drain", LONG, 10):
            assert await queue.ack(claim)
            yield claim


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://127.0.0.1:{free}/0", "Check that Redis runs"),
        ("redis://no-such-host.invalid:6379/0", "Check that Redis runs"),
        ("redis://hub:wr0ng@127.0.0.1:{port}/0", "Check the user and the password"),
        ("redis://127.0.0.1:{port}/99", "redis_url"),
    ],
)
async def test_says_what_to_do_when_redis_cannot_be_used(
    redis_server: Server, url: str, told: str
) -> None:
    url = url.format(port=redis_server.port, free=servers.free_port())
    queue = BullQueue(url, "jobs")
    with anyio.fail_after(30):
        for call in (queue.enqueue("job_1"), queue.claim("c", 1), queue.check(), queue.events(0)):
            with pytest.raises(Unavailable) as raised:
                await call
            shown = json.dumps(raised.value.as_dict())
            assert told in shown
            assert "wr0ng" not in shown
    await queue.close()


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_hub.adapters.redis_client.ANSWER_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        queue = BullQueue(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "jobs")
        with anyio.fail_after(2), pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
            await queue.claim("c", 1)
        await queue.close()


async def test_more_calls_than_connections_wait_their_turn(queue: BullQueue) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(500):
            tasks.start_soon(queue.enqueue, f"job_{number}")
    assert await queue.depth() == 500


async def test_is_back_after_a_restart(own_server: Server) -> None:
    queue = BullQueue(own_server.url, "jobs")
    await queue.enqueue("job_1")
    [claim] = await queue.claim("c", LONG)
    await to_thread.run_sync(own_server.restart)
    assert await queue.heartbeat(claim, LONG)
    assert await queue.ack(claim)
    await to_thread.run_sync(own_server.stop)
    with pytest.raises(Unavailable):
        await queue.enqueue("job_2")
    await to_thread.run_sync(own_server.start)
    assert await queue.enqueue("job_2")
    await queue.close()
