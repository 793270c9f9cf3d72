import anyio

from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.services.registry.service import RegistryService

from .conftest import promote


async def test_changes_are_announced(
    registry: RegistryService, bus: DatabaseBus, iris: None
) -> None:
    async with bus.subscribe() as topics:
        await promote(registry, "iris:3")
        await registry.promote(
            "iris:1", "champion", gates={"min_metric": {"accuracy": 1.0}}, decided_by="tester"
        )
        await registry.tag("iris", {"a": "1"})
        await registry.delete("iris@champion")
        await registry.delete("iris:1")
        await registry.delete("iris:1")
        with anyio.fail_after(10):
            told = [await topics.receive() for _ in range(5)]
    assert told == ["models://iris"] * 4 + ["resources/list_changed"]
