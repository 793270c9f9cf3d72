"""Sessions of the hub's clients that end with this process or before: with each goes what it had to
itself."""

import logging
from collections.abc import Collection
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from mcp_hub.adapters.errors import HubError

logger = logging.getLogger(__name__)

_END_S = 4.0


class End(Protocol):
    async def __call__(self, sessions: Collection[str], *, is_last: bool = False) -> None:
        """Remove what sessions had to themselves. Raises HubErrors."""
        ...


class Sessions:
    def __init__(self, tasks: TaskGroup, end: End) -> None:
        self._tasks = tasks
        self._end = end
        self._open: set[str] = set()
        self._is_closing = False

    def opened(self, session: str) -> bool:
        """Note a session that ends with this process, if not before; False if it is known."""
        is_new = session not in self._open
        self._open.add(session)
        return is_new

    def ended(self, session: str) -> None:
        """Have removed what a session had to itself; returns at once."""
        if not self._is_closing:
            self._tasks.start_soon(self._remove, {session})

    async def end_all(self) -> None:
        """End all that are open, since this process ends; returns within some seconds."""
        self._is_closing = True
        with anyio.move_on_after(_END_S):
            await self._remove(self._open)

    async def _remove(self, sessions: Collection[str]) -> None:
        if not sessions:
            return
        try:
            await self._end(sessions, is_last=self._is_closing)
        except HubError as error:
            logger.warning("What sessions had to themselves is left until it is idle: %s", error)
        self._open.difference_update(sessions)
