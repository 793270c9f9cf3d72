"""Hub processes that speak to each other over sockets."""

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_hub.adapters.errors import (
    Denied,
    HubError,
    Internal,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    TimedOut,
    Unavailable,
)
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.messages import RpcError
from mcp_hub.services.containers.wire.peers.client import PeerClient, PeerGone, PeerLost
from mcp_hub.services.containers.wire.peers.listening import (
    Listening,
    connect,
    listen_tcp,
    listen_unix,
)
from mcp_hub.services.containers.wire.peers.messages import MAX_PEER_LINE
from mcp_hub.services.containers.wire.peers.serving import Handler, PeerRequest, serve_peers
from mcp_hub.services.telemetry.own.tracing import child_of, current, within
from tests.services.containers.wire.peers import serving
from tests.services.containers.wire.processes import RecordingCaller
from tests.spawning import killed_process
from tests.waiting import eventually

SECRET = serving.SECRET


class Worker:
    """A handler that does what it is asked, and remembers."""

    def __init__(self) -> None:
        self.running = 0
        self.cancelled = 0
        self.traces: list[str | None] = []

    async def __call__(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        self.running += 1
        try:
            handler: Handler = getattr(self, request.op)
            return await handler(request, caller)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def echo(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        trace = current()
        self.traces.append(trace.trace_id.hex() if trace else None)
        return request.params

    async def tell(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        for step in range(request.params["steps"]):
            await caller.progress({"progress": step})
        await caller.log({"level": "info", "data": "done"})
        return {}

    async def ask(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        return {"said": await caller.ask("elicitation/create", request.params)}

    async def ask_in_vain(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        with anyio.move_on_after(request.params["s"]):
            await caller.ask("roots/list", {})
        return {"gave": "up"}

    async def hang(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def refuse(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        raise NotFound("No such container.", "There is one named x.")

    async def err(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        raise RpcError(-32602, "wrong", {"at": 1})

    async def flood(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        return {"text": "x" * MAX_PEER_LINE}


@pytest.fixture(params=["unix", "tcp"])
async def listening(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Listening]:
    listen = (
        listen_unix(tmp_path / "run") if request.param == "unix" else listen_tcp("127.0.0.1", 0)
    )
    async with listen as listening:
        yield listening


@asynccontextmanager
async def serving_to(listening: Listening) -> AsyncIterator[tuple[Worker, PeerClient]]:
    worker = Worker()
    async with (
        in_background(lambda: serve_peers(listening, SECRET, worker)),
        client_of(listening.address) as client,
    ):
        yield worker, client


@asynccontextmanager
async def client_of(address: str, secret: str = SECRET) -> AsyncIterator[PeerClient]:
    async with anyio.create_task_group() as tasks:
        yield PeerClient(address, secret, tasks)
        tasks.cancel_scope.cancel()


async def all_of(stream: anyio.abc.SocketStream) -> bytes:
    """What comes until the other side hangs up, which what it has not read may hasten."""
    received = b""
    with anyio.fail_after(5), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            received += await stream.receive()
    return received


async def test_requests_share_a_connection_and_get_their_own_answers(listening: Listening) -> None:
    async with serving_to(listening) as (worker, client):
        results: dict[int, Any] = {}

        async def echo(number: int) -> None:
            with within(child_of(None)) if number else within(None):
                results[number] = await client.request("echo", {"n": number}, timeout_s=5)

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(echo, number)
        assert results == {number: {"n": number} for number in range(100)}
        assert worker.traces.count(None) == 1
        assert len(set(worker.traces)) == 100


async def test_a_caller_is_told_and_asked_across(listening: Listening) -> None:
    async with serving_to(listening) as (_, client):
        caller = RecordingCaller({"name": "Ada"}, RpcError(-32600, "cannot", {"why": 1}))
        await client.request("tell", {"steps": 3}, caller=caller, timeout_s=5)
        assert [notice["progress"] for notice in caller.progressed] == [0, 1, 2]
        assert caller.logged == [{"level": "info", "data": "done"}]

        answer = await client.request("ask", {"message": "?"}, caller=caller, timeout_s=5)
        assert answer == {"said": {"name": "Ada"}}
        assert caller.asked == [("elicitation/create", {"message": "?"})]
        with pytest.raises(RpcError, match="cannot") as refused:
            await client.request("ask", {}, caller=caller, timeout_s=5)
        assert (refused.value.code, refused.value.data) == (-32600, {"why": 1})
        with pytest.raises(RpcError, match="cannot be asked"):
            await client.request("ask", {}, timeout_s=5)


async def test_a_question_is_withdrawn(listening: Listening) -> None:
    async with serving_to(listening) as (_, client):
        caller = RecordingCaller(*[RecordingCaller.SILENT] * 2)
        result = await client.request("ask_in_vain", {"s": 0.1}, caller=caller, timeout_s=5)
        assert result == {"gave": "up"}
        await eventually(lambda: caller.waiting == 0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: client.request("ask", {}, caller=caller, timeout_s=5))
            await eventually(lambda: caller.waiting == 1)
            tasks.cancel_scope.cancel()
        await eventually(lambda: caller.waiting == 0)


async def test_errors_cross_as_they_are(
    listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving_to(listening) as (_, client):
        with pytest.raises(NotFound) as missing:
            await client.request("refuse", {}, timeout_s=5)
        assert missing.value.as_dict() == {
            "code": "not_found",
            "message": "No such container.",
            "hint": "There is one named x.",
        }
        with pytest.raises(RpcError) as wrong:
            await client.request("err", {}, timeout_s=5)
        assert wrong.value.as_dict() == {"code": -32602, "message": "wrong", "data": {"at": 1}}
        with pytest.raises(Internal, match="failed inside the hub"):
            await client.request("no_such_op", {}, timeout_s=5)
        assert "no_such_op" in caplog.text
        with pytest.raises(LimitExceeded, match="too long"):
            await client.request("flood", {}, timeout_s=20)
        with pytest.raises(LimitExceeded, match="too long"):
            await client.request("echo", {"text": "x" * MAX_PEER_LINE}, timeout_s=20)
        assert await client.request("echo", {}, timeout_s=5) == {}


async def test_time_runs_out_and_cancelling_reaches_the_handler(listening: Listening) -> None:
    async with serving_to(listening) as (worker, client):
        with pytest.raises(TimedOut, match=r"hang took longer than 0\.05 s"):
            await client.request("hang", {}, timeout_s=0.05)
        await eventually(lambda: worker.running == 0)
        with anyio.move_on_after(0.05):
            await client.request("hang", {}, timeout_s=30)
        await eventually(lambda: worker.running == 0)
        assert worker.cancelled == 2


async def test_a_client_that_leaves_cancels_what_it_wanted(listening: Listening) -> None:
    worker = Worker()
    async with in_background(lambda: serve_peers(listening, SECRET, worker)):
        async with client_of(listening.address) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(_lost, client)
            await eventually(lambda: worker.running == 1)
            await client.close()
        await eventually(lambda: worker.running == 0)


async def _lost(client: PeerClient) -> None:
    with pytest.raises(PeerLost):
        await client.request("hang", {}, timeout_s=30)


async def test_nothing_is_heard_without_the_secret(
    listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving_to(listening) as (worker, client):
        async with client_of(listening.address, "guess") as stranger:
            with pytest.raises(PeerGone, match="Another hub process"):
                await stranger.request("echo", {}, timeout_s=5)
        for first in (b"\n\n", b"GET / HTTP/1.1\r\n", b"x" * 100_000):
            async with await connect(listening.address) as stream:
                await stream.send(first + b'{"type":"request","id":1,"op":"hang"}\n')
                assert await all_of(stream) in (b"", b'"stranger"\n')
        assert worker.running == 0
        assert await client.request("echo", {}, timeout_s=5) == {}
        assert SECRET not in caplog.text


async def test_nonsense_ends_its_connection_only(listening: Listening) -> None:
    async with serving_to(listening) as (_, client):
        for nonsense in (b"nonsense\n", b'{"type":"what"}\n', b'{"type":"cancel"}\n', b"\xff\n"):
            async with await connect(listening.address) as stream:
                await stream.send(SECRET.encode() + b"\n" + nonsense)
                assert await all_of(stream) in (b"", b'"welcome"\n')
        async with await connect(listening.address) as stream:
            ignored = b'{"type":"cancel","id":9}\n{"type":"answer","id":9,"ask":1,"result":{}}\n'
            echo = b'{"type":"request","id":1,"op":"echo","params":{},"timeout_s":1}\n'
            await stream.send(SECRET.encode() + b"\n" + ignored + echo)
            received = b""
            while received.count(b"\n") < 2:
                received += await stream.receive()
        assert received == b'"welcome"\n{"type":"result","id":1,"result":{}}\n'
        assert await client.request("echo", {}, timeout_s=5) == {}


def sockets_in(folder: Path) -> list[Path]:
    return list(folder.glob("*.sock"))


async def test_a_process_that_is_killed_is_gone_and_said_to_be(tmp_path: Path) -> None:
    address_file = tmp_path / "address"
    async with anyio.create_task_group() as tasks:
        with killed_process(serving.serve, tmp_path):
            await eventually(address_file.exists)
            client = PeerClient(address_file.read_text(), SECRET, tasks)
            assert await client.request("echo", {"a": 1}, timeout_s=20) == {"a": 1}
            caller = RecordingCaller()
            errors: list[HubError] = []

            async def hang() -> None:
                with pytest.raises(PeerLost) as lost:
                    await client.request("hang", {}, caller=caller, timeout_s=30)
                errors.append(lost.value)

            tasks.start_soon(hang)
            await eventually(lambda: caller.progressed != [])
        await eventually(lambda: len(errors) == 1)
        assert "may have done" in (errors[0].hint or "")
        with pytest.raises(PeerGone):
            await client.request("echo", {}, timeout_s=5)
        tasks.cancel_scope.cancel()
    # A next one sweeps up after it, once it is sure that nobody is just about to listen there.
    [socket_file] = sockets_in(tmp_path)
    os.utime(socket_file, (0, 0))
    async with listen_unix(tmp_path) as listening:
        assert [f"unix:{path}" for path in sockets_in(tmp_path)] == [listening.address]
    assert sockets_in(tmp_path) == []


async def test_a_connection_is_made_anew(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with client_of(f"tcp:127.0.0.1:{port}") as client:
        with pytest.raises(PeerGone):
            await client.request("echo", {}, timeout_s=5)
        for _ in range(2):
            async with (
                listen_tcp("127.0.0.1", port) as listening,
                in_background(lambda: serve_peers(listening, SECRET, Worker())),
            ):
                assert await client.request("echo", {}, timeout_s=5) == {}


async def test_a_process_that_is_slow_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_hub.services.containers.wire.peers.client.CONNECT_S", 0.1)
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(tmp_path / "stopped.sock"))
        stopped.listen()
        async with client_of(f"unix:{tmp_path / 'stopped.sock'}") as client:
            with pytest.raises(Unavailable, match="did not answer") as slow:
                await client.request("echo", {}, timeout_s=5)
            assert not isinstance(slow.value, PeerGone | PeerLost)


async def test_a_process_that_hangs_up_each_time_is_not_gone_either(listening: Listening) -> None:
    async def hang_up(stream: anyio.abc.SocketStream) -> None:
        await stream.aclose()

    async with (
        in_background(lambda: listening.listener.serve(hang_up)),
        client_of(listening.address) as client,
    ):
        with pytest.raises(Unavailable, match="hangs up") as unclear:
            await client.request("echo", {}, timeout_s=5)
        assert not isinstance(unclear.value, PeerGone)


async def test_only_this_user_comes_to_a_socket(tmp_path: Path) -> None:
    async with listen_unix(tmp_path / "a" / "run") as listening:
        path = listening.address.removeprefix("unix:")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116
        assert stat.S_IMODE((tmp_path / "a" / "run").stat().st_mode) == 0o700


async def test_a_folder_whose_path_is_too_long_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_hub.services.containers.wire.peers.listening._LONGEST_PATH", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    async with listen_unix(tmp_path / "long") as listening:
        assert listening.address.startswith(f"unix:{tmp_path}/mcp-hub-")
    (tmp_path / "elsewhere").mkdir()
    mine = tmp_path / f"mcp-hub-{os.getuid()}"
    mine.rmdir()
    mine.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Denied):
        async with listen_unix(tmp_path / "long"):
            raise AssertionError


async def test_addresses_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"0\.0\.0\.0"):
        async with listen_tcp("0.0.0.0", 0):
            raise AssertionError
    async with listen_tcp("127.0.0.1", 0) as taken:
        port = int(taken.address.rpartition(":")[2])
        with pytest.raises(Unavailable, match="cannot listen"):
            async with listen_tcp("127.0.0.1", port):
                raise AssertionError
    with pytest.raises(Unavailable, match="cannot listen"):
        async with listen_unix(Path("/proc/nowhere")):
            raise AssertionError
    async with client_of("http://somewhere") as client:
        with pytest.raises(InvalidArgument):
            await client.request("echo", {}, timeout_s=5)
