"""What every bus promises. An implementation's test class gives `open_bus`."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream

from mcp_hub.adapters.bus.port import Bus
from tests.spawning import Processes
from tests.waiting import eventually

OpenBus = Callable[[], AbstractAsyncContextManager[Bus]]

MANY = 1200
"""More notices than any bus keeps for a subscriber that does not read."""


class BusContract:
    @pytest.fixture
    def open_bus(self) -> OpenBus:
        """A picklable function that opens the same bus, in any process."""
        raise NotImplementedError

    @pytest.fixture
    async def bus(self, open_bus: OpenBus) -> AsyncIterator[Bus]:
        async with open_bus() as bus:
            yield bus

    @pytest.fixture
    async def other(self, open_bus: OpenBus) -> AsyncIterator[Bus]:
        """The bus as another hub process has it."""
        async with open_bus() as bus:
            yield bus

    async def test_tells_subscribers_in_the_same_process_at_once(self, bus: Bus) -> None:
        async with bus.subscribe() as notices:
            await bus.publish("models://iris")
            assert notices.receive_nowait() == "models://iris"

    async def test_says_what_it_is(self, bus: Bus) -> None:
        assert await bus.check()

    async def test_tells_subscribers_of_other_hubs(self, bus: Bus, other: Bus) -> None:
        async with bus.subscribe() as notices:
            await other.publish("models://iris")
            await other.publish("datasets://ü🚀")
            assert await _receive(notices, 2) == ["models://iris", "datasets://ü🚀"]

    async def test_tells_subscribers_in_other_processes(
        self, bus: Bus, open_bus: OpenBus, processes: Processes, tmp_path: Path
    ) -> None:
        ready = [tmp_path / "one", tmp_path / "other"]
        listeners = [partial(_listen, open_bus, sign.touch) for sign in ready]
        heard: list[list[str]] = []

        async def listen() -> None:
            heard.extend(await processes.run(listeners[0], listeners[1]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await eventually(lambda: all(sign.exists() for sign in ready))
            for topic in ("a", "b", "c", "end"):
                await bus.publish(topic)
        assert heard == [["a", "b", "c", "end"]] * 2

    async def test_tells_each_subscriber_once(self, bus: Bus, other: Bus) -> None:
        async with bus.subscribe() as one, bus.subscribe() as two:
            for number in range(20):
                await bus.publish(f"mine {number}")
                await other.publish(f"theirs {number}")
            await other.publish("end")
            for notices in (one, two):
                topics = await _receive_until(notices, "end")
                mine = [topic for topic in topics if topic.startswith("mine")]
                theirs = [topic for topic in topics if topic.startswith("theirs")]
                assert mine == [f"mine {number}" for number in range(20)]
                assert theirs == [f"theirs {number}" for number in range(20)]
                assert len(topics) == 41

    async def test_one_topic_may_be_told_again_and_again(self, bus: Bus, other: Bus) -> None:
        async with bus.subscribe() as notices:
            await other.publish("same")
            assert await _receive(notices, 1) == ["same"]
            await other.publish("same")
            assert await _receive(notices, 1) == ["same"]

    async def test_tells_only_what_happens_from_now_on(self, bus: Bus, other: Bus) -> None:
        await bus.publish("before")
        await other.publish("before")
        async with bus.subscribe() as notices:
            await other.publish("after")
            assert await _receive(notices, 1) == ["after"]

    async def test_a_subscriber_may_leave_and_come_back(self, bus: Bus, other: Bus) -> None:
        for turn in range(3):
            async with bus.subscribe() as notices:
                await other.publish(f"turn {turn}")
                assert await _receive(notices, 1) == [f"turn {turn}"]
            await other.publish("between")

    async def test_those_who_stay_are_told_when_others_leave(self, bus: Bus, other: Bus) -> None:
        async with bus.subscribe() as stays:
            async with bus.subscribe():
                pass
            with anyio.CancelScope() as scope:
                async with bus.subscribe():
                    scope.cancel()
                    await anyio.sleep_forever()
            await other.publish("still there")
            assert await _receive(stays, 1) == ["still there"]

    async def test_an_error_of_a_subscriber_is_its_own(self, bus: Bus, other: Bus) -> None:
        with pytest.raises(KeyError, match="mine"):
            async with bus.subscribe():
                raise KeyError("mine")
        async with bus.subscribe() as notices:
            await other.publish("next")
            assert await _receive(notices, 1) == ["next"]

    async def test_many_subscribe_at_once(self, bus: Bus, other: Bus) -> None:
        ready = 0
        heard: list[str] = []

        async def listen() -> None:
            nonlocal ready
            async with bus.subscribe() as notices:
                ready += 1
                heard.extend(await _receive(notices, 1))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(listen)
            await eventually(lambda: ready == 10)
            await other.publish("hello")
        assert heard == ["hello"] * 10

    async def test_a_subscriber_that_lags_loses_the_oldest(self, bus: Bus) -> None:
        async with bus.subscribe() as lags, bus.subscribe() as reads:
            with anyio.fail_after(60):
                for number in range(MANY):
                    await bus.publish(str(number))
                    assert reads.receive_nowait() == str(number)
            kept = []
            while lags.statistics().current_buffer_used:
                kept.append(int(lags.receive_nowait()))
            assert 0 < len(kept) < MANY
            assert kept == list(range(MANY - len(kept), MANY))

    async def test_publishing_needs_no_subscriber(self, bus: Bus) -> None:
        await bus.publish("nobody hears")

    async def test_closing_ends_the_subscriptions(self, bus: Bus) -> None:
        async with bus.subscribe() as notices:
            await bus.publish("last")
            await bus.close()
            assert [topic async for topic in notices] == ["last"]
        async with bus.subscribe() as notices:
            assert [topic async for topic in notices] == []
        await bus.close()


async def _receive(notices: MemoryObjectReceiveStream[str], count: int) -> list[str]:
    with anyio.fail_after(30):
        return [await notices.receive() for _ in range(count)]


async def _receive_until(notices: MemoryObjectReceiveStream[str], last: str) -> list[str]:
    topics: list[str] = []
    with anyio.fail_after(30):
        while not topics or topics[-1] != last:
            topics.append(await notices.receive())
    return topics


async def _listen(open_bus: OpenBus, ready: Callable[[], None]) -> list[str]:
    async with open_bus() as bus, bus.subscribe() as notices:
        ready()
        return await _receive_until(notices, "end")
