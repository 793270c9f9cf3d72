"""Loaded models, kept within a budget of memory."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import anyio

S = TypeVar("S")

# Measured with onnxruntime 1.32: tree ensembles take 4.0 to 4.4 times the size of their file, and
# a small linear model some hundred KiB.
_BYTES_PER_FILE_BYTE = 5
_LEAST_BYTES = 256 << 10


def estimated_bytes(file_bytes: int) -> int:
    """The memory that the session of an ONNX file of `file_bytes` is counted with."""
    return _LEAST_BYTES + _BYTES_PER_FILE_BYTE * file_bytes


@dataclass(slots=True)
class SessionStats:
    """What the cache holds now, and what it has done since it was made."""

    held: int = 0
    bytes: int = 0
    loaded: int = 0
    evicted: int = 0


class SessionCache(Generic[S]):
    """Sessions by key; where the budget is passed, those used least recently go.

    A session is loaded once however many callers ask for it at the same time. One that passes the
    budget all alone is kept alone: to serve it, it must be in memory anyway.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._sessions: OrderedDict[str, tuple[S, int]] = OrderedDict()
        # A lock lives as long as somebody loads its key or waits for it.
        self._loading: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self.stats = SessionStats()

    async def get(self, key: str, size: int, load: Callable[[], Awaitable[S]]) -> S:
        """The session of `key`, loaded by `load` where it is not there; it counts `size` bytes."""
        if (session := self._held(key)) is not None:
            return session
        lock = self._loading.setdefault(key, anyio.Lock())
        async with lock:
            if (session := self._held(key)) is not None:
                return session
            session = await load()
            self.stats.loaded += 1
            self._keep(key, session, size)
            return session

    def _held(self, key: str) -> S | None:
        if key not in self._sessions:
            return None
        self._sessions.move_to_end(key)
        return self._sessions[key][0]

    def _keep(self, key: str, session: S, size: int) -> None:
        self._sessions[key] = (session, size)
        self.stats.bytes += size
        while self.stats.bytes > self._budget_bytes and len(self._sessions) > 1:
            _, (_, freed) = self._sessions.popitem(last=False)
            self.stats.bytes -= freed
            self.stats.evicted += 1
        self.stats.held = len(self._sessions)
