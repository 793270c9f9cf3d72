"""The cache of one process: a dictionary of a bounded size."""

import time
from collections import OrderedDict

from mcp_hub.adapters.cache.locking import LockingCache


class MemoryCache(LockingCache):
    """Values and locks in this process; the least recently used give way over `max_bytes`."""

    def __init__(self, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._locks: dict[str, tuple[str, float]] = {}
        self._fence = 0

    async def get(self, key: str) -> bytes | None:
        found = self._values.get(key)
        if found is None:
            return None
        value, ends_at = found
        if time.monotonic() >= ends_at:
            self._forget(key)
            return None
        self._values.move_to_end(key)
        return value

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        self._forget(key)
        if ttl_s <= 0 or len(value) > self._max_bytes:
            return
        self._values[key] = (value, time.monotonic() + ttl_s)
        self._bytes += len(value)
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._values)))

    async def delete(self, key: str) -> None:
        self._forget(key)

    async def check(self) -> str:
        return f"in this process, {self._bytes:,} bytes"

    async def close(self) -> None:
        self._values.clear()
        self._bytes = 0

    def _forget(self, key: str) -> None:
        value, _ = self._values.pop(key, (b"", 0.0))
        self._bytes -= len(value)

    async def _acquire(self, name: str, owner: str, ttl_s: float) -> int | None:
        _, ends_at = self._locks.get(name, ("", 0.0))
        if time.monotonic() < ends_at:
            return None
        self._locks[name] = (owner, time.monotonic() + ttl_s)
        self._fence += 1
        return self._fence

    async def _renew(self, name: str, owner: str, ttl_s: float) -> bool:
        holder, ends_at = self._locks.get(name, ("", 0.0))
        if holder != owner or time.monotonic() >= ends_at:
            return False
        self._locks[name] = (owner, time.monotonic() + ttl_s)
        return True

    async def _release(self, name: str, owner: str) -> None:
        if self._locks.get(name, ("", 0.0))[0] == owner:
            del self._locks[name]
