"""The wire against the SDK's own server, in both eras of the protocol."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_hub.adapters.errors import TimedOut, Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.input_required import is_input_required, resolving
from mcp_hub.services.containers.wire.messages import RpcError
from mcp_hub.services.containers.wire.negotiating import Protocol, open_session
from mcp_hub.services.containers.wire.sessions import ServerInfo, Session
from mcp_hub.services.telemetry.own.tracing import child_of, within
from tests.services.containers.wire.processes import SDK_SERVER, RecordingCaller, started
from tests.waiting import eventually

CLIENT = {"name": "mcp-hub", "version": "test"}
ERAS: list[Protocol] = ["2025-11-25", "2026-07-28"]

Notices = list[tuple[str, dict[str, Any]]]


@asynccontextmanager
async def session_with(
    protocol: Protocol, notices: Notices | None = None
) -> AsyncIterator[Session]:
    told: Notices = [] if notices is None else notices
    async with started(SDK_SERVER) as pipes:
        channel = Channel(pipes, notified=lambda *notice: told.append(notice))
        async with in_background(channel.run):
            server = await open_session(channel, protocol, client=CLIENT, timeout_s=20)
            yield Session(channel, server, CLIENT)


async def call(
    session: Session, tool: str, *, caller: RecordingCaller | None = None, **arguments: object
) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return await session.request("tools/call", params, caller=caller, timeout_s=10)


def text_of(result: dict[str, Any]) -> str:
    text: str = result["content"][0]["text"]
    return text


async def test_auto_takes_the_newest_era() -> None:
    async with session_with("auto") as session:
        assert session.server.protocol == "2026-07-28"
        assert (session.server.name, session.server.version) == ("fixture", "1.2.3")
        assert session.server.instructions == "Speak to it."
        assert ServerInfo.from_dict(session.server.as_dict()) == session.server


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_session(protocol: Protocol, tmp_path: Path) -> None:
    notices: Notices = []
    async with session_with(protocol, notices) as session, in_background(session.listen):
        assert session.server.protocol == protocol
        await session.ping(5)

        assert text_of(await call(session, "echo", text="é\n")) == "é\n"

        caller = RecordingCaller()
        params = {"name": "steps", "arguments": {"count": 3}, "_meta": {"progressToken": 7}}
        await session.request("tools/call", params, caller=caller, timeout_s=10)
        assert [notice["progress"] for notice in caller.progressed] == [1, 2, 3]
        assert {notice["progressToken"] for notice in caller.progressed} == {7}

        with pytest.raises(RpcError) as refused:
            await session.request("no/such", {}, timeout_s=5)
        assert refused.value.code == -32601

        with within(child_of(None)):
            seen = (await call(session, "meta"))["structuredContent"]
        assert "traceparent" in seen

        await call(session, "grow")
        await eventually(lambda: "notifications/tools/list_changed" in [n[0] for n in notices])

        ended = tmp_path / "ended"
        with anyio.move_on_after(0.2):
            await call(session, "hang", path=str(ended))
        await eventually(ended.exists)
        assert session.channel.in_flight == 0


async def test_a_question_of_the_older_era_goes_to_the_caller() -> None:
    caller = RecordingCaller({"action": "accept", "content": {"name": "Ada"}})
    async with session_with("2025-11-25") as session:
        assert text_of(await call(session, "greet", caller=caller)) == "Hello Ada"
        assert caller.asked[0][0] == "elicitation/create"
        refusing = RecordingCaller(RpcError(-32600, "nobody is there"))
        with pytest.raises(RpcError, match="nobody is there"):
            await call(session, "greet", caller=refusing)


async def test_a_question_of_the_newer_era_is_the_result() -> None:
    async with session_with("2026-07-28") as session:
        first = await call(session, "greet")
        assert is_input_required(first)
        [key] = first["inputRequests"]
        answer = {"action": "accept", "content": {"name": "Ada"}}
        params = {"name": "greet", "arguments": {}, "requestState": first["requestState"]}
        params["inputResponses"] = {key: answer}
        second = await session.request("tools/call", params, timeout_s=10)
        assert text_of(second) == "Hello Ada"

        caller = RecordingCaller(answer)
        params = {"name": "greet", "arguments": {}}
        resolved = await resolving(
            session.request, "tools/call", params, caller=caller, timeout_s=10
        )
        assert text_of(resolved) == "Hello Ada"
        assert caller.asked[0][1]["message"] == "Who are you?"


@pytest.mark.parametrize("protocol", ERAS)
async def test_a_request_of_the_newer_era_passes_to_either(protocol: Protocol) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "somebody", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"roots": {}},
        "own": 1,
    }
    async with session_with(protocol) as session:
        params = {"name": "meta", "arguments": {}, "_meta": meta}
        seen = (await session.request("tools/call", params, timeout_s=10))["structuredContent"]
    assert seen["own"] == 1
    if protocol == "2026-07-28":
        assert seen["io.modelcontextprotocol/clientInfo"] == CLIENT
        assert seen["io.modelcontextprotocol/clientCapabilities"] == {"roots": {}}
    else:
        assert len(seen) == 1


async def test_a_server_that_dies_fails_all_that_wait(tmp_path: Path) -> None:
    errors: list[Unavailable] = []

    async def hang() -> None:
        with pytest.raises(Unavailable) as failed:
            await call(session, "hang", path=str(tmp_path / "never"))
        errors.append(failed.value)

    async with session_with("auto") as session:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(hang)
            await eventually(lambda: session.channel.in_flight == 3)
            with pytest.raises(Unavailable, match="ended"):
                await call(session, "die")
        assert len(errors) == 3
        with pytest.raises(Unavailable):
            await call(session, "echo", text="late")
        assert session.channel.ended


async def test_a_hundred_calls_at_once_get_their_own_answers() -> None:
    async with session_with("auto") as session, anyio.create_task_group() as tasks:

        async def echo(number: int) -> None:
            assert text_of(await call(session, "echo", text=f"{number}")) == f"{number}"

        for number in range(100):
            tasks.start_soon(echo, number)


async def test_an_answer_that_is_late_is_dropped(tmp_path: Path) -> None:
    async with session_with("auto") as session:
        params = {"name": "hang", "arguments": {"path": str(tmp_path / "ended")}}
        with pytest.raises(TimedOut, match=r"tools/call within 0.1 s"):
            await session.request("tools/call", params, timeout_s=0.1)
        await eventually((tmp_path / "ended").exists)
        assert text_of(await call(session, "echo", text="next")) == "next"


@pytest.mark.parametrize("protocol", ERAS)
async def test_another_process_goes_on_with_a_server(protocol: Protocol, tmp_path: Path) -> None:
    async with started(SDK_SERVER) as pipes:
        first = Channel(pipes)
        async with in_background(first.run), anyio.create_task_group() as tasks:
            server = await open_session(first, protocol, client=CLIENT, timeout_s=20)
            session = Session(first, server, CLIENT)
            assert text_of(await call(session, "count")) == "1"
            tasks.start_soon(lambda: call(session, "hang", path=str(tmp_path / "never")))
            tasks.start_soon(lambda: call(session, "after", flag=str(tmp_path / "flag")))
            await eventually(lambda: first.in_flight == 2)
            # As one that is killed: nobody is told, and a line is left unfinished.
            pipes.is_cut = True
            tasks.cancel_scope.cancel()
        pipes.is_cut = False
        await pipes.send(b'{"jsonrpc": "2.0", "id": 1, "method": "tools/ca')

        second = Channel(pipes, resuming=True)
        async with in_background(second.run):
            session = Session(second, ServerInfo.from_dict(server.as_dict()), CLIENT)
            assert text_of(await call(session, "count")) == "2"
            (tmp_path / "flag").touch()
            await eventually(lambda: second.strays == 1)
            assert text_of(await call(session, "count")) == "3"
