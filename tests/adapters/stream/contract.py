"""What every stream promises. An implementation's test class gives `open_stream`."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import anyio
import pytest

from mcp_hub.adapters.errors import NotFound
from mcp_hub.adapters.stream.port import Entry, Lag, Stream
from tests.spawning import Processes

OpenStream = Callable[[], AbstractAsyncContextManager[Stream]]

BODIES = [b"", b"\0\xff\n", "ü🚀".encode(), b"x" * 1_000_000]


class StreamContract:
    @pytest.fixture
    def open_stream(self) -> OpenStream:
        """A picklable function that opens the same stream, in any process."""
        raise NotImplementedError

    @pytest.fixture
    async def stream(self, open_stream: OpenStream) -> AsyncIterator[Stream]:
        async with open_stream() as stream:
            yield stream

    async def test_a_group_gets_every_entry_once_in_order(self, stream: Stream) -> None:
        await stream.create_group("g")
        ids = await stream.append(BODIES)
        assert await stream.append([]) == []
        ids += await stream.append([b"last"])
        first = await stream.read("g", "one", limit=2)
        rest = await stream.read("g", "two", limit=10)
        assert [entry.id for entry in first + rest] == ids
        assert [entry.body for entry in first + rest] == [*BODIES, b"last"]
        assert {entry.delivery for entry in first + rest} == {1}
        assert await stream.read("g", "one") == []

    async def test_groups_are_apart_and_begin_at_the_oldest(self, stream: Stream) -> None:
        await stream.append([b"early"])
        await stream.create_group("a")
        await stream.create_group("b")
        await stream.append([b"late"])
        for group in ("a", "b"):
            assert [e.body for e in await stream.read(group, "c")] == [b"early", b"late"]
        await stream.create_group("a")
        assert await stream.read("a", "c") == []

    async def test_an_unknown_group_is_named_with_those_there_are(self, stream: Stream) -> None:
        await stream.create_group("rollups")
        for ask in (
            partial(stream.read, "rolups", "c"),
            partial(stream.lag, "rolups"),
            partial(stream.claim_stale, "rolups", "c", idle_s=0),
        ):
            with pytest.raises(NotFound) as raised:
                await ask()
            assert "Did you mean 'rollups'?" in (raised.value.hint or "")

    async def test_reading_waits_for_an_entry(self, stream: Stream) -> None:
        await stream.create_group("g")
        got: list[Entry] = []

        async def read() -> None:
            got.extend(await stream.read("g", "c", wait_s=30))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await stream.append([b"news"])
        assert [entry.body for entry in got] == [b"news"]
        with anyio.fail_after(10):
            assert await stream.read("g", "c", wait_s=0.05) == []

    async def test_what_is_acknowledged_is_done(self, stream: Stream) -> None:
        await stream.create_group("g")
        ids = await stream.append([b"1", b"2", b"3"])
        await stream.read("g", "c", limit=2)
        assert await stream.lag("g") == Lag(undelivered=1, pending=2)
        assert await stream.ack("g", ids[:1]) == 1
        assert await stream.ack("g", ids[:1]) == 0
        assert await stream.ack("g", []) == 0
        assert await stream.lag("g") == Lag(undelivered=1, pending=1)

    async def test_what_a_consumer_did_not_finish_another_takes_over(self, stream: Stream) -> None:
        await stream.create_group("g")
        ids = await stream.append([b"1", b"2", b"3"])
        await stream.read("g", "dies")
        await stream.ack("g", ids[1:2])
        assert await stream.claim_stale("g", "lives", idle_s=60) == []
        taken = await stream.claim_stale("g", "lives", idle_s=0)
        assert [(e.id, e.body, e.delivery) for e in taken] == [(ids[0], b"1", 2), (ids[2], b"3", 2)]
        assert await stream.claim_stale("g", "third", idle_s=60) == []
        assert len(await stream.claim_stale("g", "third", idle_s=0, limit=1)) == 1
        assert await stream.ack("g", ids) == 2
        assert await stream.claim_stale("g", "lives", idle_s=0) == []

    async def test_trimming_keeps_the_newest_and_all_that_is_not_done(self, stream: Stream) -> None:
        ids = await stream.append([str(number).encode() for number in range(10)])
        assert await stream.trim(8) == 2
        await stream.create_group("g")
        assert [e.id for e in await stream.read("g", "c", limit=4)] == ids[2:6]
        assert await stream.trim(0) == 0
        await stream.ack("g", ids[2:4])
        assert await stream.trim(0) == 2
        await stream.ack("g", ids[4:6])
        await stream.read("g", "c")
        await stream.ack("g", ids)
        assert await stream.trim(1) == 5
        assert await stream.trim(0) == 1
        assert await stream.lag("g") == Lag(undelivered=0, pending=0)
        await stream.append([b"after"])
        assert [e.body for e in await stream.read("g", "c")] == [b"after"]

    async def test_two_processes_append_and_consume_each_entry_once(
        self, stream: Stream, open_stream: OpenStream, processes: Processes
    ) -> None:
        await stream.create_group("g")
        one, other = await processes.run(
            partial(_work, open_stream, "one"), partial(_work, open_stream, "other")
        )
        rest = await stream.read("g", "last", limit=1000)
        bodies = sorted([*one, *other, *(entry.body for entry in rest)])
        assert bodies == sorted(
            f"{name} {number}".encode() for name in ("one", "other") for number in range(100)
        )


async def _work(open_stream: OpenStream, name: str) -> list[bytes]:
    """Append 100 entries and read as many as there are meanwhile; the bodies read."""
    bodies = []
    async with open_stream() as stream:
        for start in range(0, 100, 10):
            await stream.append(
                [f"{name} {number}".encode() for number in range(start, start + 10)]
            )
            entries = await stream.read("g", name, limit=15)
            await stream.ack("g", [entry.id for entry in entries])
            bodies += [entry.body for entry in entries]
    return bodies
