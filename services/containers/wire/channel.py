"""One MCP server's stream of bytes, shared by all who have something to ask of it."""

import logging
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup

from mcp_hub.adapters.errors import TimedOut, Unavailable
from mcp_hub.services.containers.wire.calls import Call, Caller, asked
from mcp_hub.services.containers.wire.framing import MAX_LINE, Lines
from mcp_hub.services.containers.wire.messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Id,
    Message,
    RpcError,
    error_line,
    error_of_wire,
    notification_line,
    parse,
    request_line,
    result_line,
)
from mcp_hub.services.containers.wire.outbox import Outbox
from mcp_hub.services.containers.wire.streams import ByteStream

logger = logging.getLogger(__name__)

_NOISE_KEPT = 50
_NOISE_SHOWN = 5
_NOISE_LOGGED = 20
_NOISE_WIDTH = 500
# A server that talks without end gets about 3 MB/s of the hub's attention, in pieces of 64 KiB.
_TALK_ALLOWED = 1024 * 1024
_PAUSE_S = 0.02
_QUESTIONS = frozenset({"elicitation/create", "sampling/createMessage", "roots/list"})
# In the course of these a server may ask something of the client.
_ASKING = frozenset({"tools/call", "prompts/get", "resources/read"})
_LISTENING = "subscriptions/listen"
# The protocol forbids to cancel these.
_NOT_CANCELLED = frozenset({"initialize", "server/discover"})


