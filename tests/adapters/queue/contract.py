"""What every queue promises. An implementation's test class gives `open_queue`."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_hub.adapters.queue.port import Claim, Queue
from tests.adapters.queue.ageing import check_ageing
from tests.adapters.queue.model import check_against_model
from tests.spawning import Processes, killed_process
from tests.waiting import eventually

OpenQueue = Callable[..., AbstractAsyncContextManager[Queue]]

LONG = 3600.0


class QueueContract:
    model_runs = 40

    @pytest.fixture
    def open_queue(self) -> OpenQueue:
        """A picklable function of a queue's name, and of `ageing_s` where it is not the usual one,
        that opens the queue, in any process.

        Queues of one test share their store; a name that was not opened before is empty.
        """
        raise NotImplementedError

    @pytest.fixture
    async def queue(self, open_queue: OpenQueue) -> AsyncIterator[Queue]:
        async with open_queue("jobs") as queue:
            yield queue

    async def test_an_empty_queue_gives_nothing(self, queue: Queue) -> None:
        assert await queue.claim("c", LONG) == []
        assert await queue.depth() == 0
        assert not await queue.cancel("job_1")

    async def test_delivers_by_priority_then_first_in_first_out(self, queue: Queue) -> None:
        for message, priority in [("a", 0), ("b", 5), ("c", 0), ("d", -3), ("e", 5), ("f", 0)]:
            assert await queue.enqueue(message, priority=priority)
        first = await queue.claim("c", LONG, limit=3)
        rest = [claim for _ in range(3) for claim in await queue.claim("c", LONG)]
        assert [claim.message_id for claim in first + rest] == ["b", "e", "a", "c", "f", "d"]
        assert {claim.delivery for claim in first + rest} == {1}

    async def test_a_message_that_has_waited_long_comes_before_those_of_higher_priority(
        self, open_queue: OpenQueue
    ) -> None:
        """However many keep coming: each point of priority is made up for by `ageing_s`."""
        async with open_queue("crowded", ageing_s=0.02) as queue:
            begin = time.monotonic()
            await queue.enqueue("low", priority=-5)
            with anyio.fail_after(30):
                for number in count():
                    await queue.enqueue(f"high_{number}", priority=5)
                    await queue.enqueue(f"more_{number}", priority=5)
                    [claim] = await queue.claim("c", LONG)
                    if claim.message_id == "low":
                        break
            assert time.monotonic() - begin > 10 * 0.02

    def test_waiting_counts_as_priority_at_the_stated_rate(self, open_queue: OpenQueue) -> None:
        check_ageing(open_queue)

    async def test_a_delayed_message_ages_from_when_it_is_due(self, open_queue: OpenQueue) -> None:
        async with open_queue("delayed", ageing_s=0.02) as queue:
            await queue.enqueue("later", delay_s=0.4)
            await queue.enqueue("low", priority=-5)
            await eventually(lambda: _is_due(queue, "later"))
            assert [claim.message_id for claim in await queue.claim("c", LONG, 2)] == [
                "low",
                "later",
            ]

    async def test_kinds_are_passed_over_and_keep_their_place(self, queue: Queue) -> None:
        for number in range(300):
            await queue.enqueue(f"a_{number}", priority=1, kind="a")
        await queue.enqueue("b", kind="b")
        await queue.enqueue("none")
        claims = await queue.claim("c", LONG, 5, passing_over=["a", "another"])
        assert [claim.message_id for claim in claims] == ["b", "none"]
        assert await queue.claim("c", LONG, 5, passing_over={"a"}) == []
        assert await queue.depth() == 300
        for claim in claims:
            assert await queue.retry(claim)
        claims = await queue.claim("c", LONG, 301, passing_over=["b"])
        assert [claim.message_id for claim in claims] == [*(f"a_{n}" for n in range(300)), "none"]

    async def test_knows_how_many_come_before_a_message(self, queue: Queue) -> None:
        assert await queue.position("a") is None
        for message, priority in [("a", 0), ("b", 5), ("c", 0), ("d", -3), ("e", 5)]:
            await queue.enqueue(message, priority=priority)
        await queue.enqueue("later", delay_s=LONG)
        places = [await queue.position(message) for message in "beacd"]
        assert places == [0, 1, 2, 3, 4]
        assert await queue.position("later") is None
        await queue.claim("c", LONG)
        assert [await queue.position(message) for message in "beacd"] == [None, 0, 1, 2, 3]

    async def test_claims_no_more_than_the_limit(self, queue: Queue) -> None:
        for number in range(5):
            await queue.enqueue(f"job_{number}")
        assert await queue.claim("c", LONG, limit=0) == []
        assert len(await queue.claim("c", LONG, limit=3)) == 3
        assert len(await queue.claim("c", LONG, limit=3)) == 2
        assert await queue.claim("c", LONG, limit=3) == []

    async def test_a_message_is_there_once(self, queue: Queue) -> None:
        assert await queue.enqueue("job_1")
        assert not await queue.enqueue("job_1", priority=9)
        assert await queue.depth() == 1
        [claim] = await queue.claim("c", LONG, limit=2)
        assert not await queue.enqueue("job_1")
        assert await queue.ack(claim)
        assert await queue.enqueue("job_1")

    async def test_an_acknowledged_message_is_gone(self, queue: Queue) -> None:
        await queue.enqueue("job_1")
        [claim] = await queue.claim("c", LONG)
        assert await queue.ack(claim)
        assert not await queue.ack(claim)
        assert not await queue.cancel("job_1")
        assert await queue.claim("c", LONG) == []

    async def test_says_what_it_is_and_how_many_wait(self, queue: Queue) -> None:
        await queue.enqueue("job_1")
        assert ", 1 waiting" in await queue.check()

    async def test_depth_counts_what_waits(self, queue: Queue) -> None:
        for number in range(4):
            await queue.enqueue(f"job_{number}")
        await queue.enqueue("job_delayed", delay_s=LONG)
        assert await queue.depth() == 5
        claims = await queue.claim("c", LONG, limit=3)
        assert await queue.depth() == 2
        await queue.retry(claims[0], delay_s=LONG)
        await queue.ack(claims[1])
        assert await queue.depth() == 3

    async def test_a_delayed_message_waits_for_its_time(self, queue: Queue) -> None:
        await queue.enqueue("never", delay_s=LONG, priority=9)
        await queue.enqueue("now")
        assert [claim.message_id for claim in await queue.claim("c", LONG, 3)] == ["now"]
        begin = time.monotonic()
        await queue.enqueue("later", delay_s=0.2)
        assert (await _claimed(queue)).message_id == "later"
        assert time.monotonic() - begin > 0.19

    async def test_a_lease_that_ends_gives_the_message_to_another(self, queue: Queue) -> None:
        await queue.enqueue("job_1")
        [lost] = await queue.claim("first", 0.02)
        taken = await _claimed(queue)
        assert (taken.message_id, taken.delivery) == ("job_1", 2)
        assert taken.token != lost.token
        assert not await queue.heartbeat(lost, LONG)
        assert not await queue.retry(lost)
        assert not await queue.ack(lost)
        assert await queue.depth() == 0
        assert await queue.ack(taken)

    async def test_a_claim_is_not_held_when_its_lease_is_over(self, queue: Queue) -> None:
        await queue.enqueue("job_1")
        [claim] = await queue.claim("c", 0)
        assert not await queue.heartbeat(claim, LONG)
        assert not await queue.retry(claim)
        assert not await queue.ack(claim)
        assert await queue.depth() == 1

    async def test_a_heartbeat_keeps_the_claim(self, queue: Queue) -> None:
        await queue.enqueue("job_1")
        [claim] = await queue.claim("c", 5)
        assert await queue.heartbeat(claim, LONG)
        assert await queue.heartbeat(claim, 0.02)
        assert (await _claimed(queue)).delivery == 2

    async def test_a_kept_claim_outlives_its_first_lease(self, queue: Queue) -> None:
        await queue.enqueue("kept")
        [kept] = await queue.claim("c", 2)
        assert await queue.heartbeat(kept, LONG)
        await queue.enqueue("lost")
        [_] = await queue.claim("c", 2)
        assert (await _claimed(queue)).message_id == "lost"
        assert await queue.ack(kept)

    async def test_retry_gives_the_message_back(self, queue: Queue) -> None:
        await queue.enqueue("job_1")
        [claim] = await queue.claim("c", LONG)
        assert await queue.retry(claim)
        assert not await queue.ack(claim)
        [again] = await queue.claim("d", LONG)
        assert (again.message_id, again.delivery) == ("job_1", 2)
        begin = time.monotonic()
        assert await queue.retry(again, delay_s=0.2)
        assert (await _claimed(queue)).delivery == 3
        assert time.monotonic() - begin > 0.19

    @pytest.mark.parametrize("claimed", [True, False])
    async def test_cancel_removes_a_message(self, queue: Queue, claimed: bool) -> None:
        await queue.enqueue("job_1")
        await queue.enqueue("job_2", delay_s=LONG)
        claims = await queue.claim("c", LONG) if claimed else []
        assert await queue.cancel("job_1")
        assert await queue.cancel("job_2")
        assert not await queue.cancel("job_1")
        for claim in claims:
            assert not await queue.heartbeat(claim, LONG)
            assert not await queue.retry(claim)
            assert not await queue.ack(claim)
        assert await queue.depth() == 0

    async def test_a_claim_of_another_life_of_the_message_is_stale(self, queue: Queue) -> None:
        await queue.enqueue("job_1")
        [stale] = await queue.claim("c", LONG)
        await queue.cancel("job_1")
        await queue.enqueue("job_1")
        [claim] = await queue.claim("c", LONG)
        assert claim.delivery == 1
        assert not await queue.ack(stale)
        assert await queue.ack(claim)

    async def test_queues_do_not_mix(self, queue: Queue, open_queue: OpenQueue) -> None:
        async with open_queue("others") as others:
            await queue.enqueue("job_1")
            assert await others.enqueue("job_1")
            [claim] = await others.claim("c", LONG, limit=5)
            assert not await queue.ack(claim)
            assert await others.cancel("job_1")
            assert (await others.depth(), await queue.depth()) == (0, 1)

    @pytest.mark.parametrize("message", ["job_ü🚀", "a'b\"c;--", "x" * 64, "%_?:*"])
    async def test_takes_any_id(self, queue: Queue, message: str) -> None:
        assert await queue.enqueue(message)
        assert not await queue.enqueue(message)
        [claim] = await queue.claim("cönsumer", LONG)
        assert claim.message_id == message
        assert await queue.ack(claim)

    @pytest.mark.parametrize(
        "payload", [None, {}, {"ü": [1, 2.5, None, {"": True}], "x": "🚀" * 999}]
    )
    async def test_a_message_carries_its_payload(
        self, queue: Queue, payload: dict[str, Any] | None
    ) -> None:
        await queue.enqueue("job_1", payload=payload)
        await queue.enqueue("job_1", payload={"another": "payload"})
        [claim] = await queue.claim("c", LONG)
        assert claim.payload == payload
        await queue.retry(claim)
        [again] = await queue.claim("c", LONG)
        assert again.payload == payload

    async def test_many_tasks_share_a_queue(self, queue: Queue) -> None:
        taken: list[str] = []

        async def put(number: int) -> None:
            await queue.enqueue(f"job_{number}")

        async def work() -> None:
            while len(taken) < 40:
                for claim in await queue.claim("c", LONG, limit=2):
                    taken.append(claim.message_id)
                    assert await queue.ack(claim)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(40):
                    tasks.start_soon(put, number)
                for _ in range(4):
                    tasks.start_soon(work)
        assert sorted(taken) == sorted(f"job_{number}" for number in range(40))

    async def test_two_processes_share_a_queue(
        self, queue: Queue, open_queue: OpenQueue, processes: Processes
    ) -> None:
        messages = [f"job_{number}" for number in range(500)]
        for message in messages:
            await queue.enqueue(message, priority=len(message))
        one, other = await processes.run(
            partial(_drain, open_queue, "one", 1), partial(_drain, open_queue, "other", 7)
        )
        assert sorted(one + other) == sorted(messages)
        assert await queue.depth() == 0

    async def test_two_processes_fill_a_queue(
        self, queue: Queue, open_queue: OpenQueue, processes: Processes
    ) -> None:
        work = partial(_fill, open_queue, 100)
        one, other = await processes.run(work, work)
        # Both add the same messages; each was added once.
        assert one + other == 100
        claims = await queue.claim("c", LONG, limit=200)
        assert Counter(claim.message_id for claim in claims) == Counter(
            f"job_{number}" for number in range(100)
        )

    async def test_a_killed_consumer_loses_nothing(
        self, queue: Queue, open_queue: OpenQueue, tmp_path: Path
    ) -> None:
        for number in range(20):
            await queue.enqueue(f"job_{number}")
        sign = tmp_path / "claimed"
        with killed_process(_claim_and_hang, open_queue, sign.touch):
            await eventually(sign.exists)
        taken = [await _claimed(queue) for _ in range(20)]
        assert {claim.message_id for claim in taken} == {f"job_{number}" for number in range(20)}
        assert Counter(claim.delivery for claim in taken) == {1: 15, 2: 5}

    async def test_a_cancelled_claim_loses_nothing(self, queue: Queue) -> None:
        for number in range(10):
            await queue.enqueue(f"job_{number}")
        for turns in range(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(queue.claim, "cancelled", 0.05)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        taken = {(await _claimed(queue)).message_id for _ in range(10)}
        assert taken == {f"job_{number}" for number in range(10)}

    def test_agrees_with_the_model(self, open_queue: OpenQueue) -> None:
        check_against_model(open_queue, self.model_runs)


async def _is_due(queue: Queue, message_id: str) -> bool:
    """Whether it waits to be claimed; a claim of nothing moves what is due to its place."""
    await queue.claim("c", LONG, passing_over=[""])
    return await queue.position(message_id) is not None


async def _claimed(queue: Queue) -> Claim:
    """The next message, as soon as one is due."""
    with anyio.fail_after(30):
        while True:
            if claims := await queue.claim("waiting", LONG):
                return claims[0]
            await anyio.sleep(0.005)


async def _drain(open_queue: OpenQueue, consumer: str, limit: int) -> list[str]:
    taken = []
    async with open_queue("jobs") as queue:
        while claims := await queue.claim(consumer, LONG, limit):
            for claim in claims:
                taken.append(claim.message_id)
                assert await queue.heartbeat(claim, LONG)
                assert await queue.ack(claim)
    return taken


async def _fill(open_queue: OpenQueue, count: int) -> int:
    async with open_queue("jobs") as queue:
        return sum([await queue.enqueue(f"job_{number}") for number in range(count)])


async def _claim_and_hang(open_queue: OpenQueue, claimed: Callable[[], None]) -> None:
    async with open_queue("jobs") as queue:
        await queue.claim("killed", 0.5, limit=5)
        claimed()
        await anyio.sleep_forever()
