"""Results that ask for input, resolved for a caller who can be asked in the middle of a call."""

from collections.abc import Mapping
from time import monotonic
from typing import Any, Protocol

import anyio

from mcp_hub.adapters.errors import HubError, TimedOut
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.messages import INTERNAL_ERROR, RpcError

MAX_ROUNDS = 10
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.25


class Request(Protocol):
    """`Session.request`, or what leads to it."""

    async def __call__(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        caller: Caller | None,
        timeout_s: float,
    ) -> dict[str, Any]: ...


def is_input_required(result: Mapping[str, Any]) -> bool:
    """Whether a server of 2026-07-28 wants input before it goes on."""
    return result.get("resultType") == "input_required"


async def resolving(
    request: Request,
    method: str,
    params: Mapping[str, Any],
    *,
    caller: Caller,
    timeout_s: float,
) -> dict[str, Any]:
    """The final result: whatever the server wants to know, `caller` is asked, and it called again.

    All questions of one result are asked at once. Between two calls the server holds nothing but
    what is in `requestState`, which is given back as it came.

    Raises:
        RpcError: the server's error; the caller's, who cannot be asked; or the server asks
            without end.
        TimedOut: all of it took longer than `timeout_s`.
        Unavailable: as `request`.
    """
    until = monotonic() + timeout_s
    pause = _PAUSE_S
    again: dict[str, Any] = {}
    for _ in range(MAX_ROUNDS + 1):
        result = await request(
            method, {**params, **again}, caller=caller, timeout_s=max(0.0, until - monotonic())
        )
        if not is_input_required(result):
            return result
        again = {}
        if "requestState" in result:
            again["requestState"] = result["requestState"]
        if questions := _questions(result):
            pause = _PAUSE_S
            again["inputResponses"] = await _answers(questions, caller, until, timeout_s)
        else:
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    raise RpcError(
        INTERNAL_ERROR, f"The server asked for input {MAX_ROUNDS} times over, and wants still more."
    )


def _questions(result: Mapping[str, Any]) -> dict[str, Any]:
    questions = result.get("inputRequests")
    return questions if isinstance(questions, dict) else {}


async def _answers(
    questions: dict[str, Any], caller: Caller, until: float, timeout_s: float
) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    refused: list[RpcError | HubError] = []

    async def ask(key: str, question: Any) -> None:
        try:
            if not isinstance(question, dict) or not isinstance(question.get("method"), str):
                raise RpcError(INTERNAL_ERROR, f"The server's question {key!r} has no method.")
            answers[key] = await caller.ask(question["method"], question.get("params") or {})
        except (RpcError, HubError) as error:
            refused.append(error)
            tasks.cancel_scope.cancel()

    with anyio.move_on_after(until - monotonic()):
        async with anyio.create_task_group() as tasks:
            for key, question in questions.items():
                tasks.start_soon(ask, key, question)
        if refused:
            raise refused[0]
        return answers
    raise TimedOut(f"The caller did not answer what the server asked within {timeout_s:g} s.")
