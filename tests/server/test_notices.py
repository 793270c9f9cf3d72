"""Clients of both eras are told what changes, also by another process on the same data."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp import Client, MCPError
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.types import (
    ResourceListChangedNotification,
    ResourceUpdatedNotification,
)

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.server.app import create_server
from mcp_hub.server.hub_server import HubServer
from mcp_hub.server.notices import Notices
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub, HubProvider
from tests.processes import call, hub_environment, stdio_client
from tests.waiting import eventually

LIST_CHANGED = "list changed"


@asynccontextmanager
async def modern(
    server: Any, *uris: str, listed: bool = False
) -> AsyncIterator[MemoryObjectReceiveStream[str]]:
    """What a 2026-07-28 client is told, in order."""
    send, receive = anyio.create_memory_object_stream[str](100)
    async with (
        Client(server, read_timeout_seconds=30) as client,
        client.listen(resource_subscriptions=uris, resources_list_changed=listed) as subscription,
        anyio.create_task_group() as tasks,
    ):

        async def hear() -> None:
            async for event in subscription:
                if isinstance(event, ResourceUpdated):
                    await send.send(event.uri)
                elif isinstance(event, ResourcesListChanged):
                    await send.send(LIST_CHANGED)

        tasks.start_soon(hear)
        with send, receive:
            yield receive
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def legacy(
    server: Any, *uris: str, listed: bool = False
) -> AsyncIterator[MemoryObjectReceiveStream[str]]:
    """What a 2025-11-25 client is told, in order."""
    send, receive = anyio.create_memory_object_stream[str](100)

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            await send.send(str(message.params.uri))
        elif isinstance(message, ResourceListChangedNotification):
            await send.send(LIST_CHANGED)

    async with Client(
        server, mode="legacy", message_handler=hear, read_timeout_seconds=30
    ) as client:
        for uri in uris:
            with pytest.warns(match="removed"):
                await client.subscribe_resource(uri)
        if listed:
            await client.list_resources()
        with send, receive:
            yield receive


watchers = pytest.mark.parametrize("watch", [modern, legacy])


@watchers
async def test_a_change_by_another_process_is_noticed(
    server: HubServer, tmp_path: Path, watch: Any
) -> None:
    async with (
        watch(server, "datasets://flowers", listed=True) as told,
        stdio_client(hub_environment(tmp_path)) as other,
    ):
        await call(other, "dataset_register", name="flowers", content="a,b\n1,2\n3,4\n")
        with anyio.fail_after(20):
            assert {await told.receive(), await told.receive()} == {
                "datasets://flowers",
                LIST_CHANGED,
            }


@watchers
async def test_what_lies_below_a_changed_uri_changes_with_it(
    server: HubServer, hub: Hub, watch: Any
) -> None:
    uris = ["training://jobs/job_a/logs", "training://jobs/job_ab", "models://m/versions/1"]
    async with watch(server, *uris) as told:
        await hub.bus.publish("training://jobs/job_a")
        await hub.bus.publish("models://m")
        with anyio.fail_after(10):
            assert await told.receive() == "training://jobs/job_a/logs"
            assert await told.receive() == "models://m/versions/1"


@watchers
async def test_nobody_is_told_what_they_did_not_ask_for(
    server: HubServer, hub: Hub, watch: Any
) -> None:
    async with watch(server, "models://mine") as told:
        for topic in ("models://yours", "resources/list_changed", "tools/list_changed"):
            await hub.bus.publish(topic)
        await hub.bus.publish("models://mine")
        with anyio.fail_after(10):
            assert await told.receive() == "models://mine"
        with pytest.raises(anyio.WouldBlock):
            told.receive_nowait()


async def test_a_session_may_change_its_mind(server: HubServer, hub: Hub) -> None:
    heard: list[str] = []

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(str(message.params.uri))

    async with Client(server, mode="legacy", message_handler=hear) as client:
        for uri in ("models://a", "models://b"):
            with pytest.warns(match="removed"):
                await client.subscribe_resource(uri)
        with pytest.warns(match="removed"):
            await client.unsubscribe_resource("models://a")
        await hub.bus.publish("models://a")
        await hub.bus.publish("models://b")
        await eventually(lambda: bool(heard))
    assert heard == ["models://b"]


async def test_a_session_cannot_subscribe_to_what_is_no_resource(server: HubServer) -> None:
    async with Client(server, mode="legacy") as client:
        with pytest.raises(MCPError, match="no resource"), pytest.warns(match="removed"):
            await client.subscribe_resource("model://iris")


@watchers
async def test_a_client_that_leaves_leaves_nothing_behind(server: HubServer, watch: Any) -> None:
    async with watch(server, "models://a", "models://b", listed=True):
        assert server.notices.subscribers > 0
    assert server.notices.subscribers == 0


async def test_clients_of_one_server_are_all_told(server: HubServer, hub: Hub) -> None:
    async with (
        modern(server, "models://a") as first,
        legacy(server, "models://a") as second,
        modern(server, "models://a") as third,
    ):
        await hub.bus.publish("models://a")
        with anyio.fail_after(10):
            assert [await told.receive() for told in (first, second, third)] == ["models://a"] * 3


async def test_an_idle_server_does_not_open_the_hub(settings: Settings) -> None:
    async def no_hub() -> Hub:
        raise AssertionError

    for era in ("auto", "legacy"):
        async with Client(create_server(settings, no_hub), mode=era) as client:
            await client.list_tools()
            await client.list_prompts()
            await client.list_resource_templates()


async def test_a_subscription_that_cannot_be_kept_says_why(settings: Settings) -> None:
    async def no_hub() -> Hub:
        raise Unavailable("The database is away.", "Wait.")

    server = create_server(settings, no_hub)
    async with Client(server) as client:
        with pytest.raises(MCPError, match="The database is away"):
            async with client.listen(resource_subscriptions=["models://a"]):
                pass
    async with Client(server, mode="legacy") as client:
        with pytest.raises(MCPError, match="The database is away"), pytest.warns(match="removed"):
            await client.subscribe_resource("models://a")


async def test_it_is_the_bus_that_the_sdk_expects(provide: HubProvider) -> None:
    notices = Notices(provide)
    heard: list[Any] = []
    unsubscribe = notices.subscribe(heard.append)
    async with notices.relaying():
        await notices.watching()
        await notices.publish(ResourceUpdated(uri="models://a"))
        await notices.publish(ResourcesListChanged())
        await eventually(lambda: len(heard) == 2)
        unsubscribe()
        unsubscribe()
        await notices.publish(ResourcesListChanged())
    assert heard == [ResourceUpdated(uri="models://a"), ResourcesListChanged()]
