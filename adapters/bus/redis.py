"""The bus on Redis: pub/sub on one channel."""

import asyncio
import logging
from functools import partial

from redis.asyncio.client import PubSub

from mcp_hub.adapters import redis_client
from mcp_hub.adapters.bus.fan_out import FanOutBus, Listen
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.urls import without_secret

logger = logging.getLogger(__name__)

_RECONNECT_S = 0.5
_LOOK_S = 5.0
_SEND_S = 2.0
"""How long what is done already waits for a notice to be taken."""


class RedisBus(FanOutBus):
    """Notices on the channel `{prefix}:bus`, each as its origin and topic."""

    def __init__(self, url: str, prefix: str = "mcp-hub") -> None:
        super().__init__()
        self._url = url
        self._channel = f"{prefix}:bus"
        self._redis = redis_client.connect(url)

    async def check(self) -> str:
        return await redis_client.describe(self._redis, self._url)

    async def close(self) -> None:
        await super().close()
        await self._redis.aclose()

    async def _send(self, topic: str) -> None:
        try:
            async with asyncio.timeout(_SEND_S):
                with redis_client.translated(self._url):
                    await self._redis.publish(self._channel, f"{self._origin} {topic}")
        except TimeoutError as error:
            raise Unavailable(
                f"Redis at {without_secret(self._url)} did not answer within {_SEND_S:g} s.",
                "See what keeps it busy.",
            ) from error

    async def _connect(self) -> Listen:
        return partial(self._listen, await self._open())

    async def _open(self) -> PubSub:
        """A connection that Redis has confirmed to be subscribed."""
        channel = self._redis.pubsub()
        with redis_client.translated(self._url):
            await channel.subscribe(self._channel)
            confirmed = await channel.get_message(timeout=redis_client.ANSWER_TIMEOUT_S)
            if confirmed is None:
                await channel.aclose()  # type: ignore[no-untyped-call]
                raise Unavailable("Redis did not confirm the subscription.", "Try again.")
        return channel

    async def _listen(self, channel: PubSub) -> None:
        try:
            while True:
                try:
                    with redis_client.translated(self._url):
                        message = await channel.get_message(
                            ignore_subscribe_messages=True, timeout=_LOOK_S
                        )
                except Unavailable as error:
                    logger.warning("Notices of other processes are lost meanwhile: %s", error)
                    await channel.aclose()  # type: ignore[no-untyped-call]
                    channel = await self._reopen()
                    continue
                if message is not None:
                    origin, _, topic = message["data"].decode().partition(" ")
                    if origin != self._origin:
                        self._deliver(topic)
        finally:
            await channel.aclose()  # type: ignore[no-untyped-call]

    async def _reopen(self) -> PubSub:
        while True:
            try:
                return await self._open()
            except Unavailable:
                await asyncio.sleep(_RECONNECT_S)
