"""Any interleaving of requests, answers, questions and nonsense leaves each with its own answer."""

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.messages import RpcError
from tests.services.containers.wire.scripted import Scripted

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["request", "answer", "fail", "cancel", "progress", "noise", "question", "stray"]
        ),
        st.integers(0, 7),
    ),
    max_size=60,
)
cuts = st.lists(st.integers(1, 40), min_size=1, max_size=5)


class Caller:
    """Of request `number`; every question must be its own, or could be."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.progressed: list[Any] = []

    async def progress(self, params: dict[str, Any]) -> None:
        self.progressed.append(params["progress"])

    async def log(self, params: dict[str, Any]) -> None:
        raise AssertionError(params)

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        return {"asked": self.number}


class World:
    """The channel as it should be, beside the one that is."""

    def __init__(self, cuts: list[int]) -> None:
        self.server = Scripted()
        self.channel = Channel(self.server)
        self.cuts = cuts
        self.open: dict[int, str] = {}
        self.ended: dict[int, str] = {}
        self.scopes: dict[int, anyio.CancelScope] = {}
        self.callers: dict[int, Caller] = {}
        self.expected: dict[int, Any] = {}
        self.outcomes: dict[int, Any] = {}
        self.told: dict[int, list[int]] = {}
        self.questions = 0
        self.strays = self.noise = 0

    def is_as_expected(self) -> bool:
        return (
            self.channel.in_flight == len(self.open)
            and self.outcomes == self.expected
            and (self.channel.strays, self.channel.noise_count) == (self.strays, self.noise)
            and {n: caller.progressed for n, caller in self.callers.items()} == self.told
        )

    async def request(self, number: int) -> None:
        caller = self.callers[number] = Caller(number)
        with anyio.CancelScope() as scope:
            self.scopes[number] = scope
            try:
                self.outcomes[number] = await self.channel.request(
                    "tools/call", {"number": number}, caller=caller, timeout_s=60
                )
            except (RpcError, Unavailable) as error:
                self.outcomes[number] = str(error)
        if scope.cancelled_caught:
            self.outcomes[number] = "cancelled"

    async def write(self, *messages: dict[str, Any] | bytes) -> None:
        raw = b"".join(
            one if isinstance(one, bytes) else msgspec.json.encode(one) + b"\r\n"
            for one in messages
        )
        place = 0
        while raw:
            size = self.cuts[place % len(self.cuts)]
            await self.server.write(raw[:size])
            raw = raw[size:]
            place += 1

    async def step(self, kind: str, which: int, tasks: anyio.abc.TaskGroup) -> None:
        number = sorted(self.open)[which % len(self.open)] if self.open else None
        if kind == "request":
            new = len(self.callers)
            tasks.start_soon(self.request, new)
            asked = await self.server.next()
            assert asked["params"]["number"] == new
            self.open[new] = asked["id"]
            self.told[new] = []
        elif kind == "noise":
            self.noise += 1
            await self.write([b"noise\n", b'{"broken"\n', b'{"id": 1}\n', b"[]x\n"][which % 4])
        elif kind == "stray":
            self.strays += 1
            late = sorted(self.ended.values())
            await self.write({"id": late[which % len(late)] if late else which, "result": {}})
        elif kind == "question":
            await self.ask()
        elif number is not None:
            await self.act(kind, number)

    async def ask(self) -> None:
        self.questions += 1
        await self.write({"id": self.questions, "method": "roots/list"})
        answer = await self.server.next()
        assert answer["id"] == self.questions
        if len(self.open) == 1:
            assert answer["result"] == {"asked": next(iter(self.open))}
        else:
            assert answer["error"]["code"] == -32600

    async def act(self, kind: str, number: int) -> None:
        id = self.open[number]
        if kind == "progress":
            self.told[number].append(len(self.told[number]))
            params = {"progressToken": id, "progress": self.told[number][-1]}
            await self.write({"method": "notifications/progress", "params": params})
            return
        del self.open[number]
        self.ended[number] = id
        if kind == "answer":
            self.expected[number] = {"for": number}
            await self.write({"id": id, "result": {"for": number}})
        elif kind == "fail":
            self.expected[number] = f"failed {number}"
            await self.write({"id": id, "error": {"code": 1, "message": f"failed {number}"}})
        else:
            self.expected[number] = "cancelled"
            self.scopes[number].cancel()
            told = await self.server.next()
            assert told["params"]["requestId"] == id


@settings(max_examples=200, deadline=None)
@given(steps, cuts)
def test_each_request_ends_with_what_it_was_answered(
    script: list[tuple[str, int]], cuts: list[int]
) -> None:
    anyio.run(run, script, cuts)


async def run(script: list[tuple[str, int]], cuts: list[int]) -> None:
    world = World(cuts)
    async with anyio.create_task_group() as tasks:
        async with in_background(world.channel.run):
            for kind, which in script:
                await world.step(kind, which, tasks)
                await soon(world.is_as_expected)
            world.server.end()
            await soon(lambda: world.channel.ended is not None)
        for number in world.open:
            world.expected[number] = "The server ended."
    world.server.close()
    world.open.clear()
    assert world.is_as_expected()


async def soon(condition: Callable[[], bool]) -> None:
    """Let the loop turn, without the pauses of a wait that goes by the clock."""
    with anyio.fail_after(5):
        while not condition():
            await anyio.lowlevel.checkpoint()
