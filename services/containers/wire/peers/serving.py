"""The listening side: requests of other hub processes, each with a caller that can be asked."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import anyio
import msgspec
from anyio.abc import SocketStream, TaskGroup

from mcp_hub.adapters.errors import HubError, Internal, LimitExceeded, TimedOut, Unavailable
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.framing import Lines
from mcp_hub.services.containers.wire.messages import RpcError
from mcp_hub.services.containers.wire.outbox import Outbox
from mcp_hub.services.containers.wire.peers.listening import Listening
from mcp_hub.services.containers.wire.peers.messages import (
    MAX_PEER_LINE,
    STRANGER,
    WELCOME,
    Answer,
    Ask,
    Cancel,
    Failed,
    Log,
    Progress,
    Request,
    Result,
    Withdraw,
    decode_to_server,
    error_of_fault,
    fault_of,
    line_of,
)
from mcp_hub.services.telemetry.own.tracing import parse_traceparent, within

logger = logging.getLogger(__name__)

_GREETING_S = 10.0
_LONGEST_SECRET = 1024


@dataclass(frozen=True, slots=True)
class PeerRequest:
    """What another hub process wants done."""

    op: str
    params: dict[str, Any]
    timeout_s: float
    """How long it waits; the handler is cancelled afterwards."""


Handler = Callable[[PeerRequest, Caller], Awaitable[dict[str, Any]]]
"""Answers a request; raises HubError or RpcError, which the one who asked gets. It is cancelled
when that one cancels, times out or dies."""


async def serve_peers(listening: Listening, secret: str, handler: Handler) -> None:
    """Serve whoever knows `secret`, until cancelled."""

    async def serve(stream: SocketStream) -> None:
        async with stream:
            await _Connection(stream, handler).serve(secret.encode())

    await listening.listener.serve(serve)


class _Connection:
    """One other hub process."""

    def __init__(self, stream: SocketStream, handler: Handler) -> None:
        self._stream = stream
        self._handler = handler
        self._outbox = Outbox(self._write)
        self._lines = Lines(MAX_PEER_LINE)
        self._requests: dict[int, _Running] = {}

    async def serve(self, secret: bytes) -> None:
        early = await self._greeted(secret)
        if early is None:
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._outbox.run)
            await self._read(tasks, early)
            # Who asked is gone, and nobody waits for what it wanted.
            tasks.cancel_scope.cancel()

    async def _greeted(self, secret: bytes) -> list[bytes] | None:
        """The lines that came right behind the secret; None for a stranger."""
        said = b""
        with anyio.move_on_after(_GREETING_S):
            while b"\n" not in said and len(said) <= _LONGEST_SECRET:
                chunk = await self._receive()
                if chunk is None:
                    return None
                said += chunk
            first, _, rest = said.partition(b"\n")
            if hmac.compare_digest(first, secret):
                self._outbox.put(WELCOME + b"\n")
                return self._lines.feed(rest)
            logger.warning("Somebody without the secret spoke to this hub process")
            with suppress(Unavailable):
                await self._write(STRANGER + b"\n")
        return None

    async def _read(self, tasks: TaskGroup, lines: list[bytes]) -> None:
        while True:
            for line in lines:
                try:
                    message = decode_to_server(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    logger.warning("A hub process sent what is no message of this version's")
                    return
                self._take(message, tasks)
            chunk = await self._receive()
            if chunk is None:
                return
            lines = self._lines.feed(chunk)
            if self._lines.overlong:
                logger.warning("A hub process sent a line of more than %d bytes", MAX_PEER_LINE)
                return

    def _take(self, message: Request | Cancel | Answer, tasks: TaskGroup) -> None:
        running = self._requests.get(message.id)
        if isinstance(message, Request):
            if running is None:
                running = self._requests[message.id] = _Running(message.id, self._outbox)
                tasks.start_soon(self._serve, message, running)
        elif running is None:
            return
        elif isinstance(message, Cancel):
            running.scope.cancel()
        else:
            running.answered(message)

    async def _serve(self, request: Request, running: "_Running") -> None:
        wanted = PeerRequest(request.op, request.params, request.timeout_s)
        try:
            with running.scope, within(parse_traceparent(request.traceparent)):
                line = await self._line_of_answer(wanted, running)
                await self._outbox.send(line)
        except Unavailable:
            logger.debug("A hub process left before it was answered")
        finally:
            del self._requests[request.id]

    async def _line_of_answer(self, wanted: PeerRequest, running: "_Running") -> bytes:
        try:
            with anyio.move_on_after(wanted.timeout_s):
                return line_of(Result(running.id, await self._handler(wanted, running)))
            raise TimedOut(f"{wanted.op} took longer than {wanted.timeout_s:g} s.")
        except (HubError, RpcError) as error:
            fault = fault_of(error)
        except Exception:  # the request ends here
            logger.exception("%s, asked by another hub process, failed", wanted.op)
            fault = fault_of(Internal(f"{wanted.op} failed inside the hub.", "See the hub's log."))
        try:
            return line_of(Failed(running.id, fault))
        except LimitExceeded as error:
            return line_of(Failed(running.id, fault_of(error)))

    async def _write(self, data: bytes) -> None:
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise Unavailable("The other hub process is gone.") from None

    async def _receive(self) -> bytes | None:
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return None


class _Running:
    """A request that is being served, and the `Caller` that its handler knows."""

    def __init__(self, id: int, outbox: Outbox) -> None:
        self.id = id
        self.scope = anyio.CancelScope()
        self._outbox = outbox
        self._numbers = count(1)
        self._questions: dict[int, tuple[anyio.Event, list[Answer]]] = {}

    async def progress(self, params: dict[str, Any]) -> None:
        await self._outbox.send(line_of(Progress(self.id, params)))

    async def log(self, params: dict[str, Any]) -> None:
        await self._outbox.send(line_of(Log(self.id, params)))

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        came, answers = self._questions[number] = (anyio.Event(), [])
        try:
            await self._outbox.send(line_of(Ask(self.id, number, method, params)))
            await came.wait()
        finally:
            del self._questions[number]
            if not answers:
                self._outbox.put(line_of(Withdraw(self.id, number)))
        [answer] = answers
        if answer.fault is not None:
            raise error_of_fault(answer.fault)
        return answer.result or {}

    def answered(self, answer: Answer) -> None:
        if (question := self._questions.get(answer.ask)) and not question[1]:
            question[1].append(answer)
            question[0].set()
