"""The stdio server as a process: what it writes, when it ends, what it has loaded by then."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCNotification

from mcp_hub.server.stdio import Outgoing, read_lines
from tests.processes import hub_environment

from .serving import REPOSITORY

HEAVY = {
    "sqlalchemy", "alembic", "polars", "numpy", "sklearn", "scipy", "skl2onnx", "onnx",
    "onnxruntime", "pandas", "rich",
}  # fmt: skip

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def request(number: int, method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


class Stdio:
    """A stdio server and the raw lines that go to and from it."""

    def __init__(self, environment: Mapping[str, str], command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env=dict(environment),
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def send(self, *messages: dict[str, Any] | bytes) -> None:
        assert self.process.stdin is not None
        for message in messages:
            line = message if isinstance(message, bytes) else json.dumps(message).encode()
            self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def answer(self, number: int) -> dict[str, Any]:
        """The answer to that request; every line before it must be of the protocol as well."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message: dict[str, Any] = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            if message.get("id") == number:
                return message
        raise AssertionError("the server has ended")

    def end(self) -> tuple[int, str, str]:
        """The exit status, and what else came on standard output and error."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Stdio]]:
    started: list[Stdio] = []

    def start(*command: str) -> Stdio:
        server = Stdio(hub_environment(tmp_path), command or ("-m", "mcp_hub"))
        started.append(server)
        return server

    yield start
    for server in started:
        server.process.kill()
        server.process.wait()
        for stream in (server.process.stdin, server.process.stdout, server.process.stderr):
            if stream is not None:
                stream.close()


def test_it_ends_with_its_input(start: Callable[..., Stdio]) -> None:
    server = start()
    server.send(INITIALIZE, INITIALIZED)
    server.answer(1)
    status, out, err = server.end()
    assert (status, out) == (0, "")
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_though_its_input_is_open(
    start: Callable[..., Stdio], number: signal.Signals
) -> None:
    server = start()
    server.send(INITIALIZE, INITIALIZED, request(2, "tools/call", name="hub_info", arguments={}))
    server.answer(1)
    assert server.answer(2)["result"]["isError"] is False
    server.process.send_signal(number)
    assert server.process.wait(10) == 0
    assert "Traceback" not in server.end()[2]


def test_it_ends_while_a_call_is_under_way(start: Callable[..., Stdio], tmp_path: Path) -> None:
    server = start()
    rows = "x,y\n" + "1,a\n2,b\n" * 10
    register = {"name": "d", "content": rows}
    submit = {"name": "m", "type": "probe", "framework": "probe", "dataset": "d",
              "config": {"action": "wait_for_flag", "flag": str(tmp_path / "never")}}  # fmt: skip
    server.send(
        INITIALIZE,
        INITIALIZED,
        request(2, "tools/call", name="dataset_register", arguments=register),
    )
    assert server.answer(2)["result"]["isError"] is False
    server.send(request(3, "tools/call", name="training_submit", arguments=submit))
    job_id = server.answer(3)["result"]["structuredContent"]["job_id"]
    wait = {"job_id": job_id, "wait_s": 50}
    server.send(request(4, "tools/call", name="training_status", arguments=wait))
    server.send(request(5, "ping"))
    server.answer(5)
    status, _, err = server.end()
    assert status == 0
    assert "Traceback" not in err


def test_it_ends_quietly_when_nobody_reads_its_answers(start: Callable[..., Stdio]) -> None:
    server = start()
    server.send(INITIALIZE, INITIALIZED)
    server.answer(1)
    assert server.process.stdout is not None
    server.process.stdout.close()
    server.send(request(2, "tools/list"), request(3, "tools/list"))
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.process.wait(20) == 0
    assert server.process.stderr is not None
    assert b"Traceback" not in server.process.stderr.read()


def test_it_ends_on_a_signal_though_its_answer_is_not_read(start: Callable[..., Stdio]) -> None:
    server = start()
    server.send(INITIALIZE, INITIALIZED, *(request(n, "tools/list") for n in range(2, 20)))
    server.answer(1)  # the rest, near a megabyte, is more than a pipe holds
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0


def test_standard_output_is_the_protocols_alone(
    start: Callable[..., Stdio], tmp_path: Path
) -> None:
    server = start("-m", "tests.server.noisy_server", str(tmp_path))
    server.send(INITIALIZE, INITIALIZED, request(2, "tools/call", name="noise", arguments={}))
    server.answer(1)
    assert server.answer(2)["result"]["content"][0]["text"] == "quiet"
    status, out, err = server.end()
    assert status == 0
    for noise in ("print", "descriptor", "library", "child"):
        assert f"noise: {noise}" in err
    assert out == ""


def test_what_is_no_message_does_no_harm(start: Callable[..., Stdio]) -> None:
    server = start()
    server.send(INITIALIZE, INITIALIZED)
    lines = (b"nonsense", b"", b"[]", b"{}", b"\xff\xfe", b'{"jsonrpc": "2.0"}', b"[" * 100_000)
    for number, line in enumerate(lines, start=2):
        server.send(line, request(number, "ping"))
        assert server.answer(number)["result"] == {}
    assert server.end()[0] == 0


def test_it_reads_a_file_as_well(tmp_path: Path) -> None:
    messages = (INITIALIZE, INITIALIZED, request(2, "ping"))
    file = tmp_path / "messages"
    file.write_text("\n".join(json.dumps(message) for message in messages))
    with file.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "mcp_hub"],
            env=hub_environment(tmp_path),
            stdin=stdin,
            capture_output=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    answered = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    assert 1 in answered


def test_nothing_heavy_is_loaded_before_the_first_call(start: Callable[..., Stdio]) -> None:
    server = start("-X", "importtime", "-m", "mcp_hub")
    server.send(INITIALIZE, INITIALIZED, request(2, "tools/list"))
    assert len(server.answer(2)["result"]["tools"]) > 20
    _, _, err = server.end()
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines() if "|" in line}
    assert "mcp_hub.server.app" in imported
    loaded = {name.partition(".")[0] for name in imported}
    assert not HEAVY & loaded
    services = {name for name in imported if name.startswith("mcp_hub.services.")}
    assert not {name for name in services if name.endswith(".service")}
    assert "mcp_hub.server.composition" not in imported


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_progress_reaches_clients_of_both_eras(tmp_path: Path, era: str) -> None:
    # Over HTTP the conformance tool looks at this, in both eras.
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "tests.server.noisy_server", str(tmp_path)],
        env=hub_environment(tmp_path),
        cwd=REPOSITORY,
    )
    async with Client(command, mode=era) as client:
        await client.call_tool("noise", {}, progress_callback=hear)
    assert heard == [(1, 2, "half way")]


async def _lines(*chunks: bytes) -> list[str]:
    reading, writing = os.pipe()
    found: list[str] = []

    async def write() -> None:
        for chunk in chunks:
            await anyio.wait_writable(writing)
            os.write(writing, chunk)
            await anyio.lowlevel.checkpoint()
        os.close(writing)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        async for line in read_lines(reading):
            found.append(line)
    os.close(reading)
    return found


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ((), []),
        ((b"a\nb\n",), ["a", "b"]),
        ((b"a", b"b\nc", b"d"), ["ab", "cd"]),
        ((b"\n", b"\n"), ["", ""]),
        (("é".encode()[:1], "é".encode()[1:] + b"\n"), ["é"]),
        ((b"\xff\n",), ["\N{REPLACEMENT CHARACTER}"]),
    ],
)
async def test_lines_are_whole_however_they_arrive(
    chunks: tuple[bytes, ...], lines: list[str]
) -> None:
    assert await _lines(*chunks) == lines


def _message(text: str) -> SessionMessage:
    params = {"text": text}
    return SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="said", params=params))


class Pipe:
    """A pipe whose reader sees each line's text."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self.outgoing = Outgoing(self._writing)
        self._lines = read_lines(self._reading)

    async def text(self) -> str:
        text: str = json.loads(await anext(self._lines))["params"]["text"]
        return text

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


async def test_messages_are_written_whole_and_in_order_however_slowly_they_are_read(
    pipe: Pipe,
) -> None:
    texts = [f"{number} " + "é" * 100_000 for number in range(5)]
    async with anyio.create_task_group() as tasks:
        for text in texts:
            tasks.start_soon(pipe.outgoing.send, _message(text))
        assert [await pipe.text() for _ in texts] == texts


async def test_a_message_whose_sender_is_cancelled_is_ended_before_the_next(pipe: Pipe) -> None:
    texts = ["é" * 200_000, "next"]
    with anyio.move_on_after(0.05) as scope:
        await pipe.outgoing.send(_message(texts[0]))  # more than a pipe holds
    assert scope.cancelled_caught
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pipe.outgoing.send, _message(texts[1]))
        assert [await pipe.text() for _ in texts] == texts


async def test_waiting_for_a_line_can_be_cancelled() -> None:
    reading, writing = os.pipe()
    with anyio.move_on_after(0.05) as scope:
        async for _ in read_lines(reading):
            raise AssertionError
    os.close(reading)
    os.close(writing)
    assert scope.cancelled_caught
