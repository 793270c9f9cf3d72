from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_hub.adapters.bus.redis import RedisBus
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.ids import new_id
from tests import servers
from tests.adapters.bus.contract import BusContract, OpenBus
from tests.proxy import Proxy
from tests.servers import Server


@asynccontextmanager
async def open_on_redis(url: str, prefix: str) -> AsyncIterator[RedisBus]:
    bus = RedisBus(url, prefix)
    yield bus
    await bus.close()


class TestRedisBus(BusContract):
    @pytest.fixture
    def open_bus(self, redis_server: Server) -> OpenBus:
        return partial(open_on_redis, redis_server.url, new_id("test"))


async def test_a_subscriber_hears_again_after_redis_was_restarted(tmp_path: Path) -> None:
    server = servers.start_redis(tmp_path / "redis")
    try:
        async with (
            open_on_redis(server.url, "p") as bus,
            open_on_redis(server.url, "p") as other,
            bus.subscribe() as notices,
        ):
            await anyio.to_thread.run_sync(server.restart)
            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:

                    async def publish() -> None:
                        while True:
                            await other.publish("again")
                            await anyio.sleep(0.05)

                    tasks.start_soon(publish)
                    assert await notices.receive() == "again"
                    tasks.cancel_scope.cancel()
    finally:
        server.stop()


async def test_without_redis_publishing_goes_on_and_subscribing_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = f"redis://:secret@127.0.0.1:{servers.free_port()}/0"
    async with open_on_redis(url, "p") as bus:
        await bus.publish("models://iris")
        assert "models://iris" in caplog.text
        with pytest.raises(Unavailable, match="Redis at redis://"):
            async with bus.subscribe():
                pass
        with pytest.raises(Unavailable, match="Redis at redis://"):
            await bus.check()
    assert "secret" not in caplog.text


async def test_a_silent_redis_holds_a_notice_up_for_two_seconds(
    redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Proxy(redis_server.port).running() as proxy,
        open_on_redis(f"redis://127.0.0.1:{proxy.port}/0", "p") as bus,
    ):
        await bus.publish("models://iris")
        proxy.answers = False
        with anyio.fail_after(4):
            await bus.publish("models://wine")
        assert "models://wine changed" in caplog.text
        proxy.answers = True
        caplog.clear()
        await bus.publish("models://iris")
    assert not caplog.text
