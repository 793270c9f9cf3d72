"""MCP servers as local processes, spoken to over their pipes."""

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import anyio
from anyio.abc import Process

from mcp_hub.adapters.errors import Unavailable

HERE = Path(__file__).parent
SDK_SERVER = [sys.executable, str(HERE / "mcp_server.py")]


class Pipes:
    """A `ByteStream` over the pipes of a process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.is_cut = False
        """Nothing that is sent gets through."""

    async def send(self, data: bytes) -> None:
        assert self.process.stdin
        if self.is_cut:
            return
        try:
            await self.process.stdin.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise Unavailable("The server's standard input is closed.") from None

    async def receive(self) -> bytes | None:
        assert self.process.stdout
        try:
            return await self.process.stdout.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return None


@asynccontextmanager
async def started(command: Sequence[str]) -> AsyncIterator[Pipes]:
    """The streams of a process, which is killed at the end."""
    process = await anyio.open_process(command, stderr=subprocess.DEVNULL)
    try:
        yield Pipes(process)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


class RecordingCaller:
    """Remembers what it is told, and answers as it is set to."""

    SILENT: ClassVar[dict[str, Any]] = {"silent": True}
    """The answer of a caller that never gives one."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.progressed: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.waiting = 0
        self.may_go_on: anyio.Event | None = None
        self._answers = list(answers)

    async def progress(self, params: dict[str, Any]) -> None:
        if self.may_go_on is not None:
            await self.may_go_on.wait()
        self.progressed.append(params)

    async def log(self, params: dict[str, Any]) -> None:
        self.logged.append(params)

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((method, params))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer is self.SILENT:
            self.waiting += 1
            try:
                await anyio.sleep_forever()
            finally:
                self.waiting -= 1
        return answer
