"""A request that waits for its answer, and what its caller is told and asked meanwhile."""

import logging
from collections import deque
from contextvars import copy_context
from typing import Any, Protocol

import anyio

from mcp_hub.adapters.errors import HubError
from mcp_hub.services.containers.wire.messages import INTERNAL_ERROR, INVALID_REQUEST, RpcError

logger = logging.getLogger(__name__)

_EVENTS_KEPT = 256


class Caller(Protocol):
    """Who a request is made for: the hub's own client, as the one who serves it knows it."""

    async def progress(self, params: dict[str, Any]) -> None:
        """`{progress, total?, message?}`: how far the request is."""
        ...

    async def log(self, params: dict[str, Any]) -> None:
        """`{level, data, logger?}`: what the server has to say."""
        ...

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The answer to `elicitation/create`, `sampling/createMessage` or `roots/list`.

        Raises:
            RpcError: the client refuses, or cannot be asked such a thing.
        """
        ...


class Call:
    """One request in flight.

    The reader of the wire, who must not wait, leaves here what came; `outcome`, which runs in the
    task that made the request, hands it to the caller at the caller's pace.
    """

    def __init__(self, method: str, caller: Caller | None) -> None:
        self.method = method
        self.caller = caller
        self.context = copy_context()
        """What the caller is asked in: its trace, and whatever else belongs to it."""
        self.questions: set[anyio.CancelScope] = set()
        """What the caller is being asked: cancelled when the call ends."""
        self._events: deque[tuple[bool, dict[str, Any]]] = deque(maxlen=_EVENTS_KEPT)
        self._changed = anyio.Event()
        self._outcome: dict[str, Any] | Exception | None = None

    @property
    def is_settled(self) -> bool:
        return self._outcome is not None

    def progress(self, params: dict[str, Any]) -> None:
        """Leave a notice for the caller. Of more than it takes in time the oldest are lost."""
        self._events.append((True, params))
        self._changed.set()

    def log(self, params: dict[str, Any]) -> None:
        """Leave a line for the caller; else as `progress`."""
        self._events.append((False, params))
        self._changed.set()

    def settle(self, outcome: dict[str, Any] | Exception) -> None:
        """End the call; only the first outcome counts."""
        if self._outcome is None:
            self._outcome = outcome
            self._changed.set()

    async def outcome(self) -> dict[str, Any]:
        """The result, or the error raised, after all that came before it has been handed on."""
        while True:
            while self._events and self.caller is not None:
                is_progress, params = self._events.popleft()
                await (self.caller.progress(params) if is_progress else self.caller.log(params))
            if isinstance(self._outcome, Exception):
                raise self._outcome
            if self._outcome is not None:
                return self._outcome
            await self._changed.wait()
            self._changed = anyio.Event()

    def end(self) -> None:
        """Nobody waits any more: withdraw what the caller is being asked."""
        for question in self.questions:
            question.cancel()


async def asked(
    caller: Caller | None, method: str, params: dict[str, Any]
) -> dict[str, Any] | RpcError:
    """What `caller` says to a question, whose wording is the server's; why not, if it cannot."""
    if caller is None:
        return RpcError(INVALID_REQUEST, f"{method}: the caller cannot be asked.")
    try:
        return await caller.ask(method, params)
    except RpcError as error:
        return error
    except HubError as error:
        return RpcError(INTERNAL_ERROR, error.message, error.as_dict())
    except Exception:  # the question ends here
        logger.exception("%s failed", method)
        return RpcError(INTERNAL_ERROR, f"{method} failed inside the hub.")
