"""Processes that are no good MCP servers: each ends with its reason, and in time."""

import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from mcp_hub.adapters.errors import TimedOut, Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.negotiating import open_session
from tests.services.containers.wire.processes import Pipes, started
from tests.waiting import eventually

CLIENT = {"name": "mcp-hub", "version": "test"}

FLOODING = """
import json, sys, threading
def flood(text):
    while True:
        sys.stdout.write(text)
threading.Thread(target=flood, args=(sys.argv[1] * 100,), daemon=True).start()
for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        answer = {"jsonrpc": "2.0", "id": request["id"], "result": {"n": request["params"]["n"]}}
        sys.stdout.write(json.dumps(answer) + "\\n")
        sys.stdout.flush()
"""
CHATTER = '{"method": "notifications/message", "params": {"level": "debug", "data": "x"}}\n'


@asynccontextmanager
async def channel_to(*command: str) -> AsyncIterator[tuple[Channel, Pipes]]:
    async with started(command) as pipes:
        channel = Channel(pipes)
        async with in_background(channel.run):
            yield channel, pipes


async def greet(channel: Channel, timeout_s: float = 5) -> None:
    await open_session(channel, client=CLIENT, timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'usage: server FILE'; exit 2", "usage: server FILE"),
        ("""printf '{"jsonrpc": "2.0", "id'""", '{"jsonrpc": "2.0", "id'),
        ("exit 0", "The server ended."),
        ("head -c 3000000 /dev/zero", "no message"),
        # Its standard output is its standard input.
        ("cat", "is nothing that a client does"),
    ],
)
async def test_one_that_does_not_speak_the_protocol(script: str, reason: str) -> None:
    async with channel_to("sh", "-c", script) as (channel, _):
        with pytest.raises(Unavailable) as error:
            await greet(channel)
        assert reason in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize("script", ["exec sleep 60", "while read line; do :; done"])
async def test_one_that_keeps_silent(script: str) -> None:
    async with channel_to("sh", "-c", script) as (channel, _):
        begin = time.monotonic()
        with pytest.raises(TimedOut, match=r"not greet the hub within 0\.3 s"):
            await greet(channel, 0.3)
        assert time.monotonic() - begin < 3


async def test_one_that_does_not_read_holds_nobody_beyond_his_time() -> None:
    async with channel_to("sleep", "60") as (channel, _):

        async def request() -> None:
            with pytest.raises(TimedOut):
                await channel.request("tools/call", {"text": "x" * 100_000}, timeout_s=0.3)

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(request)
        assert channel.in_flight == 0


@pytest.mark.parametrize("text", ["y\n", "z", CHATTER])
async def test_one_that_floods_still_answers_and_leaves_the_loop_alone(text: str) -> None:
    async with channel_to(sys.executable, "-ISc", FLOODING, text) as (channel, _):
        latest = 0.0

        async def watch() -> None:
            nonlocal latest
            while True:
                begin = time.monotonic()
                await anyio.sleep(0.01)
                latest = max(latest, time.monotonic() - begin)

        async with in_background(watch):
            begin = time.process_time()
            for number in range(3 if text != "z" else 0):
                result = await channel.request("tools/call", {"n": number}, timeout_s=20)
                assert result == {"n": number}
            await anyio.sleep(0.5)
            assert time.process_time() - begin < 5
        assert latest < 1
        assert len(channel.noise) <= 50


async def test_one_that_is_killed_in_the_middle_of_a_line() -> None:
    script = """printf '{"jsonrpc": "2.0", '; exec sleep 60"""
    async with channel_to("sh", "-c", script) as (channel, pipes):

        async def request() -> None:
            with pytest.raises(Unavailable) as error:
                await channel.request("tools/call", {}, timeout_s=30)
            assert '{"jsonrpc": "2.0"' in (error.value.hint or "")

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(request)
            await eventually(lambda: channel.in_flight == 5)
            pipes.process.send_signal(signal.SIGKILL)
        assert channel.ended == "The server ended."
