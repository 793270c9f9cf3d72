"""Health checks of real containers: before the first call, and while they run."""

import pytest

from mcp_hub.adapters.errors import Unavailable
from tests.services.containers.instances.hubs import Hub
from tests.waiting import eventually

QUICK = {"every_s": 1, "timeout_s": 0.5, "failures": 2}


async def test_a_tool_is_called_before_any_other_call(hub: Hub) -> None:
    await hub.deploy("checked", health={"tool": "count"})
    assert (await hub.call("checked"))["count"] == 2


async def test_one_that_fails_its_first_check_does_not_start(hub: Hub) -> None:
    await hub.deploy("unfit", health={"tool": "no-such-tool"})
    with pytest.raises(Unavailable, match="health check, the tool 'no-such-tool', failed") as told:
        await hub.call("unfit")
    assert "health={tool, arguments}" in (told.value.hint or "")


@pytest.mark.parametrize("health", [{}, {"tool": "remember", "arguments": {"text": "well"}}])
async def test_one_that_freezes_is_started_anew(hub: Hub, health: dict[str, object]) -> None:
    await hub.deploy("ill", strategy="always_on", health={**QUICK, **health})
    before = await hub.call("ill")
    await hub.call("ill", "freeze")

    async def is_another() -> bool:
        found = [one.container for one in await hub.instances.describe("ill")]
        return any(one and not one.id.startswith(before["host"]) for one in found)

    await eventually(is_another, within_s=30)
    assert (await hub.call("ill"))["count"] == 1
