"""What locks of every cache share: waiting for one, and renewing it while it is held."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from mcp_hub.adapters.cache.port import Lock
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.ids import new_id

_LOOK_AGAIN_S = 0.05


class LockingCache(ABC):
    """Locks over three operations, each atomic."""

    @abstractmethod
    async def _acquire(self, name: str, owner: str, ttl_s: float) -> int | None:
        """Take the lock if nobody holds it: its fence, or None."""

    @abstractmethod
    async def _renew(self, name: str, owner: str, ttl_s: float) -> bool:
        """Hold it for `ttl_s` from now, if `owner` holds it still."""

    @abstractmethod
    async def _release(self, name: str, owner: str) -> None:
        """Give it up, if `owner` holds it still."""

    @asynccontextmanager
    async def lock(
        self, name: str, ttl_s: float, *, wait_s: float = 0
    ) -> AsyncIterator[Lock | None]:
        owner = new_id("lock")
        fence = await self._acquire(name, owner, ttl_s)
        deadline = anyio.current_time() + wait_s
        while fence is None and anyio.current_time() < deadline:
            await anyio.sleep(_LOOK_AGAIN_S)
            fence = await self._acquire(name, owner, ttl_s)
        if fence is None:
            yield None
            return
        lock = Lock(fence)
        # A task group would wrap what is raised inside the context.
        keeper = asyncio.create_task(self._keep(lock, name, owner, ttl_s), name="mcp-hub lock")
        try:
            yield lock
        finally:
            keeper.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([keeper])
                await self._let_go(name, owner)

    async def _keep(self, lock: Lock, name: str, owner: str, ttl_s: float) -> None:
        renewed_at = anyio.current_time()
        while lock.held:
            await anyio.sleep(ttl_s / 3)
            try:
                lock.held = await self._renew(name, owner, ttl_s)
                renewed_at = anyio.current_time()
            except Unavailable:
                lock.held = anyio.current_time() < renewed_at + ttl_s

    async def _let_go(self, name: str, owner: str) -> None:
        try:
            await self._release(name, owner)
        except Unavailable:
            # It ends by itself.
            return
