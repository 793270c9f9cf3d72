import anyio
import pytest

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.outbox import Outbox
from tests.waiting import eventually


class Sink:
    """Takes what is written while it is open."""

    def __init__(self) -> None:
        self.written = b""
        self.open = anyio.Event()
        self.is_broken = False

    async def write(self, data: bytes) -> None:
        await self.open.wait()
        if self.is_broken:
            raise Unavailable("broken")
        self.written += data


async def test_who_sends_waits_while_nothing_is_read() -> None:
    sink = Sink()
    outbox = Outbox(sink.write, high_water=10)
    sent: list[int] = []

    async def send(number: int) -> None:
        await outbox.send(b"%04d\n" % number)
        sent.append(number)

    async with in_background(outbox.run), anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(send, number)
        await anyio.wait_all_tasks_blocked()
        assert len(sent) == 2
        outbox.put(b"urgent\n")
        sink.open.set()
        await eventually(lambda: len(sent) == 100)
    lines = sink.written.splitlines()
    assert sorted(lines) == sorted([b"%04d" % n for n in range(100)] + [b"urgent"])


async def test_a_line_is_written_whole_though_its_sender_is_cancelled() -> None:
    sink = Sink()
    outbox = Outbox(sink.write)
    async with in_background(outbox.run):
        with anyio.CancelScope() as scope:
            await outbox.send(b"one\n")
            scope.cancel()
        sink.open.set()
        await outbox.send(b"two\n")
        await eventually(lambda: sink.written == b"one\ntwo\n")


async def test_nothing_more_is_taken_once_writing_fails() -> None:
    sink = Sink()
    sink.is_broken = True
    outbox = Outbox(sink.write, high_water=1)
    async with in_background(outbox.run):
        await outbox.send(b"lost\n")

        async def wait() -> None:
            with pytest.raises(Unavailable, match="broken"):
                await outbox.send(b"waits\n")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            sink.open.set()
        with pytest.raises(Unavailable, match="broken"):
            await outbox.send(b"late\n")
        outbox.put(b"dropped\n")
    assert sink.written == b""
