"""What runs beside a context, and how both end."""

import anyio
import pytest

from mcp_hub.adapters.errors import Conflict
from mcp_hub.services.background import in_background


async def test_it_runs_while_the_context_lasts() -> None:
    started, ended = anyio.Event(), anyio.Event()

    async def work() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with in_background(work):
        await started.wait()
        assert not ended.is_set()
    assert ended.is_set()


async def test_what_the_body_raises_is_raised_as_it_is() -> None:
    with pytest.raises(Conflict, match="taken"):
        async with in_background(anyio.sleep_forever):
            raise Conflict("taken")


async def test_a_cancelled_context_ends() -> None:
    with anyio.move_on_after(0.05) as scope:
        async with in_background(anyio.sleep_forever):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
