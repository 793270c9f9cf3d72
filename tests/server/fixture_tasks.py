"""Tools that the conformance tool expects of a server with tasks, and what they start."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import anyio
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import INTERNAL_ERROR, CallToolResult, InputRequiredResult, TextContent

from mcp_hub.server.following import Offer, State
from mcp_hub.server.tasks import IDENTIFIER
from tests.server.fixture_tools import Ctx, accepted, elicitation, need


@dataclass
class Run:
    """Something that lasts until a time by `time.monotonic`, and then ends in `state`."""

    until: float
    state: State


class Runs:
    """A follower of runs, which go on for as long as this process does."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._numbers = count()

    def start(self, seconds: float, state: State) -> str:
        run = f"run {next(self._numbers)}"
        self._runs[run] = Run(time.monotonic() + seconds, state)
        return run

    def subject(self, result: CallToolResult) -> str | None:
        [content] = result.content
        assert isinstance(content, TextContent)
        return content.text if content.text in self._runs else None

    async def look(self, subject: str, *, wait_s: float = 0) -> State:
        run = self._runs[subject]
        return run.state if time.monotonic() >= run.until else State("working", subject)

    async def cancel(self, subject: str) -> None:
        run = self._runs[subject]
        if time.monotonic() < run.until:
            self._runs[subject] = Run(0, State("cancelled"))


RUNS = Runs()


def _completed(text: str, *, is_error: bool = False) -> State:
    content = [{"type": "text", "text": text}]
    return State("completed", result={"content": content, "isError": is_error})


def _declares_tasks(ctx: Ctx) -> bool:
    able = ctx.client_capabilities
    return able is not None and IDENTIFIER in (able.extensions or {})


async def greet(name: str) -> str:
    """Greet at once: never a task."""
    return f"Hello, {name}!"


async def slow_compute(ctx: Ctx, seconds: float, label: str = "") -> str:
    """Take some seconds: in a task, or while the client waits."""
    done = f"{label} computed for {seconds:g} s"
    if _declares_tasks(ctx):
        return RUNS.start(seconds, _completed(done))
    await anyio.sleep(seconds)
    return done


async def failing_job() -> str:
    """Fail, as a tool does, after a second."""
    return RUNS.start(1, _completed("This job always fails.", is_error=True))


async def protocol_error_job(ctx: Ctx) -> str:
    """Break, as a request does, after a second."""
    if not _declares_tasks(ctx):
        raise ToolError("broken")
    error = {"code": INTERNAL_ERROR, "message": "This job always breaks."}
    return RUNS.start(1, State("failed", error=error))


Answer = str | InputRequiredResult


async def confirm_delete(ctx: Ctx, filename: str) -> Answer:
    """Ask whether a file may go."""
    confirmed = accepted(ctx, "confirmation", "confirm")
    if confirmed is None:
        return need(confirmation=elicitation(f"Delete {filename}?", confirm="boolean"))
    return f"deleted {filename}" if confirmed else f"kept {filename}"


async def multi_input(ctx: Ctx) -> Answer:
    """Ask two things at once."""
    first, second = accepted(ctx, "first", "name"), accepted(ctx, "second", "name")
    if first is None or second is None:
        return need(
            first=elicitation("The first name?", name="string"),
            second=elicitation("The second name?", name="string"),
        )
    return json.dumps([first, second])


async def test_tool_with_task(ctx: Ctx) -> Answer:
    """Ask first, and then go on in a task."""
    name = accepted(ctx, "user_name", "name")
    if name is None:
        return need(user_name=elicitation("What is your name?", name="string"))
    return RUNS.start(0.5, _completed(f"Hello, {name}!"))


TASK_TOOLS: list[Callable[..., Awaitable[Any]]] = [
    greet, slow_compute, failing_job, protocol_error_job, confirm_delete, multi_input,
    test_tool_with_task,
]  # fmt: skip

OFFERS = {
    "slow_compute": Offer(RUNS),
    "failing_job": Offer(RUNS, required=True),
    "protocol_error_job": Offer(RUNS),
    "confirm_delete": Offer(waits=True),
    "multi_input": Offer(waits=True),
    "test_tool_with_task": Offer(RUNS, required=True),
}
