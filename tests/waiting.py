"""Waiting for a condition, with a deadline."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable

import anyio


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], *, within_s: float = 20
) -> None:
    """Return once `condition` is true; TimeoutError if it is not within `within_s` seconds."""
    with anyio.fail_after(within_s):
        while True:
            result = condition()
            if await result if isawaitable(result) else result:
                return
            await anyio.sleep(0.02)
