"""Change notices: from the bus, which all hub processes share, to the clients that asked."""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp.types import SubscriptionsListenRequestParams, SubscriptionsListenResult

from mcp_hub.adapters.errors import HubError
from mcp_hub.services.hub import HubProvider
from mcp_hub.tools.connections import connection_of

logger = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 5.0
_TRY_AGAIN_S = 2.0
_FOLLOW_S = 2.0

_LIST_CHANGED: dict[str, ServerEvent] = {
    "resources/list_changed": ResourcesListChanged(),
    "tools/list_changed": ToolsListChanged(),
    "prompts/list_changed": PromptsListChanged(),
}
_TOPICS = {event: topic for topic, event in _LIST_CHANGED.items()}


class Notices:
    """The SDK's `SubscriptionBus` over the hub's bus, and the subscriptions of 2025-era sessions.

    A topic is a resource URI, or `resources/list_changed` and the like. What lies below a URI
    (`training://jobs/{id}/logs`, `models://{name}/versions/{n}`) changes when it does. Nothing is
    watched before the first subscription, so that an idle server leaves the hub unopened.
    """

    def __init__(self, hub: HubProvider) -> None:
        self._hub = hub
        self._local = InMemorySubscriptionBus()
        self._handler = ListenHandler(self)
        self._listened: Counter[str] = Counter()
        self._sessions: dict[Connection, set[str]] = {}
        self._one_relay = anyio.Lock()
        self._wanted = anyio.Event()
        self._watching = anyio.Event()

    async def publish(self, event: ServerEvent) -> None:
        """Tell the subscribers of every hub process of `event`."""
        topic = event.uri if isinstance(event, ResourceUpdated) else _TOPICS[event]
        await (await self._hub()).bus.publish(topic)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register a listener of this process; returns what removes it."""
        return self._local.subscribe(listener)

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one `subscriptions/listen` stream (2026-07-28)."""
        uris = params.notifications.resource_subscriptions or []
        await self.watching()
        self._listened.update(uris)
        try:
            return await self._handler(ctx, params)
        finally:
            self._listened.subtract(uris)
            self._listened += Counter()  # drops what nobody listens to any more

    async def watching(self) -> None:
        """Return once changes are noticed. Raises HubError when the hub cannot be opened."""
        await self._hub()
        self._wanted.set()
        await self._watching.wait()

    async def subscribe_session(self, session: ServerSession, uri: str) -> None:
        """Have `session` (2025-11-25 and before) told when `uri` changes, until it ends."""
        await self.watching()
        self._subscriptions(session).add(uri)

    def unsubscribe_session(self, session: ServerSession, uri: str) -> None:
        self._subscriptions(session).discard(uri)

    async def follow_list(self, session: ServerSession, topic: str, *, watch: bool) -> None:
        """Have `session`, which is to see a list, told when it changes: with `watch` from now on,
        else from when changes are noticed for another reason. The list does not wait for a hub
        that does not open."""
        self._subscriptions(session).add(topic)
        if watch:
            with suppress(HubError), anyio.move_on_after(_FOLLOW_S):
                await self.watching()

    def watch(self) -> None:
        """Begin to notice changes, if anybody wants to be told."""
        if self._sessions:
            self._wanted.set()

    def close_streams(self) -> None:
        """End every listen stream as the protocol wants it, before the transport goes away."""
        self._handler.close()

    @property
    def subscribers(self) -> int:
        """How many listen streams' URIs and sessions are subscribed now."""
        return self._listened.total() + len(self._sessions)

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Pass notices on while the context lasts; of several contexts, one relays at a time."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._relay)
            yield
            tasks.cancel_scope.cancel()

    def _subscriptions(self, session: ServerSession) -> set[str]:
        connection = connection_of(session)
        if connection not in self._sessions:
            self._sessions[connection] = set()
            connection.exit_stack.callback(self._sessions.pop, connection, None)
        return self._sessions[connection]

    async def _relay(self) -> None:
        async with self._one_relay:
            await self._wanted.wait()
            while True:
                try:
                    await self._pass_on_all()
                    return
                except HubError as error:
                    logger.warning("Changes go unnoticed for now: %s", error)
                    await anyio.sleep(_TRY_AGAIN_S)

    async def _pass_on_all(self) -> None:
        """Pass on what the bus says, until it closes."""
        async with (await self._hub()).bus.subscribe() as topics:
            self._watching.set()
            try:
                async for topic in topics:
                    await self._pass_on(topic)
            finally:
                self._watching = anyio.Event()

    async def _pass_on(self, topic: str) -> None:
        listed = _LIST_CHANGED.get(topic)
        if listed is not None:
            await self._local.publish(listed)
        else:
            for uri in {topic, *(uri for uri in self._listened if _within(uri, topic))}:
                await self._local.publish(ResourceUpdated(uri=uri))
        async with anyio.create_task_group() as tasks:
            for connection, subscribed in list(self._sessions.items()):
                told = [uri for uri in subscribed if uri == topic or _within(uri, topic)]
                if told:
                    tasks.start_soon(self._tell, connection, told)

    async def _tell(self, connection: Connection, uris: list[str]) -> None:
        with anyio.move_on_after(_SEND_TIMEOUT_S) as deadline:
            for uri in uris:
                if uri == "tools/list_changed":
                    await connection.send_tool_list_changed()
                elif uri == "prompts/list_changed":
                    await connection.send_prompt_list_changed()
                elif uri == "resources/list_changed":
                    await connection.send_resource_list_changed()
                else:
                    await connection.send_resource_updated(uri)
        if deadline.cancelled_caught:
            logger.warning("A client that takes no notices has lost its subscriptions")
            self._sessions.pop(connection, None)


def _within(uri: str, topic: str) -> bool:
    return uri.startswith(f"{topic}/")
