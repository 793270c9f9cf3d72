"""Calls that wait for an answer of a client which cannot be asked while they run.

A client of 2026-07-28 gets a question as the result of its call, and makes the call again with the
answer. A server of an earlier protocol asks in the middle of the call, which meanwhile waits here:
in the memory of this process, since so does the server's request.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from mcp_hub.adapters.errors import LimitExceeded, Unavailable
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.messages import INTERNAL_ERROR, RpcError

PREFIX = "mcp-hub."
"""What the request state of a call that waits here begins with."""
MAX_SUSPENDED = 256
KEPT_S = 120.0
"""How long an outcome that nobody fetches is kept."""
_QUESTION = "question"

Work = Callable[[Caller], Awaitable[dict[str, Any]]]


class _Suspended:
    """A call under way, the caller of its server's."""

    def __init__(self, owner: str, caller: Caller) -> None:
        self.owner = owner
        self.caller: Caller | None = caller
        self.scope = anyio.CancelScope()
        self.question: dict[str, Any] | None = None
        self.answer: dict[str, Any] | None = None
        self.outcome: dict[str, Any] | Exception | None = None
        self.changed = anyio.Event()
        self._one_question = anyio.Lock()

    async def progress(self, params: dict[str, Any]) -> None:
        if self.caller is not None:
            await self.caller.progress(params)

    async def log(self, params: dict[str, Any]) -> None:
        if self.caller is not None:
            await self.caller.log(params)

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        async with self._one_question:
            self.question, self.answer = {"method": method, "params": params}, None
            self.change()
            return await self._answered()

    async def _answered(self) -> dict[str, Any]:
        while self.answer is None:
            await self.changed.wait()
        return self.answer

    def change(self) -> None:
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


class Suspending:
    """Runs calls beside the requests that made them, which end when there is a question."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._suspended: dict[str, _Suspended] = {}

    async def begin(self, owner: str, work: Work, caller: Caller) -> dict[str, Any]:
        """The result of `work`, or a result that asks for input and whose request state leads back
        here.

        `owner` is who may answer, and of what call. Raises what `work` raises.
        """
        if len(self._suspended) >= MAX_SUSPENDED:
            raise LimitExceeded(f"{MAX_SUSPENDED} calls wait for answers already.", "Try later.")
        state = PREFIX + secrets.token_urlsafe(24)
        call = self._suspended[state] = _Suspended(owner, caller)
        self._tasks.start_soon(self._run, state, call, work)
        return await self._next(state, call)

    async def go_on(
        self, owner: str, state: str, answers: dict[str, Any], caller: Caller
    ) -> dict[str, Any]:
        """As `begin`, for the call that `state` names, with the answer to its question.

        Raises:
            Unavailable: no such call of this owner waits in this process.
        """
        call = self._suspended.get(state)
        if call is None or call.owner != owner:
            raise Unavailable(
                "The call that asked for this is no longer there: it timed out, or waits in "
                "another process of the hub.",
                "Make the call again from the beginning.",
            )
        call.caller = caller
        if call.question is not None and _QUESTION in answers:
            call.question, call.answer = None, answers[_QUESTION]
            call.change()
        return await self._next(state, call)

    async def _next(self, state: str, call: _Suspended) -> dict[str, Any]:
        """Wait for the call's end or next question; who is cancelled meanwhile cancels it."""
        try:
            while call.outcome is None and call.question is None:
                await call.changed.wait()
        except BaseException:
            call.scope.cancel()
            raise
        finally:
            call.caller = None
        if call.outcome is None:
            return {
                "resultType": "input_required",
                "inputRequests": {_QUESTION: call.question},
                "requestState": state,
            }
        self._suspended.pop(state, None)
        if isinstance(call.outcome, Exception):
            raise call.outcome
        return call.outcome

    async def _run(self, state: str, call: _Suspended, work: Work) -> None:
        with call.scope:
            try:
                call.outcome = await work(call)
            except Exception as error:  # noqa: BLE001 - raised where the call is waited for
                call.outcome = error
        call.outcome = call.outcome or RpcError(INTERNAL_ERROR, "The call was cancelled.")
        call.question = None
        call.change()
        if call.scope.cancel_called:
            self._suspended.pop(state, None)
            return
        await anyio.sleep(KEPT_S)
        self._suspended.pop(state, None)
