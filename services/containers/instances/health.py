"""Whether a server that runs still answers."""

from collections.abc import Callable

import anyio

from mcp_hub.adapters.errors import HubError, TimedOut, Unavailable
from mcp_hub.services.containers.specs import Health
from mcp_hub.services.containers.wire.messages import RpcError
from mcp_hub.services.containers.wire.sessions import Session

_SHOWN = 300


async def check(session: Session, health: Health, *, timeout_s: float | None) -> None:
    """Return if the server passes its health check once.

    Raises:
        TimedOut: it did not answer in time.
        Unavailable: it ended, or its tool failed; with what the tool said.
    """
    if health.tool is None:
        await session.ping(timeout_s or health.timeout_s)
        return
    asked = {"name": health.tool, "arguments": health.arguments}
    try:
        result = await session.request("tools/call", asked, timeout_s=timeout_s)
    except RpcError as error:
        raise _failed(health.tool, error.message) from error
    if result.get("isError") is True:
        texts = [block.get("text", "") for block in result.get("content") or []]
        raise _failed(health.tool, " ".join(texts))


def _failed(tool: str, said: str) -> Unavailable:
    return Unavailable(
        f"its health check, the tool {tool!r}, failed: {said[:_SHOWN]}",
        "Deploy it with a health check that fits: health={tool, arguments}, or none for ping.",
    )


async def until_sick(session: Session, health: Health, answered: Callable[[], int]) -> HubError:
    """Return why, once the server has failed `health.failures` checks in a row.

    Args:
        answered: How many calls it has ended: one that it answers is as good as a check.
    """
    failures, seen = 0, answered()
    while True:
        await anyio.sleep(health.every_s)
        if answered() != seen:
            failures, seen = 0, answered()
            continue
        try:
            await check(session, health, timeout_s=health.timeout_s)
            failures = 0
        except (TimedOut, Unavailable) as error:
            failures += 1
            if failures >= health.failures:
                return error
