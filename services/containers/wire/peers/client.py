"""The asking side: requests to another hub process, over one connection that is made anew."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any

import anyio
import msgspec
from anyio.abc import SocketStream, TaskGroup

from mcp_hub.adapters.errors import TimedOut, Unavailable
from mcp_hub.services.containers.wire.calls import Call, Caller, asked
from mcp_hub.services.containers.wire.framing import Lines
from mcp_hub.services.containers.wire.messages import RpcError
from mcp_hub.services.containers.wire.outbox import Outbox
from mcp_hub.services.containers.wire.peers.listening import connect
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
    decode_to_client,
    error_of_fault,
    fault_of,
    line_of,
)
from mcp_hub.services.telemetry.own.tracing import current

logger = logging.getLogger(__name__)

CONNECT_S = 5.0
_TRIES = 3
_GRACE_S = 2.0
"""The other process tells best itself that the time is over."""


class PeerGone(Unavailable):
    """The process that listened at the address is dead: nobody, or another, listens there now.

    The request has not been run.
    """


class PeerLost(Unavailable):
    """The connection ended after the request had been sent: it may have been run, or be running."""


class PeerClient:
    """Another hub process, as long as `tasks` runs."""

    def __init__(self, address: str, secret: str, tasks: TaskGroup) -> None:
        """`address` as `Listening.address`; nothing is connected before the first request."""
        self.address = address
        self._secret = secret
        self._tasks = tasks
        self._connecting = anyio.Lock()
        self._connection: _Connection | None = None

    async def request(
        self,
        op: str,
        params: Mapping[str, Any],
        *,
        caller: Caller | None = None,
        timeout_s: float,
    ) -> dict[str, Any]:
        """What the other process's handler returned.

        Raises:
            PeerGone: that process is dead for certain; it has not run the request.
            PeerLost: it died, or let go, with the request under way.
            TimedOut: the request took longer than `timeout_s`.
            Unavailable: that process does not answer, and may be alive.
            HubError, RpcError: what its handler raised.
        """
        with anyio.move_on_after(timeout_s + _GRACE_S):
            for _ in range(_TRIES):
                try:
                    connection = await self._connected()
                    return await connection.request(op, params, caller, timeout_s)
                except _NotSentError:
                    continue
            raise Unavailable(f"The hub process at {self.address} hangs up again and again.")
        raise TimedOut(
            f"{op} took longer than {timeout_s:g} s, and the hub process that does it is silent."
        )

    async def close(self) -> None:
        """Close the connection; who waits for an answer gets PeerLost."""
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self) -> "_Connection":
        async with self._connecting:
            if self._connection is None or self._connection.has_ended:
                stream = await _open(self.address, self._secret)
                self._connection = _Connection(stream)
                self._tasks.start_soon(self._connection.run)
            return self._connection


class _NotSentError(Exception):
    """The connection had ended before the request was written."""


class _Connection:
    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._outbox = Outbox(self._write)
        self._lines = Lines(MAX_PEER_LINE)
        self._numbers = count(1)
        self._calls: dict[int, Call] = {}
        self._questions: dict[tuple[int, int], anyio.CancelScope] = {}
        self.has_ended = False

    async def run(self) -> None:
        try:
            async with self._stream, anyio.create_task_group() as tasks:
                tasks.start_soon(self._outbox.run)
                await self._read(tasks)
                tasks.cancel_scope.cancel()
        finally:
            self.has_ended = True
            reason = "The hub process that holds the container let go while it was at work."
            self._outbox.close(reason)
            for call in self._calls.values():
                call.settle(PeerLost(reason, "It may have done what it was asked."))

    async def close(self) -> None:
        await self._stream.aclose()

    async def request(
        self, op: str, params: Mapping[str, Any], caller: Caller | None, timeout_s: float
    ) -> dict[str, Any]:
        id = next(self._numbers)
        trace = current()
        line = line_of(
            Request(id, op, dict(params), timeout_s, trace.traceparent if trace else None)
        )
        if self.has_ended:
            raise _NotSentError
        call = self._calls[id] = Call(op, caller)
        is_sent = False
        try:
            try:
                await self._outbox.send(line)
            except Unavailable:
                raise _NotSentError from None
            is_sent = True
            return await call.outcome()
        finally:
            del self._calls[id]
            call.end()
            if is_sent and not call.is_settled:
                self._outbox.put(line_of(Cancel(id)))

    async def _read(self, tasks: TaskGroup) -> None:
        while (chunk := await self._receive()) is not None:
            for line in self._lines.feed(chunk):
                try:
                    self._take(decode_to_client(line), tasks)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    logger.warning("A hub process answered with what is no message")
                    return
            if self._lines.overlong:
                logger.warning("A hub process sent a line of more than %d bytes", MAX_PEER_LINE)
                return

    def _take(
        self, message: Result | Failed | Progress | Log | Ask | Withdraw, tasks: TaskGroup
    ) -> None:
        call = self._calls.get(message.id)
        if call is None:
            return
        match message:
            case Result():
                call.settle(message.result)
            case Failed():
                call.settle(error_of_fault(message.fault))
            case Progress():
                call.progress(message.params)
            case Log():
                call.log(message.params)
            case Ask():
                scope = self._questions[message.id, message.ask] = anyio.CancelScope()
                call.questions.add(scope)
                call.context.run(tasks.start_soon, self._ask, scope, call, message)
            case Withdraw():
                if withdrawn := self._questions.get((message.id, message.ask)):
                    withdrawn.cancel()

    async def _ask(self, scope: anyio.CancelScope, call: Call, message: Ask) -> None:
        try:
            with scope:
                said = await asked(call.caller, message.method, message.params)
                if isinstance(said, RpcError):
                    answer = Answer(message.id, message.ask, fault=fault_of(said))
                else:
                    answer = Answer(message.id, message.ask, said)
                self._outbox.put(line_of(answer))
        finally:
            call.questions.discard(scope)
            del self._questions[message.id, message.ask]

    async def _write(self, data: bytes) -> None:
        await _send(self._stream, data)

    async def _receive(self) -> bytes | None:
        return await _received(self._stream)


async def _open(address: str, secret: str) -> SocketStream:
    """A connection on which the other process has recognised the secret."""
    with anyio.move_on_after(CONNECT_S):
        try:
            stream = await connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            raise PeerGone("The hub process that held the container is gone.") from None
        except OSError as error:
            raise Unavailable(
                f"The hub process at {address} cannot be reached: {error.strerror or error}."
            ) from error
        try:
            with suppress(Unavailable):  # it is then told by what is received
                await _send(stream, secret.encode() + b"\n")
            # A byte at a time, a few times: what follows belongs to the connection.
            greeting = b""
            while not greeting.endswith(b"\n"):
                piece = await _received(stream, 1)
                if piece is None:
                    raise _NotSentError
                greeting += piece
            if greeting.strip() == WELCOME:
                return stream
            if greeting.strip() == STRANGER:
                raise PeerGone("Another hub process is now where the one was that is wanted.")
            raise PeerGone(f"What listens at {address} is no hub process.")
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise
    raise Unavailable(f"The hub process at {address} did not answer within {CONNECT_S:g} s.")


async def _send(stream: SocketStream, data: bytes) -> None:
    try:
        await stream.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        raise Unavailable("The connection to the other hub process is gone.") from None


async def _received(stream: SocketStream, max_bytes: int = 65_536) -> bytes | None:
    try:
        return await stream.receive(max_bytes)
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return None
