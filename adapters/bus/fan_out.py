"""What every bus does inside a process: one listener to the outside, many subscribers within."""

import asyncio
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from mcp_hub.adapters.errors import Unavailable

logger = logging.getLogger(__name__)

_BUFFER = 1000

Listen = Callable[[], Coroutine[Any, Any, None]]


class _Subscriber(NamedTuple):
    send: MemoryObjectSendStream[str]
    receive: MemoryObjectReceiveStream[str]


class FanOutBus(ABC):
    """A bus whose subscribers in this process are told directly, and others by `_send`.

    One asyncio task listens to other processes. It belongs to the bus, not to a request: it lives
    from the first subscription to the end of the last.
    """

    def __init__(self) -> None:
        self._origin = secrets.token_hex(8)
        self._subscribers: set[_Subscriber] = set()
        self._starting = anyio.Lock()
        self._listener: asyncio.Task[None] | None = None
        self._closed = False

    @abstractmethod
    async def _send(self, topic: str) -> None:
        """Tell other processes, marked as coming from `self._origin`. Raises Unavailable."""

    @abstractmethod
    async def _connect(self) -> Listen:
        """Take note of where notices begin; what then delivers them until it is cancelled.

        Raises Unavailable.
        """

    async def publish(self, topic: str) -> None:
        self._deliver(topic)
        try:
            await self._send(topic)
        except Unavailable as error:
            logger.warning("Other processes were not told that %s changed: %s", topic, error)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[MemoryObjectReceiveStream[str]]:
        send, receive = anyio.create_memory_object_stream[str](_BUFFER)
        subscriber = _Subscriber(send, receive)
        with send, receive, receive.clone() as stream:
            try:
                if self._closed:
                    send.close()
                else:
                    self._subscribers.add(subscriber)
                    await self._start()
                yield stream
            finally:
                self._subscribers.discard(subscriber)
                if not self._subscribers:
                    await self._stop()

    async def close(self) -> None:
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.send.close()
        self._subscribers.clear()
        await self._stop()

    def _deliver(self, topic: str) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber.send.send_nowait(topic)
            except anyio.WouldBlock:
                subscriber.receive.receive_nowait()
                subscriber.send.send_nowait(topic)

    async def _start(self) -> None:
        async with self._starting:
            if self._listener is None:
                listen = await self._connect()
                if not self._closed:
                    self._listener = asyncio.create_task(listen(), name="mcp-hub bus")

    async def _stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([listener])