class Channel:
    """JSON-RPC over lines, multiplexed.

    `run` must run as long as requests are made. Ids begin with characters of this channel's own,
    so that answers to whoever spoke over the stream before are never taken for its own.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        name: str = "The server",
        log: Callable[[str], None] = logger.debug,
        notified: Callable[[str, dict[str, Any]], None] | None = None,
        resuming: bool = False,
        max_line: int = MAX_LINE,
    ) -> None:
        """
        Args:
            name: How messages to people begin: `The server "time"`.
            log: Told of what the server writes that is no message.
            notified: Given the method and params of each notification that is no call's own; must
                return at once.
            resuming: Whether somebody spoke over the stream before, and may have died in the
                middle of a line: it is ended.
        """
        self._stream = stream
        self._name = name
        self._log = log
        self._notified = notified
        self._lines = Lines(max_line)
        self._outbox = Outbox(stream.send)
        self._prefix = f"{secrets.token_hex(4)}-"
        self._count = 0
        self._calls: dict[str, Call] = {}
        self._questions: dict[Id, anyio.CancelScope] = {}
        self._noise: deque[str] = deque(maxlen=_NOISE_KEPT)
        self._talk = 0
        self._tasks: TaskGroup | None = None
        if resuming:
            self._outbox.put(b"\n")
        self.noise_count = 0
        """Lines that were no message, or too long to be one."""
        self.strays = 0
        """Answers to nothing that was asked, or to what is no longer waited for."""
        self.ended: str | None = None
        """Why there is no more to be had from the server; None while there is."""

    @property
    def in_flight(self) -> int:
        """How many requests wait for their answer, but those that only listen."""
        return sum(call.method != _LISTENING for call in self._calls.values())

    @property
    def noise(self) -> list[str]:
        """The last lines that were no message, shortened."""
        return list(self._noise)

    async def run(self) -> None:
        """Read and write until the stream ends or this is cancelled; then nothing is in flight."""
        reason = f"The hub let go of {self._name[:1].lower()}{self._name[1:]}."
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._outbox.run)
                reason = await self._read()
                tasks.cancel_scope.cancel()
        finally:
            self._end(reason)

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        *,
        caller: Caller | None = None,
        timeout_s: float | None,
    ) -> dict[str, Any]:
        """The server's result, as it came.

        A progress token is set where there is a `caller`, who is given what `params` had for one.

        Args:
            timeout_s: For everything, also what the caller takes; None: for ever.

        Raises:
            RpcError: the server answered with an error.
            TimedOut: it did not answer in time; it has been told that nobody waits any more.
            Unavailable: it ended, or does not read any more.
        """
        if self.ended is not None:
            raise self._unavailable()
        self._count += 1
        id = f"{self._prefix}{self._count}"
        call = Call(method, _Restoring(caller, params) if caller else None)
        line = request_line(id, method, _with_token(params, id) if caller else params)
        is_sent = False
        reason = "The request was cancelled."
        self._calls[id] = call
        try:
            with anyio.move_on_after(timeout_s):
                await self._outbox.send(line)
                is_sent = True
                return await call.outcome()
            reason = "The request timed out."
        finally:
            del self._calls[id]
            call.end()
            if is_sent and not call.is_settled and method not in _NOT_CANCELLED:
                cancelled = {"requestId": id, "reason": reason}
                self._outbox.put(notification_line("notifications/cancelled", cancelled))
        raise TimedOut(
            f"{self._name} did not answer {method} within {timeout_s:g} s.", self._noise_hint()
        )

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        """Send a notification. Raises Unavailable as `request`."""
        if self.ended is not None:
            raise self._unavailable()
        await self._outbox.send(notification_line(method, params))

    async def _read(self) -> str:
        """Take in what comes; why it ended."""
        while True:
            try:
                chunk = await self._stream.receive()
            except Unavailable as error:
                return error.message
            if chunk is None:
                if rest := self._lines.end():
                    self._take(rest)
                return f"{self._name} ended."
            self._talk += len(chunk)
            for line in self._lines.feed(chunk):
                self._take(line)
            for head in self._lines.overlong:
                self._heard(f"(a line beyond the limit) {head.decode(errors='replace')}…")
            self._lines.overlong.clear()
            # A long line is not yet known to be talk.
            is_talk = self._talk - self._lines.size > _TALK_ALLOWED
            await anyio.sleep(_PAUSE_S if is_talk else 0)

    def _take(self, line: bytes) -> None:
        if line[:1] not in b"{[":
            self._heard(line[:_NOISE_WIDTH].decode(errors="replace"))
            return
        try:
            messages = parse(line)
        except ValueError as error:
            self._heard(f"{line[:_NOISE_WIDTH].decode(errors='replace')} ({error})")
            return
        for message in messages:
            if message.is_answer:
                self._answered(message)
            elif message.id is not None:
                self._asked(message)
            else:
                self._told(message)

    def _heard(self, noise: str) -> None:
        self.noise_count += 1
        self._noise.append(noise)
        if self.noise_count <= _NOISE_LOGGED:
            self._log(f"{self._name} wrote what is no message: {noise}")

    def _answered(self, message: Message) -> None:
        call = self._calls.get(message.id) if isinstance(message.id, str) else None
        if call is None or call.is_settled:
            self.strays += 1
            logger.debug("%s answered %r, which nobody waits for", self._name, message.id)
            return
        self._talk = 0
        if message.error is not msgspec.UNSET:
            call.settle(error_of_wire(message.error))
        elif isinstance(message.result, dict):
            call.settle(message.result)
        else:
            call.settle(RpcError(INTERNAL_ERROR, f"{self._name}'s result is not an object."))

    def _told(self, message: Message) -> None:
        method, params = message.method or "", message.params or {}
        if method == "notifications/progress":
            token = params.get("progressToken")
            if isinstance(token, str) and token in self._calls:
                self._calls[token].progress(params)
        elif method == "notifications/cancelled":
            id = params.get("requestId")
            if isinstance(id, int | str) and id in self._questions:
                self._questions[id].cancel()
        elif method == "notifications/message" and (call := self._only_asking()):
            call.log(params)
        elif self._notified is not None:
            self._notified(method, params)

    def _asked(self, message: Message) -> None:
        """Answer a request of the server's, or have its caller do so."""
        id, method = message.id, message.method or ""
        if not isinstance(id, int | str) or id in self._questions:
            self._heard(f"a request with the unusable id {str(id)[:_NOISE_WIDTH]}")
            return
        if method == "ping":
            # A server that asks and does not read gets no answers piled up.
            if not self._outbox.is_full:
                self._outbox.put(result_line(id, {}))
            return
        found = self._whom_to_ask(method)
        if isinstance(found, RpcError):
            if not self._outbox.is_full:
                self._outbox.put(error_line(id, found))
            return
        assert self._tasks is not None
        scope = self._questions[id] = anyio.CancelScope()
        found.questions.add(scope)
        found.context.run(self._tasks.start_soon, self._ask, scope, found, message)

    def _whom_to_ask(self, method: str) -> Call | RpcError:
        if method not in _QUESTIONS:
            return RpcError(METHOD_NOT_FOUND, f"{method[:100]} is nothing that a client does.")
        asking = [call for call in self._calls.values() if call.method in _ASKING]
        if not asking:
            return RpcError(INVALID_REQUEST, f"{method}: no call is in flight that could ask it.")
        if len(asking) > 1:
            return RpcError(
                INVALID_REQUEST,
                f"{method}: it cannot be told which of {len(asking)} calls in flight asks. "
                'Deploy the server with state="per_session".',
            )
        return asking[0]

    async def _ask(self, scope: anyio.CancelScope, call: Call, message: Message) -> None:
        try:
            with scope:
                said = await asked(call.caller, message.method or "", message.params or {})
                self._outbox.put(
                    error_line(message.id, said)
                    if isinstance(said, RpcError)
                    else result_line(message.id, said)
                )
        finally:
            call.questions.discard(scope)
            self._questions.pop(message.id, None)

    def _only_asking(self) -> Call | None:
        """The one call in flight that has somebody to speak to, if it is one."""
        asking = [call for call in self._calls.values() if call.method in _ASKING]
        return asking[0] if len(asking) == 1 and asking[0].caller is not None else None

    def _end(self, reason: str) -> None:
        self.ended = reason
        self._outbox.close(reason)
        for call in self._calls.values():
            call.settle(self._unavailable())

    def _unavailable(self) -> Unavailable:
        return Unavailable(self.ended or "", self._noise_hint())

    def _noise_hint(self) -> str | None:
        if not self._noise:
            return None
        shown = "\n".join(list(self._noise)[-_NOISE_SHOWN:])
        return f"It wrote {self.noise_count} lines that are no message; the last:\n{shown}"


class _Restoring:
    """A caller, who sees its own progress token instead of the channel's."""

    def __init__(self, caller: Caller, params: dict[str, Any]) -> None:
        self._token = (params.get("_meta") or {}).get("progressToken")
        self.log = caller.log
        self.ask = caller.ask
        self._progress = caller.progress

    async def progress(self, params: dict[str, Any]) -> None:
        own = {key: value for key, value in params.items() if key != "progressToken"}
        if self._token is not None:
            own["progressToken"] = self._token
        await self._progress(own)


def _with_token(params: dict[str, Any], token: str) -> dict[str, Any]:
    return {**params, "_meta": {**(params.get("_meta") or {}), "progressToken": token}}
