"""Waiting for what an attempt needs while it is out of reach."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from mcp_hub.adapters.errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PATIENCE_S = 120.0
"""How long an attempt waits for a server that does not answer before it is given up."""


async def patiently(
    call: Callable[[], Awaitable[T]], remedy: Callable[[], Awaitable[None]] | None = None
) -> T:
    """What `call` returns, tried again while what it needs is out of reach, but not for ever.

    Before each further try, `remedy` may do something about it.
    """
    give_up_at = anyio.current_time() + _PATIENCE_S
    delay_s = 0.1
    while True:
        try:
            return await call()
        except Unavailable as error:
            if anyio.current_time() + delay_s > give_up_at:
                raise
            logger.warning("Trying again in %.1f s: %s", delay_s, error)
            if remedy is not None:
                await remedy()
        await anyio.sleep(delay_s)
        delay_s = min(delay_s * 2, 5.0)
